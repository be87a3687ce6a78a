"""What the service would be without its locks and constraints: the way many promotion engines are
written. The same tables and the same rules of what is owed; but each operation reads, decides and
writes back what it has computed, in one READ COMMITTED transaction that locks nothing first.

Asked by one caller at a time it is right (a test says so). What is wrong with it takes two.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.config import Settings
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.members import service as members
from app.networks.post import Post
from app.offers.service import Actor
from app.partners import service as partners
from tests.programme import NOW
from tests.races.race import Lane
from tests.races.twin_money import TwinMoney, rows, run

# No race is about these, and the world is made of them by ON CONFLICT.
KEPT = ("partners", "acceptors")
VALID_DAYS = 30
RUNNING = {"scheduled", "live", "paused"}

OFFER = """
    SELECT o.id, o.state, o.starts_at, o.ends_at, o.version, v.redemptions_per_coupon,
           coalesce(v.coupon_valid_days, :valid_days) AS valid_days,
           coalesce(v.fixed_minor, v.max_minor) * v.redemptions_per_coupon AS reserve_minor,
           c.coupons_max, c.coupons_loaded, c.budget_minor, c.reserved_minor
    FROM offers o JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.version
    JOIN offer_counters c ON c.offer_id = o.id
"""


async def take_constraints_away(connection: AsyncConnection) -> None:
    """Every CHECK, UNIQUE, EXCLUDE, foreign and primary key; an index stays where a key had one, so
    that what is missing is the promise alone. And the policies, which the twin does not need.
    """
    constraints = await connection.execute(
        text(
            """
            SELECT c.conrelid::regclass::text AS table_name, c.conname AS name, c.contype AS kind,
                   (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.place)
                    FROM unnest(c.conkey) WITH ORDINALITY k (number, place)
                    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number)
                       AS columns
            FROM pg_constraint c
            WHERE c.connamespace = 'public'::regnamespace AND c.contype IN ('c', 'u', 'x', 'f', 'p')
                AND c.conrelid::regclass::text <> ALL(:kept)
            ORDER BY c.contype = 'f' DESC
            """
        ),
        {"kept": list(KEPT)},
    )
    for table, name, kind, columns in constraints.all():
        await connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
        if kind in (b"p", b"u"):
            await connection.execute(text(f"CREATE INDEX ON {table} ({columns})"))
    indexes = await connection.scalars(
        text(
            "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indrelid "
            "WHERE indisunique AND c.relnamespace = 'public'::regnamespace "
            "AND c.relname <> ALL(:kept)"
        ),
        {"kept": list(KEPT)},
    )
    for index in indexes.all():
        await connection.execute(text(f"DROP INDEX {index}"))


class Twin(TwinMoney):
    name = "the twin"

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self.sessions = sessions
        self._settings = settings

    # posts

    def lane(self) -> Lane:
        return self._enrol

    async def _enrol(self, post: Post) -> tuple[str, ...]:
        async with self.sessions.begin() as session:
            if await rows(session, "SELECT 1 FROM posts WHERE post_id = :id", id=post.id):
                return ("duplicate",)
            outcomes = [await self._decide(session, post, tag) for tag in post.tags]
            await run(
                session,
                "INSERT INTO posts (network, post_id, root_id, author_id, posted_at, received_at, "
                "tags, mentions_programme, source) VALUES ('x', :id, :root_id, :author_id, :at, "
                ":at, :tags, false, 'race')",
                id=post.id,
                root_id=post.root_id,
                author_id=post.author_id,
                at=post.posted_at,
                tags=list(post.tags),
            )
        return tuple(outcome for outcome in outcomes if outcome) or ("duplicate",)

    async def _decide(self, session: AsyncSession, post: Post, tag: str) -> str | None:
        (offer,) = await rows(
            session,
            f"{OFFER} WHERE o.tag_key = :tag_key AND o.published_at IS NOT NULL",
            tag_key=tag.lower(),
            valid_days=VALID_DAYS,
        )
        authors = await members.find_authors(session, network="x", account_ids=[post.author_id])
        member_id = authors[post.author_id].member_id
        decided = await rows(
            session, "SELECT offer_id FROM decisions WHERE root_id = :root", root=post.root_id
        )
        coupons = await rows(
            session,
            "SELECT offer_id, loaded_at FROM coupons WHERE member_id = :id",
            id=member_id,
        )
        if offer.id in {row.offer_id for row in decided}:
            return None
        outcome = self._outcome(offer, post, rank=len(decided), coupons=coupons)
        coupon_id = None
        if outcome == "loaded":
            coupon_id = await self._load(session, offer, post, member_id)
        await self._note(session, offer, post, member_id, coupon_id, outcome)
        return outcome

    def _outcome(
        self, offer: Row[Any], post: Post, *, rank: int, coupons: Sequence[Row[Any]]
    ) -> str:
        since = _now(post) - self._settings.coupons_per_member_window
        recent = sum(coupon.loaded_at > since for coupon in coupons)
        most = self._settings.coupons_per_member_max
        loaded, reserved = offer.coupons_loaded + 1, offer.reserved_minor + offer.reserve_minor
        rules = {
            "too_many_offers": rank >= self._settings.offers_per_post_max,
            "not_started": post.posted_at < offer.starts_at,
            "ended": post.posted_at >= offer.ends_at,
            "paused": offer.state == "paused",
            "already_loaded": offer.id in {coupon.offer_id for coupon in coupons},
            "too_frequent": most is not None and recent >= most,
            "sold_out": offer.coupons_max is not None and loaded > offer.coupons_max,
            "budget_spent": offer.budget_minor is not None and reserved > offer.budget_minor,
        }
        return next((outcome for outcome, applies in rules.items() if applies), "loaded")

    async def _load(
        self, session: AsyncSession, offer: Row[Any], post: Post, member_id: UUID
    ) -> UUID:
        coupon_id = new_id()
        await run(
            session,
            "INSERT INTO coupons (id, offer_id, offer_version, member_id, network, post_id, "
            "posted_at, loaded_at, valid_until, reserved_minor, uses_max) VALUES (:id, :offer_id, "
            ":version, :member_id, 'x', :post_id, :at, :now, :valid_until, :reserve, :uses)",
            id=coupon_id,
            offer_id=offer.id,
            version=offer.version,
            member_id=member_id,
            post_id=post.id,
            at=post.posted_at,
            now=_now(post),
            valid_until=post.posted_at + timedelta(days=offer.valid_days),
            reserve=offer.reserve_minor,
            uses=offer.redemptions_per_coupon,
        )
        await run(
            session,
            "UPDATE offer_counters SET coupons_loaded = :loaded, reserved_minor = :reserved "
            "WHERE offer_id = :offer_id",
            offer_id=offer.id,
            loaded=offer.coupons_loaded + 1,
            reserved=offer.reserved_minor + offer.reserve_minor,
        )
        return coupon_id

    async def _note(
        self,
        session: AsyncSession,
        offer: Row[Any],
        post: Post,
        member_id: UUID,
        coupon_id: UUID | None,
        outcome: str,
    ) -> None:
        await run(
            session,
            "INSERT INTO decisions (network, root_id, offer_id, offer_version, post_id, author_id, "
            "member_id, coupon_id, outcome, decided_at, seen) VALUES ('x', :root, :offer_id, "
            ":version, :post_id, :author, :member_id, :coupon_id, :outcome, :now, "
            "CAST(:seen AS jsonb))",
            root=post.root_id,
            offer_id=offer.id,
            version=offer.version,
            post_id=post.id,
            author=post.author_id,
            member_id=member_id,
            coupon_id=coupon_id,
            outcome=outcome,
            now=_now(post),
            seen=json.dumps({"ends_at": offer.ends_at.isoformat()}),
        )
        day = {"offer_id": offer.id, "day": post.posted_at.date(), "outcome": outcome}
        of_day = "WHERE offer_id = :offer_id AND day = :day AND outcome = :outcome"
        if known := await rows(session, f"SELECT posts FROM post_days {of_day}", **day):
            update = f"UPDATE post_days SET posts = :posts {of_day}"
            await run(session, update, posts=known[0].posts + 1, **day)
        else:
            await run(
                session,
                "INSERT INTO post_days (offer_id, day, network, outcome, posts, reach) "
                "VALUES (:offer_id, :day, 'x', :outcome, 1, 0)",
                **day,
            )
        hour = {"offer_id": offer.id, "hour": post.posted_at.replace(minute=0, second=0)}
        of_hour = "WHERE offer_id = :offer_id AND hour = :hour"
        loaded = int(outcome == "loaded")
        if known := await rows(session, f"SELECT posts, coupons FROM post_hours {of_hour}", **hour):
            (posts, coupons) = known[0]
            update = f"UPDATE post_hours SET posts = :posts, coupons = :coupons {of_hour}"
            await run(session, update, posts=posts + 1, coupons=coupons + loaded, **hour)
        else:
            await run(
                session,
                "INSERT INTO post_hours (offer_id, hour, network, posts, coupons, reach) "
                "VALUES (:offer_id, :hour, 'x', 1, :loaded, 0)",
                loaded=loaded,
                **hour,
            )

    # offers

    async def publish(self, offer_id: UUID, *, by: Actor) -> int | None:
        async with self.sessions.begin() as session:
            (known,) = await rows(
                session,
                "SELECT o.*, c.budget_minor, p.credit_limit_minor FROM offers o "
                "JOIN offer_counters c ON c.offer_id = o.id JOIN partners p ON p.id = o.partner_id "
                "WHERE o.id = :id",
                id=offer_id,
            )
            others = await rows(
                session,
                "SELECT o.tag_key, o.partner_id, c.budget_minor FROM offers o "
                "JOIN offer_counters c ON c.offer_id = o.id WHERE o.state = 'live' AND o.id <> :id",
                id=offer_id,
            )
            own = [o.budget_minor for o in others if o.partner_id == known.partner_id]
            is_taken = known.tag_key in {other.tag_key for other in others}
            is_covered = by.is_operator or sum(own) + known.budget_minor <= known.credit_limit_minor
            if known.state != "draft" or is_taken or not is_covered:
                return None
            return await self._move(session, offer_id, "publish", "live", published_at=NOW)

    async def pause(self, offer_id: UUID, *, now: datetime = NOW) -> int | None:
        paused = {"paused_by": "operator", "paused_at": now}
        return await self._change(offer_id, "pause", "paused", RUNNING, **paused)

    async def resume(self, offer_id: UUID, *, now: datetime = NOW) -> int | None:
        del now
        resumed = {"paused_by": None, "paused_at": None}
        return await self._change(offer_id, "resume", "live", {"paused"}, **resumed)

    async def end(self, offer_id: UUID, *, now: datetime = NOW) -> int | None:
        return await self._change(offer_id, "end", "ended", RUNNING, ends_at=now)

    async def start_what_is_due(self, now: datetime) -> None:
        async with self.sessions.begin() as session:
            due = await rows(
                session,
                "SELECT id FROM offers WHERE state = 'scheduled' AND starts_at <= :now",
                now=now,
            )
        for (offer_id,) in due:
            await self._change(offer_id, "start", "live", {"scheduled"})

    async def grow(
        self, offer_id: UUID, *, coupons_max: int, ends_at: datetime | None = None
    ) -> int | None:
        async with self.sessions.begin() as session:
            (offer,) = await rows(
                session, f"{OFFER} WHERE o.id = :id", id=offer_id, valid_days=VALID_DAYS
            )
            if coupons_max < offer.coupons_max:
                return None
            await run(
                session,
                "UPDATE offer_counters SET coupons_max = :most WHERE offer_id = :id",
                id=offer_id,
                most=coupons_max,
            )
            ends_at = ends_at or offer.ends_at
            return await self._move(session, offer_id, "grow", offer.state, ends_at=ends_at)

    async def _change(
        self, offer_id: UUID, action: str, state: str, possible: set[str], **columns: Any
    ) -> int | None:
        async with self.sessions.begin() as session:
            (known,) = await rows(session, "SELECT state FROM offers WHERE id = :id", id=offer_id)
            if known.state not in possible:
                return None
            return await self._move(session, offer_id, action, state, before=known.state, **columns)

    async def _move(
        self,
        session: AsyncSession,
        offer_id: UUID,
        action: str,
        state: str,
        *,
        before: str | None = None,
        **columns: Any,
    ) -> int:
        values = {"state": state, **columns}
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        await run(session, f"UPDATE offers SET {assignments} WHERE id = :id", id=offer_id, **values)
        if before is not None:
            await partners.audit(
                session,
                actor="twin",
                action=f"offer.{action}",
                subject_kind="offer",
                subject_id=str(offer_id),
                before={"state": before},
                after={"state": state},
            )
        (counter,) = await rows(
            session, "SELECT coupons_loaded FROM offer_counters WHERE offer_id = :id", id=offer_id
        )
        return int(counter.coupons_loaded)


def _now(post: Post) -> datetime:
    return max(NOW, post.posted_at)
