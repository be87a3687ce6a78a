"""All SQL on the outbox. Locks are taken in one order: a network's send windows, by channel, then
replies.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Integer, bindparam, func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.arrays import as_arrays
from app.kit.db import copy_rows
from app.replies.budget import Channel
from app.replies.domain import Change, Claimed
from app.replies.models import UNDER_WAY, Pause, Reply

CHANNEL = "tagback_replies"
ALL = "all"
# After all others, so that they can be left where they are while there is no money for them.
INVITATION = 2
# Replies of a paused offer are set behind all others when they are met: however many there are,
# nobody else's reply waits until they have been looked at again and again.
PARKED = 10

SAID_STOP = "the author has said stop"
# Not EXISTS: for a long queue all stopped accounts would be read at once.
_HAS_SAID_STOP = """(SELECT true FROM stopped_accounts s
                     WHERE s.network = r.network AND s.account_id = r.recipient_id)"""
# Each in the order of an index that holds little else.
Of = Literal["lapsed", "unsure", "fresh"]
_OF: dict[Of, str] = {
    "lapsed": "r.state = 'sending' AND r.leased_until <= :now",
    "unsure": "r.state = 'queued' AND r.outcome_unknown AND r.cost_microusd IS NULL",
    "fresh": "r.state = 'queued' AND NOT r.outcome_unknown",
}
# The number is in the statement's text: a plan for any LIMIT would read the whole table.
MOST = bindparam("most", type_=Integer(), literal_execute=True)


def _decided(of: Of) -> str:
    return f"""
        WITH paused AS MATERIALIZED (SELECT scope FROM reply_pauses), due AS (
            SELECT r.id, r.outcome_unknown OR r.state = 'sending' AS unknown,
                   CASE WHEN r.posted_at < :oldest OR r.post_id LIKE 'removed:%' THEN 'expired'
                        WHEN r.kind <> 'farewell' AND {_HAS_SAID_STOP} THEN 'stopped'
                        WHEN r.offer_id::text IN (SELECT scope FROM paused) THEN 'parked'
                        ELSE 'claimed' END AS fate
            FROM replies r
            WHERE r.state IN ('queued', 'sending') AND {_OF[of]}
                  AND r.network = :network AND r.channel = :channel AND r.priority < :below
                  AND r.not_before <= :now
                  AND NOT EXISTS (SELECT FROM paused WHERE scope = '{ALL}')
            ORDER BY r.priority, r.created_at
            LIMIT :most
            FOR UPDATE OF r SKIP LOCKED
        )
        UPDATE replies r
        SET state = CASE due.fate WHEN 'claimed' THEN 'sending' WHEN 'parked' THEN 'queued'
                    ELSE 'expired' END,
            leased_until = CASE due.fate WHEN 'claimed' THEN CAST(:leased_until AS timestamptz) END,
            attempts = r.attempts + CASE due.fate WHEN 'claimed' THEN 1 ELSE 0 END,
            priority = r.priority + CASE due.fate WHEN 'parked' THEN {PARKED} ELSE 0 END,
            outcome_unknown = due.unknown,
            problem = CASE due.fate WHEN 'stopped' THEN '{SAID_STOP}' ELSE r.problem END,
            updated_at = :now
        FROM due WHERE r.id = due.id
    """  # noqa: S608 - constants


_COLUMNS = """
    RETURNING due.fate, r.id, r.network, r.channel, r.kind, r.is_summoned, r.post_id,
              r.recipient_id, r.text, r.created_at, r.attempts, r.outcome_unknown, r.leased_until
"""
TAKE = {of: text(_decided(of) + _COLUMNS).bindparams(MOST) for of in _OF}
_SWEEP = {of: text(_decided(of) + "AND due.fate <> 'claimed'").bindparams(MOST) for of in _OF}
WITHDRAW = text(
    f"""
    UPDATE replies SET state = 'expired', problem = '{SAID_STOP}', leased_until = NULL,
        outcome_unknown = outcome_unknown OR state = 'sending', updated_at = :now
    WHERE id IN (
        SELECT id FROM replies
        WHERE state IN ('queued', 'sending') AND network = :network
            AND channel = 'post' AND kind IN ('confirmation', 'invitation', 'refusal')
            AND recipient_id = ANY(CAST(:account_ids AS text[]))
            AND (state = 'queued' OR leased_until <= :now)
        FOR UPDATE SKIP LOCKED
    )
    """  # noqa: S608 - constants
)


class NewReply(NamedTuple):
    """In the order of the columns that COPY writes. `priority`: see `priority_of`."""

    id: UUID
    network: str
    root_id: str
    post_id: str | None
    posted_at: datetime
    offer_id: UUID | None
    recipient_id: str
    kind: str
    priority: int
    locale: str
    text: str
    state: str
    not_before: datetime
    created_at: datetime
    updated_at: datetime
    channel: Channel = "post"
    is_summoned: bool = True


def priority_of(kind: str) -> int:
    match kind:
        case "confirmation":
            return 0
        case "invitation":
            return INVITATION
        case _:
            return 1


class Taken(NamedTuple):
    claimed: list[Claimed]
    others: int  # met on the way, and expired or parked


async def insert_replies(session: AsyncSession, rows: Sequence[NewReply]) -> None:
    await copy_rows(session, "replies", NewReply._fields, rows)


async def insert_once(session: AsyncSession, row: NewReply) -> bool:
    """False when there is one of its kind about the same."""
    inserted = await session.scalar(
        postgresql.insert(Reply)
        .values(**row._asdict())
        .on_conflict_do_nothing()
        .returning(Reply.id)
    )
    return inserted is not None


async def announcements_of(
    session: AsyncSession, offer_id: UUID, *, network: str
) -> Sequence[Reply]:
    """The newest first."""
    query = (
        select(Reply)
        .where(
            Reply.network == network,
            Reply.offer_id == offer_id,
            Reply.kind == "announcement",
            Reply.root_id.startswith(f"offer:{offer_id}:"),
        )
        .order_by(Reply.created_at.desc(), Reply.id.desc())
    )
    return (await session.scalars(query)).all()


async def last_announcements(session: AsyncSession, *, most: int) -> Sequence[Reply]:
    query = (
        select(Reply)
        .where(Reply.kind == "announcement")
        .order_by(Reply.created_at.desc(), Reply.id.desc())
        .limit(most)
    )
    return (await session.scalars(query)).all()


async def notify(session: AsyncSession) -> None:
    await session.execute(text(f"NOTIFY {CHANNEL}"))


async def claim_invitations(
    session: AsyncSession,
    *,
    network: str,
    account_ids: Collection[str],
    now: datetime,
    last_before: datetime,
) -> set[str]:
    """Marks as invited, and returns, those not invited since `last_before`. Of two transactions
    with the same account one waits for the other: rows are taken in the order of their ids.
    """
    invited = await session.scalars(
        text(
            """
            INSERT INTO invitations (network, account_id, invited_at)
            SELECT DISTINCT CAST(:network AS text), account_id, CAST(:now AS timestamptz)
            FROM unnest(CAST(:account_ids AS text[])) AS wanted(account_id)
            ORDER BY account_id
            ON CONFLICT (network, account_id) DO UPDATE SET invited_at = EXCLUDED.invited_at
            WHERE invitations.invited_at <= :last_before
            RETURNING account_id
            """
        ),
        {
            "network": network,
            "account_ids": list(account_ids),
            "now": now,
            "last_before": last_before,
        },
    )
    return set(invited)


async def claim_refusals(
    session: AsyncSession, *, network: str, pairs: Collection[tuple[str, UUID]], now: datetime
) -> set[tuple[str, UUID]]:
    """Marks as told, and returns, those of the pairs of account and offer that were never told."""
    told = await session.execute(
        text(
            """
            INSERT INTO refusals (network, account_id, offer_id, told_at)
            SELECT CAST(:network AS text), wanted.*, CAST(:now AS timestamptz)
            FROM unnest(CAST(:account_ids AS text[]), CAST(:offer_ids AS uuid[])) AS wanted
            ON CONFLICT DO NOTHING
            RETURNING account_id, offer_id
            """
        ),
        {
            "network": network,
            "now": now,
            **as_arrays(("account_ids", "offer_ids"), sorted(set(pairs))),
        },
    )
    return {(row.account_id, row.offer_id) for row in told}


async def withdraw_invitations(
    session: AsyncSession, *, network: str, root_ids: Collection[str], now: datetime
) -> None:
    """Those that wait to be sent. One that is being claimed is sent: nobody waits for anybody."""
    await session.execute(
        text(
            """
            UPDATE replies SET state = 'expired', problem = 'the author has linked',
                updated_at = :now
            WHERE id IN (
                SELECT id FROM replies
                WHERE network = :network AND root_id = ANY(CAST(:root_ids AS text[]))
                    AND kind = 'invitation' AND state = 'queued'
                FOR UPDATE SKIP LOCKED
            )
            """
        ),
        {"network": network, "root_ids": list(root_ids), "now": now},
    )


async def withdraw_for(
    session: AsyncSession, *, network: str, account_ids: Collection[str], now: datetime
) -> None:
    """What waits to be sent, or to be sent again by nobody in particular. As with invitations, one
    that is being claimed is sent.
    """
    await session.execute(
        WITHDRAW, {"network": network, "account_ids": list(account_ids), "now": now}
    )


class UnderWay(NamedTuple):
    """How many of a kind were claimed and not recorded; how many of these have outlived their lease
    (what became of them is not known, and they are claimed again), and how many are being looked
    up; how many wait and may have been sent already; and how many have ended without its being
    known.
    """

    channel: Channel
    kind: str
    is_summoned: bool
    sending: int
    lapsed: int
    looking_up: int
    unsure: int
    ended: int


COUNT_UNDER_WAY = text(
    f"""
    SELECT channel, kind, is_summoned,
           count(*) FILTER (WHERE state = 'sending'),
           count(*) FILTER (WHERE state = 'sending' AND leased_until <= :now),
           count(*) FILTER (WHERE state = 'sending' AND leased_until > :now AND outcome_unknown),
           count(*) FILTER (WHERE state = 'queued'),
           count(*) FILTER (WHERE state NOT IN ('sending', 'queued'))
    FROM replies WHERE network = :network AND ({UNDER_WAY})
    GROUP BY channel, kind, is_summoned
    """  # noqa: S608 - constants
)


async def under_way(session: AsyncSession, *, network: str, now: datetime) -> list[UnderWay]:
    rows = await session.execute(COUNT_UNDER_WAY, {"network": network, "now": now})
    return [UnderWay(*row) for row in rows]


async def charge_ended(
    session: AsyncSession,
    *,
    network: str,
    kind: str,
    is_summoned: bool,
    cost_microusd: int,
    now: datetime,
) -> int:
    """Those that have ended without its being known whether they were sent; answers how many."""
    charged = await session.scalars(
        text(
            f"""
            UPDATE replies SET cost_microusd = :cost_microusd, updated_at = :now
            WHERE network = :network AND ({UNDER_WAY}) AND state NOT IN ('sending', 'queued')
                AND kind = :kind AND is_summoned = :is_summoned
            RETURNING 1
            """  # noqa: S608 - constants
        ),
        {
            "network": network,
            "kind": kind,
            "is_summoned": is_summoned,
            "cost_microusd": cost_microusd,
            "now": now,
        },
    )
    return len(charged.all())


async def read_in_order(session: AsyncSession) -> None:
    """For this transaction: the queue is read in its index's order, whatever old statistics say of
    its length. After a burst they say that it is short, and all of it would be sorted each time.
    """
    await session.execute(text("SET LOCAL enable_sort = off"))


class Due(NamedTuple):
    """Which replies are looked at. `oldest`: those to older posts expire. `below`: of these
    priorities alone.
    """

    network: str
    channel: Channel
    now: datetime
    oldest: datetime
    below: int = PARKED


async def take(
    session: AsyncSession, of: Of, due: Due, *, leased_until: datetime, most: int
) -> Taken:
    """Confirmations first, then the oldest. What has waited too long expires, and what answers
    somebody who has said stop since, or a post that is forgotten.
    """
    values = {**due._asdict(), "leased_until": leased_until, "most": most}
    rows = (await session.execute(TAKE[of], values)).all()
    claimed = [Claimed(*row[1:]) for row in rows if row.fate == "claimed"]
    return Taken(claimed, len(rows) - len(claimed))


async def sweep(session: AsyncSession, of: Of, due: Due, *, most: int) -> None:
    """Expires and parks at the head of the queue, claiming nothing."""
    values = {**due._asdict(), "leased_until": due.now, "most": most}
    await session.execute(_SWEEP[of], values)


async def write_changes(
    session: AsyncSession, changes: Sequence[Change], *, now: datetime
) -> set[UUID]:
    """A claim that is over changes nothing any more, but that a reply was sent is a fact. What was
    forgotten meanwhile stays so. Answers which of them cost something now and did not before.
    """
    written = await session.execute(
        text(
            """
            UPDATE replies r
            SET state = c.state, leased_until = NULL, not_before = c.not_before,
                attempts = c.attempts, outcome_unknown = c.outcome_unknown,
                sent_post_id = CASE WHEN r.post_id LIKE 'removed:%' THEN NULL
                    ELSE c.sent_post_id END,
                cost_microusd = c.cost_microusd, problem = c.problem, updated_at = :now
            FROM unnest(
                CAST(:id AS uuid[]), CAST(:leased_until AS timestamptz[]),
                CAST(:state AS text[]), CAST(:not_before AS timestamptz[]),
                CAST(:attempts AS int[]), CAST(:outcome_unknown AS boolean[]),
                CAST(:sent_post_id AS text[]), CAST(:cost_microusd AS bigint[]),
                CAST(:problem AS text[])
            ) AS c(id, leased_until, state, not_before, attempts, outcome_unknown, sent_post_id,
                   cost_microusd, problem)
            WHERE r.id = c.id
                  AND (r.state = 'sending' AND r.leased_until = c.leased_until
                       OR c.state = 'sent' AND r.state <> 'sent')
            RETURNING r.id, old.cost_microusd IS NULL AND new.cost_microusd IS NOT NULL AS is_cost
            """
        ),
        {**as_arrays(Change._fields, changes), "now": now},
    )
    return {row.id for row in written if row.is_cost}


async def insert_pause(session: AsyncSession, *, scope: str, actor: str, now: datetime) -> bool:
    """False when it is paused already."""
    inserted = await session.scalar(
        text(
            "INSERT INTO reply_pauses (scope, actor, at) VALUES (:scope, :actor, :now) "
            "ON CONFLICT DO NOTHING RETURNING 1"
        ),
        {"scope": scope, "actor": actor, "now": now},
    )
    return inserted is not None


async def delete_pause(session: AsyncSession, *, scope: str) -> bool:
    """False when it was not paused."""
    deleted = await session.scalar(
        text("DELETE FROM reply_pauses WHERE scope = :scope RETURNING 1"), {"scope": scope}
    )
    return deleted is not None


async def unpark(session: AsyncSession, *, offer_id: UUID, now: datetime) -> None:
    await session.execute(
        text(
            "UPDATE replies SET priority = priority - :parked, updated_at = :now "
            "WHERE state IN ('queued', 'sending') AND priority >= :parked AND offer_id = :offer_id"
        ),
        {"parked": PARKED, "offer_id": offer_id, "now": now},
    )


async def count_waiting(session: AsyncSession) -> int:
    waiting: int = (
        await session.execute(
            text("SELECT count(*) FROM replies WHERE state IN ('queued', 'sending')")
        )
    ).scalar_one()
    return waiting


async def count_by_kind_and_state(session: AsyncSession) -> list[tuple[str, str, int]]:
    rows = await session.execute(
        select(Reply.kind, Reply.state, func.count())
        .group_by(Reply.kind, Reply.state)
        .order_by(Reply.kind, Reply.state)
    )
    return [(kind, state, count) for kind, state, count in rows]


async def read_pauses(session: AsyncSession) -> Sequence[Pause]:
    return (await session.scalars(select(Pause).order_by(Pause.scope))).all()


async def page(
    session: AsyncSession, *, after: UUID | None, limit: int, state: str | None
) -> Sequence[Reply]:
    wanted: Any = select(Reply).order_by(Reply.id).limit(limit)
    if after is not None:
        wanted = wanted.where(Reply.id > after)
    if state is not None:
        wanted = wanted.where(Reply.state == state)
    return (await session.scalars(wanted)).all()
