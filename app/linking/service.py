"""A browser on its way: signing in with the network, the issuer's link, consent, in whatever order
the first two come. Only the consent changes what is anybody's.

The cookie's token is known to the browser alone: here is its hash, and the verifier of a sign-in is
sealed with a key that is made of the token.
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Invalid, Unavailable
from app.kit.sealing import Sealer
from app.linking import queries
from app.linking.handoff import KEPT, Handoff
from app.linking.models import LinkSession
from app.members import cards, linking
from app.members import service as members
from app.members.models import Member
from app.members.schemas import AccountIn
from app.networks import X
from app.replies import service as replies

UNFINISHED = KEPT
LINKED = timedelta(minutes=30)  # as long as a sign-in counts
SIGN_INS_MAX = 20  # begun by one browser
UNPROVED_MAX = 1_000  # sessions that are made in a minute, near enough, and have not signed in


class Card(NamedTuple):
    """As its holder knows it, as far as the issuer has said it."""

    network: str | None
    last4: str | None


class Linked(NamedTuple):
    member_id: UUID
    cards: Sequence[Card]
    has_stopped: bool


class Standing(NamedTuple):
    """How far a browser has come. `about` is there when there is something to consent to, and
    names all of it, the words included: nobody consents to anything else than he was shown.
    """

    handle: str | None = None
    handoff: Handoff | None = None
    linked: Linked | None = None
    about: str | None = None
    problem: str | None = None
    handoff_changed: bool = False

    @property
    def last_done(self) -> str | None:
        """What can have been done by whoever stands here, whatever an address says."""
        if self.linked is None:
            return None if self.handle is None else "unlinked"
        return "stopped" if self.linked.has_stopped else "agreed"

    @property
    def card(self) -> Card | None:
        return None if self.handoff is None else Card(self.handoff.card_network, self.handoff.last4)


def new_token() -> str:
    """What a cookie holds, of 256 random bits."""
    return secrets.token_urlsafe(32)


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _sealer(token: str) -> Sealer:
    return Sealer([urlsafe_b64encode(sha256(b"verifier " + token.encode()).digest()).decode()])


async def _find(session: AsyncSession, token: str | None, now: datetime) -> LinkSession | None:
    """Locked: two tabs of one browser go one after the other."""
    if token is None:
        return None
    return await queries.find_session(session, _hash(token), now=now, lock=True)


async def _get(session: AsyncSession, token: str | None, now: datetime) -> tuple[LinkSession, str]:
    row = await _find(session, token, now)
    if row is None or token is None:
        raise Conflict("there is no such session, or no more", code="session_over")
    return row, token


async def _find_or_make(
    session: AsyncSession, token: str | None, now: datetime
) -> tuple[LinkSession, str]:
    """With its token: never one that a browser brought and that is not known here. Raises
    Unavailable when very many are made, whoever makes them.
    """
    row = await _find(session, token, now)
    if row is not None and token is not None:
        return row, token
    since = now - timedelta(minutes=1)
    if await queries.count_unproved(session, since=since, most=UNPROVED_MAX) >= UNPROVED_MAX:
        raise Unavailable("too many browsers at once want to link", code="x_unavailable")
    made = new_token()
    row = LinkSession(id_hash=_hash(made), sign_ins=0, created_at=now, expires_at=now + UNFINISHED)
    queries.add_session(session, row)
    return row, made


def _rename(row: LinkSession, token: str, made: str) -> str:
    """`made`: a new token for who has just shown something: whoever had planted the old one, and
    waits to use what is shown to it, holds nothing.
    """
    row.id_hash = _hash(made)
    if row.code_verifier is not None:
        row.code_verifier = _sealer(made).seal(_sealer(token).open(row.code_verifier))
    return made


def _after(token: str, link: str) -> str:
    """The token after `token` once it was shown `link`: the same for each tap on that link, and
    known to nobody who has but one of the two.
    """
    made = hmac.digest(token.encode(), link.encode(), "sha256")
    return urlsafe_b64encode(made).rstrip(b"=").decode()


def _proved_account(row: LinkSession, now: datetime) -> str | None:
    """Whose the browser's person is, if he has shown it lately."""
    is_fresh = row.proved_at is not None and now - row.proved_at < LINKED
    return row.account_id if is_fresh else None


async def _change_holder(session: AsyncSession, row: LinkSession) -> None:
    """The link is for another member than the one before: perhaps of somebody else at the same
    screen, perhaps swapped in by a stranger. Who is not linked must show again who he is.
    """
    row.handoff_changed = True
    if row.account_id is None:
        return
    if await members.find_holder(session, network=X, account_id=row.account_id) is None:
        row.network = row.account_id = row.handle = row.proved_at = None


async def keep_handoff(
    session: AsyncSession, *, token: str | None, link: str, handoff: Handoff, now: datetime
) -> str:
    """For the rest of the way; the newest counts. `link` is the issuer's, as it has come, `handoff`
    what it says. Answers the session's new token. Raises Conflict when the link was used.
    """
    if await queries.is_used(session, handoff.jti):
        raise Conflict("the link has been used", code="handoff_used")
    if token is not None and await _find(session, token, now) is None:
        # a further tap on the link comes with the cookie from before
        after = _after(token, link)
        if await _find(session, after, now) is not None:
            return after
    row, token = await _find_or_make(session, token, now)
    if row.handoff is not None and row.handoff["sub"] != handoff.sub:
        await _change_holder(session, row)
    row.handoff = handoff.model_dump(mode="json")
    row.expires_at = max(row.expires_at, now + UNFINISHED)
    return _rename(row, token, _after(token, link))


# signing in


async def keep_begun(
    session: AsyncSession, *, token: str | None, state: str, verifier: str, now: datetime
) -> str:
    """One sign-in at a time: an earlier one can no longer return. Answers the session's token.
    Raises Conflict after too many.
    """
    row, token = await _find_or_make(session, token, now)
    if row.sign_ins >= SIGN_INS_MAX:
        raise Conflict("too many sign-ins were begun", code="too_many_sign_ins")
    row.sign_ins += 1
    row.state_hash = _hash(state)
    row.code_verifier = _sealer(token).seal(verifier)
    row.expires_at = max(row.expires_at, now + UNFINISHED)
    return token


async def take_verifier(
    session: AsyncSession, *, token: str | None, state: str, now: datetime
) -> str:
    """Once: a state is good for one return to the browser that began. Raises Invalid."""
    row = await _find(session, token, now)
    if (
        row is None
        or token is None
        or row.state_hash is None
        or row.code_verifier is None
        or not hmac.compare_digest(row.state_hash, _hash(state))
    ):
        raise Invalid("this browser has not begun this sign-in", code="state")
    verifier = _sealer(token).open(row.code_verifier)
    row.state_hash = row.code_verifier = None
    return verifier


async def keep_proof(
    session: AsyncSession, *, token: str | None, account_id: str, handle: str, now: datetime
) -> str:
    """Whose account the browser's person has. Answers the session's new token. Raises Conflict when
    the session is over.
    """
    row, token = await _get(session, token, now)
    row.network, row.account_id, row.handle, row.proved_at = X, account_id, handle, now
    member = await members.find_holder(session, network=X, account_id=account_id)
    row.member_id = None if member is None else member.id
    row.expires_at = now + (UNFINISHED if member is None else LINKED)
    return _rename(row, token, new_token())


# where he stands, and what he does about it


async def get_standing(
    session: AsyncSession, *, token: str | None, text_version: str, now: datetime
) -> Standing:
    if token is None:
        return Standing()
    row = await queries.find_session(session, _hash(token), now=now)
    return Standing() if row is None else await _standing(session, row, text_version, now)


async def _standing(
    session: AsyncSession, row: LinkSession, text_version: str, now: datetime
) -> Standing:
    handoff, problem = await _useful_handoff(session, row, now)
    has_changed = handoff is not None and row.handoff_changed
    standing = Standing(None, handoff, problem=problem, handoff_changed=has_changed)
    account_id = _proved_account(row, now)
    if account_id is None:
        return standing
    standing = standing._replace(handle=row.handle)
    # asked each time: it may have been unlinked elsewhere meanwhile
    member = await members.find_holder(session, network=X, account_id=account_id)
    is_left = handoff is not None
    if member is not None:
        active = await cards.list_active(session, member_id=member.id)
        linked = Linked(
            member.id,
            [Card(card.network, card.last4) for card in active],
            has_stopped=await _has_stopped(session, member, account_id),
        )
        standing = standing._replace(linked=linked)
        is_known = handoff is not None and handoff.card_ref in {card.ref for card in active}
        if handoff is not None and handoff.sub != member.ref:
            return standing._replace(problem="account_taken")
        if is_known and not linked.has_stopped:
            return standing._replace(problem="already_linked")
        is_left = is_left or linked.has_stopped
    about = _about(account_id, handoff, text_version) if is_left else None
    return standing._replace(about=about)


async def _useful_handoff(
    session: AsyncSession, row: LinkSession, now: datetime
) -> tuple[Handoff | None, str | None]:
    """Or why it is of no use any more."""
    if row.handoff is None:
        return None, None
    handoff = Handoff.model_validate(row.handoff)
    if now >= handoff.useful_until:
        return None, "handoff_expired"
    if await queries.is_used(session, handoff.jti):
        return None, "handoff_used"
    return handoff, None


async def _has_stopped(session: AsyncSession, member: Member, account_id: str) -> bool:
    if member.opted_out_at is not None:
        return True
    return bool(await members.find_stopped(session, network=X, account_ids=[account_id]))


def _about(account_id: str, handoff: Handoff | None, text_version: str) -> str:
    which = ("", "") if handoff is None else (handoff.jti, handoff.card_ref)
    return sha256("\n".join((X, account_id, *which, text_version)).encode()).hexdigest()


async def consent(
    session: AsyncSession, *, token: str | None, about: str, text_version: str, now: datetime
) -> None:
    """The act that links: member, account, card and consent are written, the issuer's link is used,
    an earlier "stop" is taken back. `about` is what the person was shown. A second time changes
    nothing. Raises Conflict.
    """
    row, _ = await _get(session, token, now)
    found = await _standing(session, row, text_version, now)
    if found.about is None:
        if found.linked is not None and found.problem is None:
            return
        raise Conflict("there is nothing to consent to", code=found.problem or "session_over")
    if not hmac.compare_digest(about.encode(), found.about.encode()):
        raise Conflict("something else was shown", code="changed")
    if found.handoff is not None:
        row.member_id = await _link(session, row, found.handoff, text_version, now)
        row.handoff, row.handoff_changed = None, False
    elif found.linked is not None:
        await linking.consent_again(
            session, member_id=found.linked.member_id, text_version=text_version, now=now
        )
    row.expires_at = now + LINKED


async def _link(
    session: AsyncSession, row: LinkSession, handoff: Handoff, text_version: str, now: datetime
) -> UUID:
    if not await queries.use_handoff(session, handoff.jti, until=handoff.useful_until):
        raise Conflict("the link has been used", code="handoff_used")
    member = await linking.link_by_network(
        session,
        holder=handoff.holder,
        account=AccountIn.model_validate(
            {"network": row.network, "id": row.account_id, "handle": row.handle}
        ),
        card=handoff.card,
        vouched_at=handoff.made_at,
        text_version=text_version,
        now=now,
    )
    return member.id


async def unlink(session: AsyncSession, *, token: str | None, now: datetime) -> None:
    """The account that the browser's person has signed in with, and no other. Raises Conflict."""
    row, _ = await _get(session, token, now)
    account_id = _proved_account(row, now)
    if account_id is None:
        raise Conflict("nobody has signed in", code="session_over")
    await members.unlink_account(session, network=X, account_id=account_id, now=now)
    row.member_id = None


async def stop(session: AsyncSession, *, token: str | None, now: datetime) -> None:
    """Ends replies and loading for the member, whatever account he posts with. Raises Conflict."""
    row, _ = await _get(session, token, now)
    account_id, member = _proved_account(row, now), None
    if account_id is not None:
        member = await members.find_holder(session, network=X, account_id=account_id)
    if member is None:
        raise Conflict("nobody who is linked has signed in", code="session_over")
    await members.opt_out(session, member_id=member.id, now=now)
    accounts = await members.list_accounts(session, member_id=member.id)
    await replies.withdraw_for(
        session,
        network=X,
        account_ids=[one.account_id for one in accounts if one.network == X],
        now=now,
    )


async def forget_old(session: AsyncSession, *, now: datetime, most: int) -> int:
    """Browsers whose time is over, and used links that nobody could use again."""
    return await queries.forget_old(session, now=now, most=most)
