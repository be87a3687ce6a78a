"""All SQL that takes a person out of every table, or shows what is kept of him: one place, in which
what is left out is seen. `tests/privacy` holds it against every table there is.

What hangs on money or counts keeps its rows: they refer to the member's row, which says no more who
he was. A day is enough of the time of a post, for the post itself may still be read on its network.
"""

# ruff: noqa: S608 - what is put into a statement is a name or a query of this module

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.arrays import as_arrays
from app.members.erasure_queries import ERASED
from app.posts.removal_queries import KeptPost

# His accounts, and those he had that nobody else has now.
_ACCOUNTS = """
    SELECT network, account_id FROM accounts WHERE member_id = :member_id
    UNION
    SELECT network, account_id FROM unlinked_accounts u
    WHERE member_id = :member_id AND NOT EXISTS (
        SELECT FROM accounts a WHERE a.network = u.network AND a.account_id = u.account_id
    )
"""
# Of those, and what his coupons came from, in all versions.
_POSTS = f"""
    SELECT p.network, p.post_id, p.root_id FROM ({_ACCOUNTS}) mine
    JOIN posts p ON p.network = mine.network AND p.author_id = mine.account_id
    UNION
    SELECT version.network, version.post_id, version.root_id
    FROM coupons c JOIN posts p ON p.network = c.network AND p.post_id = c.post_id
    JOIN posts version ON version.network = p.network AND version.author_id = p.author_id
        AND version.root_id = p.root_id
    WHERE c.member_id = :member_id
"""
_PURCHASES = """
    SELECT p.id FROM cards c JOIN purchases p ON p.card_ref = c.ref
    WHERE c.member_id = :member_id
"""
_REDEMPTIONS = f"SELECT id FROM redemptions WHERE purchase_id IN ({_PURCHASES})"
_HOURS = """
    SELECT d.offer_id, date_trunc('hour', p.posted_at, 'UTC') AS hour, d.network,
           count(*) AS posts, count(*) FILTER (WHERE d.outcome = 'loaded') AS coupons,
           coalesce(sum(p.reach), 0) AS reach
    FROM decisions d JOIN posts p ON p.network = d.network AND p.post_id = d.post_id
    WHERE d.network = :network AND d.root_id = ANY(CAST(:ids AS text[])) GROUP BY 1, 2, 3
"""
_OF_MEMBER = "member_id = :member_id"
_RANK_ALONE = "seen = jsonb_build_object('rank', seen -> 'rank')"


def _days(*columns: str) -> str:
    return ", ".join(f"{column} = date_trunc('day', {column})" for column in columns)


class Account(NamedTuple):
    network: str
    account_id: str


class Post(NamedTuple):
    network: str
    kept: KeptPost


# locks, and what is decided under them


async def forget_browsers(session: AsyncSession, member_id: UUID) -> None:
    """Which have signed in as him, or have opened a link for him."""
    await session.execute(
        text(
            f"""
            DELETE FROM link_sessions s
            WHERE s.member_id = :member_id
                OR s.handoff ->> 'sub' = (SELECT ref FROM members WHERE id = :member_id)
                OR (s.network, s.account_id) IN ({_ACCOUNTS})
            """
        ),
        {"member_id": member_id},
    )


async def lock_claims(session: AsyncSession, member_id: UUID) -> None:
    await session.execute(
        text("SELECT FROM claims WHERE member_id = :member_id ORDER BY id FOR UPDATE"),
        {"member_id": member_id},
    )


async def offers_of(session: AsyncSession, member_id: UUID) -> set[UUID]:
    """Of his coupons, and those that his posts have named."""
    found = await session.scalars(
        text(
            f"""
            SELECT offer_id FROM coupons WHERE member_id = :member_id
            UNION
            SELECT d.offer_id FROM ({_POSTS}) mine
            JOIN decisions d ON d.network = mine.network AND d.root_id = mine.root_id
            """
        ),
        {"member_id": member_id},
    )
    return set(found)


async def lock_member(session: AsyncSession, member_id: UUID) -> None:
    """Against all who refer to him, too."""
    await session.execute(
        text("SELECT FROM members WHERE id = :member_id FOR UPDATE"), {"member_id": member_id}
    )


async def erased_at(session: AsyncSession, member_id: UUID) -> tuple[bool, datetime | None]:
    """Whether there is, or was, such a member; and since when no more."""
    row = (
        await session.execute(
            text("SELECT erased_at FROM members WHERE id = :member_id"), {"member_id": member_id}
        )
    ).one_or_none()
    return (False, None) if row is None else (True, row.erased_at)


async def lock_coupons_and_purchases(session: AsyncSession, member_id: UUID) -> None:
    for rows in (
        "SELECT FROM coupons WHERE member_id = :member_id ORDER BY id FOR UPDATE",
        f"SELECT FROM purchases WHERE id IN ({_PURCHASES}) ORDER BY id FOR UPDATE",
    ):
        await session.execute(text(rows), {"member_id": member_id})


async def waiting(session: AsyncSession, member_id: UUID) -> tuple[int, int]:
    """Of his purchases, those that may yet earn; of his claims, those that are not decided."""
    found = await session.execute(
        text(
            f"""
            SELECT (SELECT count(*) FROM redemptions
                    WHERE state = 'pending' AND purchase_id IN ({_PURCHASES})),
                   (SELECT count(*) FROM claims
                    WHERE state = 'open' AND member_id = :member_id)
            """
        ),
        {"member_id": member_id},
    )
    purchases, claims = found.one()
    return purchases, claims


async def accounts_of(session: AsyncSession, member_id: UUID) -> list[Account]:
    found = await session.execute(text(_ACCOUNTS), {"member_id": member_id})
    return [Account(*row) for row in found]


async def posts_of(session: AsyncSession, member_id: UUID) -> list[Post]:
    found = await session.execute(text(_POSTS), {"member_id": member_id})
    return [Post(row.network, KeptPost(row.post_id, row.root_id)) for row in found]


# taking away


async def close_coupons(
    session: AsyncSession, member_id: UUID, *, now: datetime
) -> list[tuple[UUID, int]]:
    """Of each that was open: its offer, and what it had reserved and not spent."""
    found = await session.execute(
        text(
            """
            UPDATE coupons SET reserved_minor = spent_minor, closed_at = :now
            WHERE member_id = :member_id AND closed_at IS NULL
            RETURNING offer_id, old.reserved_minor - old.spent_minor
            """
        ),
        {"member_id": member_id, "now": now},
    )
    return [(offer_id, unspent_minor) for offer_id, unspent_minor in found]


async def blur_posts(session: AsyncSession, network: str, new_ids: Sequence[str]) -> None:
    """Of posts that were renamed already, and what was decided and answered for them."""
    answered = _days("posted_at", "created_at", "updated_at", "not_before")
    for table, key, changes in (
        ("posts", "post_id", _days("posted_at", "received_at")),
        ("decisions", "root_id", f"{_days('decided_at')}, {_RANK_ALONE}"),
        ("replies", "root_id", f"{answered}, text = '', problem = NULL"),
    ):
        await session.execute(
            text(f"UPDATE {table} SET {changes} WHERE network = :network AND {key} = ANY(:ids)"),
            {"network": network, "ids": list(new_ids)},
        )


async def blur_hours(session: AsyncSession, network: str, root_ids: Sequence[str]) -> None:
    """The posts are counted at the beginning of their day, before it is all that is kept."""
    same = "(t.offer_id, t.hour, t.network) = (mine.offer_id, mine.hour, mine.network)"
    for statement in (
        f"""
        INSERT INTO post_hours AS t (offer_id, hour, network, posts, coupons, reach)
        SELECT offer_id, date_trunc('day', hour, 'UTC'), network,
               sum(posts), sum(coupons), sum(reach)
        FROM ({_HOURS}) mine GROUP BY 1, 2, 3
        ON CONFLICT (offer_id, hour, network) DO UPDATE SET posts = t.posts + EXCLUDED.posts,
            coupons = t.coupons + EXCLUDED.coupons, reach = t.reach + EXCLUDED.reach
        """,
        f"""
        UPDATE post_hours t SET posts = t.posts - mine.posts,
            coupons = t.coupons - mine.coupons, reach = t.reach - mine.reach
        FROM ({_HOURS}) mine WHERE {same}
        """,
        # nothing but his post has made it
        f"DELETE FROM post_hours t USING ({_HOURS}) mine WHERE {same} AND t.posts = 0",
    ):
        await session.execute(text(statement), {"network": network, "ids": list(root_ids)})


async def blur_coupons(session: AsyncSession, member_id: UUID) -> None:
    """Attribution reads the time of the post there, and is told to."""
    for statement in (
        f"UPDATE coupons SET {_days('posted_at', 'loaded_at')} WHERE member_id = :member_id",
        f"INSERT INTO redemption_changes (redemption_id) {_REDEMPTIONS}",
    ):
        await session.execute(text(statement), {"member_id": member_id})


async def forget_accounts(session: AsyncSession, accounts: Sequence[Account]) -> None:
    """What is kept of what they were told, and that they had said "stop"."""
    given = {
        "networks": [one.network for one in accounts],
        "ids": [one.account_id for one in accounts],
    }
    mine = "unnest(CAST(:networks AS text[]), CAST(:ids AS text[])) AS mine (network, id)"
    for table in ("invitations", "refusals", "stopped_accounts"):
        await session.execute(
            text(
                f"DELETE FROM {table} t USING {mine} "
                "WHERE t.network = mine.network AND t.account_id = mine.id"
            ),
            given,
        )
    # farewells answer a message: the account is the beginning of their root
    await session.execute(
        text(
            f"""
            UPDATE replies r SET root_id = 'removed:' || gen_random_uuid(),
                post_id = 'removed:' || gen_random_uuid(), text = '', problem = NULL,
                recipient_id = 'removed:' || gen_random_uuid(), sent_post_id = NULL,
                state = CASE r.state WHEN 'queued' THEN 'expired' ELSE r.state END
            FROM {mine}
            WHERE r.network = mine.network AND r.kind = 'farewell'
                AND r.root_id >= mine.id || ':' AND r.root_id < mine.id || ';'
            """
        ),
        given,
    )


async def forget_purchases(session: AsyncSession, member_id: UUID) -> None:
    """Those that no coupon was used for move no money, and nothing hangs on them."""
    unused = f"{_PURCHASES} EXCEPT SELECT purchase_id FROM redemptions"
    for table, which in (
        ("card_transactions", f"purchase_id IN ({unused})"),
        ("purchases", f"id IN ({unused})"),
        ("purchase_summaries", _OF_MEMBER),
    ):
        await session.execute(text(f"DELETE FROM {table} WHERE {which}"), {"member_id": member_id})


async def forget_cards(session: AsyncSession, member_id: UUID, *, now: datetime) -> None:
    """Purchases and credit lines follow by their foreign keys."""
    found = await session.execute(
        text(
            f"""
            UPDATE cards SET ref = '{ERASED}' || gen_random_uuid(), network = NULL, last4 = NULL,
                state = 'removed', removed_at = coalesce(removed_at, :now)
            WHERE member_id = :member_id RETURNING old.ref AS old, new.ref AS new
            """
        ),
        {"member_id": member_id, "now": now},
    )
    cards = [(old, new) for old, new in found]
    for which in (
        "t.purchase_id IN (SELECT id FROM purchases WHERE card_ref = ANY(CAST(:new AS text[])))",
        "t.purchase_id IS NULL",
    ):
        await session.execute(
            text(
                f"""
                UPDATE card_transactions t SET card_ref = card.new
                FROM unnest(CAST(:old AS text[]), CAST(:new AS text[])) AS card (old, new)
                WHERE t.card_ref = card.old AND {which}
                """
            ),
            as_arrays(("old", "new"), cards),
        )


async def forget_claims(session: AsyncSession, member_id: UUID) -> None:
    """But those that were paid, without his words."""
    for statement in (
        "DELETE FROM claims WHERE member_id = :member_id AND state <> 'accepted'",
        "UPDATE claims SET note = '', transaction_id = NULL WHERE member_id = :member_id",
    ):
        await session.execute(text(statement), {"member_id": member_id})


async def forget_member(session: AsyncSession, member_id: UUID, *, now: datetime) -> None:
    for table in ("accounts", "unlinked_accounts"):
        await session.execute(
            text(f"DELETE FROM {table} WHERE member_id = :member_id"), {"member_id": member_id}
        )
    await session.execute(
        text(
            f"""
            UPDATE members SET ref = '{ERASED}' || gen_random_uuid(), locale = NULL,
                time_zone = NULL, country = NULL, opted_out_at = NULL, erased_at = :now
            WHERE id = :member_id
            """
        ),
        {"member_id": member_id, "now": now},
    )
    # consents are append-only but for this, which looks whether he is erased
    await session.execute(text("SELECT erase_consents(:member_id)"), {"member_id": member_id})


# showing

_OF_ACCOUNTS = f"(network, account_id) IN ({_ACCOUNTS})"
_OF_POSTS = f"IN (SELECT network, root_id FROM ({_POSTS}) mine)"
# Which rows of which table are a member's. Asked for once in a while: where no index helps, a table
# is read.
OF_A_MEMBER = {
    "members": "id = :member_id",
    "accounts": _OF_MEMBER,
    "unlinked_accounts": _OF_MEMBER,
    "stopped_accounts": _OF_ACCOUNTS,
    "cards": _OF_MEMBER,
    "consents": _OF_MEMBER,
    "link_sessions": f"{_OF_MEMBER} OR {_OF_ACCOUNTS}",
    "posts": f"(network, root_id) {_OF_POSTS}",
    "decisions": f"{_OF_MEMBER} OR (network, root_id) {_OF_POSTS}",
    "replies": f"(network, recipient_id) IN ({_ACCOUNTS})",
    "invitations": _OF_ACCOUNTS,
    "refusals": _OF_ACCOUNTS,
    "coupons": _OF_MEMBER,
    "purchases": f"id IN ({_PURCHASES})",
    "card_transactions": "card_ref IN (SELECT ref FROM cards WHERE member_id = :member_id)",
    "redemptions": f"id IN ({_REDEMPTIONS})",
    "purchase_summaries": _OF_MEMBER,
    "sales": f"redemption_id IN ({_REDEMPTIONS})",
    "adjustments": _OF_MEMBER,
    "credit_lines": _OF_MEMBER,
    "transfers": _OF_MEMBER,
    "claims": _OF_MEMBER,
}
# What opens something, and the token or the hash of it that does.
_SECRETS = ("id_hash", "state_hash", "code_verifier")


async def rows_of(session: AsyncSession, table: str, member_id: UUID) -> list[dict[str, Any]]:
    """One of OF_A_MEMBER's, as JSON."""
    found = await session.scalars(
        text(
            f"SELECT to_jsonb(t) - CAST(:secrets AS text[]) FROM {table} t "
            f"WHERE {OF_A_MEMBER[table]} ORDER BY t"
        ),
        {"member_id": member_id, "secrets": list(_SECRETS)},
    )
    return list(found)
