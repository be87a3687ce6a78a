"""Which decisions are answered, and in what words; the outbox row commits with the decision."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.kit.ids import new_id
from app.posts.decisions import Decision
from app.replies import service as replies
from app.replies.queries import NewReply, priority_of
from app.replies.texts import Kind, compose, facts_of, kind_of, locale_for, reference


class _Answerable(NamedTuple):
    decision: Decision
    kind: Kind


async def queue_replies(
    session: AsyncSession, decisions: Sequence[Decision], *, settings: Settings, now: datetime
) -> None:
    answerable = _answerable(decisions, settings, now)
    if not answerable:
        return
    told = await _already_told(session, answerable, settings=settings, now=now)
    rows = []
    for decision, kind in answerable:
        key = _once(decision, kind)
        if key is not None and key in told:
            continue
        if key is not None:
            told.add(key)
        rows.append(_reply(decision, kind, settings=settings, now=now))
    await replies.queue(session, rows=rows)


def _answerable(
    decisions: Sequence[Decision], settings: Settings, now: datetime
) -> list[_Answerable]:
    """Posts that are recent enough, that the network lets us answer, and that ask for an answer."""
    found = []
    for decision in decisions:
        post, kind = decision.post, kind_of(decision.outcome)
        if kind is None or now - post.posted_at > settings.reply_age_max:
            continue
        if settings.x_reply_needs_mention and not post.mentions_programme:
            continue
        found.append(_Answerable(decision, kind))
    return found


def _once(decision: Decision, kind: Kind) -> tuple[str, object] | None:
    """What is told once only: an account is invited whatever the offer, a refusal is told for each
    offer. A confirmation is always told.
    """
    match kind:
        case "confirmation":
            return None
        case "invitation":
            return decision.post.author_id, None
        case "refusal":
            return decision.post.author_id, decision.terms.offer_id


async def _already_told(
    session: AsyncSession, answerable: Sequence[_Answerable], *, settings: Settings, now: datetime
) -> set[tuple[str, object]]:
    network = answerable[0].decision.post.network
    strangers = {d.post.author_id for d, kind in answerable if kind == "invitation"}
    refused = {(d.post.author_id, d.terms.offer_id) for d, kind in answerable if kind == "refusal"}
    told: set[tuple[str, object]] = set()
    if strangers:
        may = await replies.claim_invitations(
            session,
            network=network,
            account_ids=strangers,
            now=now,
            every_days=settings.invitation_days,
        )
        told |= {(account, None) for account in strangers - may}
    if refused:
        told |= refused - await replies.claim_refusals(
            session, network=network, pairs=refused, now=now
        )
    return told


def _reply(decision: Decision, kind: Kind, *, settings: Settings, now: datetime) -> NewReply:
    post, terms, outcome, author, coupon, _ = decision
    reply_id = new_id()
    locale = locale_for(
        None if author is None else author.locale, post.lang, default=settings.default_locale
    )
    facts = facts_of(terms, valid_until=None if coupon is None else coupon.valid_until)
    return NewReply(
        id=reply_id,
        network=post.network,
        root_id=post.root_id,
        post_id=post.id,
        posted_at=post.posted_at,
        offer_id=terms.offer_id,
        recipient_id=post.author_id,
        kind=kind,
        priority=priority_of(kind),
        locale=locale,
        text=compose(outcome, facts=facts, locale=locale, reference=reference(reply_id)),
        state="queued",
        not_before=now,
        created_at=now,
        updated_at=now,
        is_summoned=post.mentions_programme,
    )
