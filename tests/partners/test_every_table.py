"""What a partner's role may do to which table, and that it is done to its own rows alone."""

import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.database import ENGINE, PARTNER
from app.kit.db import Sessions, sqlstate
from app.metadata import metadata
from app.partners.tenancy import confine
from tests.partners.world import Tenant, make_world

# All of it, in this one place. A new table needs a line here, even if a partner may do nothing.
_TABLES = """
acceptors           select insert update delete
accounts
adjustments
api_keys            select
audit_entries       insert
card_transactions
cards
catalogue_version
claims
consents
coupons
credit_batches
credit_lines
cursors
decisions
erased_names
handoffs_used
idempotency_keys
invitations
leases
link_sessions
members
network_accounts
network_usage
offer_counters      select insert update
offer_versions      select insert update
offers              select insert update
partners            select
post_days           select
post_hours          select
posts
pseudonym_secrets
purchase_summaries
purchases
redemption_changes
redemptions
refusals
rejected_posts
removed_posts
replies
reply_pauses
sales               select
sales_days          select
sales_hours         select
sales_part_days     select
send_windows
stopped_accounts
test_clock
transfers
unlinked_accounts
webhook_deliveries  select insert update
webhook_endpoints   select insert update
webhook_sequences   select insert update
"""
PARTNER_MAY = {
    table: set(rights) for table, *rights in map(str.split, _TABLES.strip().splitlines())
}
HIDDEN_COLUMNS = {("api_keys", "hash"), ("sales", "posted_at")}
# Columns that a partner may set, of tables where he may not set all.
WRITES = {
    "acceptors": {
        "insert": "id partner_id acquirer_id acceptor_id name channel mcc country",
        "update": "acquirer_id acceptor_id name channel mcc country state refusal",
    },
    "offer_counters": {
        "insert": "offer_id coupons_max budget_minor told_low_at_minor",
        "update": "coupons_max budget_minor",
    },
    "webhook_deliveries": {
        "insert": "endpoint_id event subject sequence data not_before tried_until created_at",
        "update": "state attempts not_before tried_until ended_at",
    },
    "webhook_sequences": {"insert": "endpoint_id subject last", "update": "last"},
}
APPEND_ONLY = ("audit_entries", "consents", "transfers")

# whose a row is, in the tables that a partner may read
OWNER = {
    "partners": "id",
    **dict.fromkeys(
        (
            "acceptors",
            "api_keys",
            "offers",
            "sales",
            "sales_days",
            "sales_hours",
            "sales_part_days",
            "webhook_endpoints",
        ),
        "partner_id",
    ),
    **dict.fromkeys(
        ("offer_counters", "offer_versions", "post_days", "post_hours"),
        "(SELECT partner_id FROM offers o WHERE o.id = offer_id)",
    ),
    **dict.fromkeys(
        ("webhook_deliveries", "webhook_sequences"),
        "(SELECT partner_id FROM webhook_endpoints e WHERE e.id = endpoint_id)",
    ),
}
PERMISSION_DENIED, ROW_SECURITY = "permission denied", "row-level security"
INSUFFICIENT_PRIVILEGE = "42501"


@pytest.fixture
async def tenants(sessions: Sessions, settings: Settings) -> dict[str, Tenant]:
    return await make_world(sessions, settings)


async def refusal(session: AsyncSession, statement: str, **values: Any) -> str | int:
    """Why it is refused, or how many rows it reached; undone in any case."""
    nested = await session.begin_nested()
    try:
        result = await session.execute(text(statement), values)
        return len(result.all()) if result.returns_rows else result.rowcount  # type: ignore[attr-defined]
    except DBAPIError as error:
        if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
            raise
        return PERMISSION_DENIED if PERMISSION_DENIED in str(error) else ROW_SECURITY
    finally:
        await nested.rollback()


class TestEveryTable:
    def test_has_its_line(self) -> None:
        assert set(metadata.tables) == set(PARTNER_MAY)
        assert {table for table in PARTNER_MAY if "select" in PARTNER_MAY[table]} == set(OWNER)

    async def test_grants_a_partner_what_its_line_says(self, sessions: Sessions) -> None:
        granted = text(
            """
            SELECT has_any_column_privilege(:role, :table, 'SELECT'),
                   has_any_column_privilege(:role, :table, 'INSERT'),
                   has_any_column_privilege(:role, :table, 'UPDATE'),
                   has_table_privilege(:role, :table, 'DELETE'),
                   has_table_privilege(:role, :table, 'TRUNCATE, REFERENCES, TRIGGER')
            """
        )
        names = ("select", "insert", "update", "delete", "more")
        async with sessions() as session:
            for table in metadata.tables:
                row = (await session.execute(granted, {"role": PARTNER, "table": table})).one()
                found = {name for name, is_granted in zip(names, row, strict=True) if is_granted}
                assert found == PARTNER_MAY[table], table

    async def test_hides_its_secrets(self, sessions: Sessions) -> None:
        columns = text(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name = ANY(:tables) "
            "AND NOT has_column_privilege(:role, table_name, column_name, 'SELECT')"
        )
        async with sessions() as session:
            found = await session.execute(columns, {"role": PARTNER, "tables": list(OWNER)})
            assert {tuple(row) for row in found} == HIDDEN_COLUMNS

    async def test_takes_of_a_partner_what_it_decides_on(self, sessions: Sessions) -> None:
        async with sessions() as session:
            for table, writes in WRITES.items():
                for action, columns in writes.items():
                    found = await _columns(session, table, action.upper())
                    assert sorted(found) == sorted(columns.split()), (table, action)

    async def test_has_no_function_for_a_partner(self, sessions: Sessions) -> None:
        """With that for pseudonyms he could tell which of them is a member that he knows."""
        callable_by = text(
            "SELECT proname FROM pg_proc p WHERE pronamespace = 'public'::regnamespace "
            "AND has_function_privilege(:role, p.oid, 'EXECUTE') "
            "AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')"
        )
        async with sessions() as session:
            found = {
                role: set(await session.scalars(callable_by, {"role": role}))
                for role in (ENGINE, PARTNER)
            }
        assert found == {
            ENGINE: {"buyer_pseudonym", "erase_consents", "sales_followed_until"},
            PARTNER: {"sales_followed_until"},
        }

    async def test_that_a_partner_reads_or_changes_has_policies(self, sessions: Sessions) -> None:
        secured = text(
            "SELECT c.relname, array_agg(p.cmd) FROM pg_class c JOIN pg_policies p "
            "ON p.tablename = c.relname AND :role = ANY(p.roles) "
            "WHERE c.relrowsecurity AND c.relnamespace = 'public'::regnamespace GROUP BY c.relname"
        )
        async with sessions() as session:
            found = dict(tuple(row) for row in await session.execute(secured, {"role": PARTNER}))
        assert set(found) == set(OWNER)
        for table, commands in found.items():
            if "ALL" not in commands:
                assert {command.lower() for command in commands} == PARTNER_MAY[table], table

    async def test_shows_a_partner_its_own_rows_and_lets_it_change_no_others(
        self, sessions: Sessions, tenants: dict[str, Tenant]
    ) -> None:
        cafe, rival = (tenants[ref].partner_id for ref in ("cafe", "rival"))
        async with sessions.begin() as session:
            own = await _counts(session, cafe)
            assert all(own.values())
            assert all((await _counts(session, rival)).values())
            changed = {table: await _column(session, table, "UPDATE") for table in OWNER}
            await confine(session, partner_id=cafe)
            for table in metadata.tables:
                first = _first_column(table)
                column = changed.get(table) or first
                told = {
                    "select": await refusal(session, f"SELECT {first} FROM {table}"),
                    "update": await refusal(session, f"UPDATE {table} SET {column} = {column}"),
                    "delete": await refusal(session, f"DELETE FROM {table}"),
                }
                for action, seen in told.items():
                    where = (table, action, seen)
                    if action not in PARTNER_MAY[table]:
                        assert seen == PERMISSION_DENIED, where
                    elif action == "select":
                        assert seen == own[table], where
                    else:  # what is confirmed is out of its hands, so some of its own it may not
                        assert isinstance(seen, int), where
                        assert seen <= own[table], where

    async def test_lets_nobody_give_a_row_away(
        self, sessions: Sessions, tenants: dict[str, Tenant]
    ) -> None:
        async with sessions.begin() as session:
            await confine(session, partner_id=tenants["cafe"].partner_id)
            rival = tenants["rival"].partner_id
            for table in ("offers", "webhook_endpoints"):
                given = f"UPDATE {table} SET partner_id = :rival"
                assert await refusal(session, given, rival=rival) == ROW_SECURITY, table

    async def test_takes_no_row_of_a_partners_for_another(
        self, sessions: Sessions, tenants: dict[str, Tenant]
    ) -> None:
        cafe, rival = (tenants[ref].partner_id for ref in ("cafe", "rival"))
        # the audit log is nobody's: who writes there cannot read it
        for table in metadata.tables.keys() - {"audit_entries"}:
            async with sessions.begin() as session:
                row = await _row_of(session, table, rival)
                columns = await _columns(session, table, "INSERT")
                await confine(session, partner_id=cafe)
                listed = ", ".join(columns) or _first_column(table)
                told = await refusal(
                    session,
                    f"INSERT INTO {table} ({listed}) SELECT {listed} "
                    f"FROM json_populate_record(NULL::{table}, CAST(:row AS json))",
                    row=json.dumps(row),
                )
                expected = ROW_SECURITY if "insert" in PARTNER_MAY[table] else PERMISSION_DENIED
                assert told == expected, (table, told)

    @pytest.mark.parametrize("table", APPEND_ONLY)
    async def test_that_is_append_only_is_so_for_the_engine(
        self, sessions: Sessions, table: str
    ) -> None:
        column = _first_column(table)
        async with sessions.begin() as session:
            assert await session.scalar(text("SELECT current_user")) == ENGINE
            for statement in (
                f"UPDATE {table} SET {column} = {column}",
                f"DELETE FROM {table}",
                f"TRUNCATE {table}",
            ):
                assert await refusal(session, statement) == PERMISSION_DENIED, statement


def _first_column(table: str) -> str:
    """That can be written at all."""
    columns = metadata.tables[table].columns
    return next(column.name for column in columns if column.identity is None)


async def _counts(session: AsyncSession, partner_id: UUID) -> dict[str, int]:
    found = {}
    for table, owner in OWNER.items():
        query = text(f"SELECT count(*) FROM {table} WHERE {owner} = :partner_id")
        found[table] = (await session.execute(query, {"partner_id": partner_id})).scalar_one()
    return found


async def _row_of(session: AsyncSession, table: str, partner_id: UUID) -> dict[str, Any]:
    """One of the partner's rows, or an empty one of a table that it may not read."""
    if table not in OWNER:
        return {}
    query = text(f"SELECT row_to_json(t) FROM {table} t WHERE {OWNER[table]} = :id LIMIT 1")
    row: dict[str, Any] = (await session.execute(query, {"id": partner_id})).scalar_one()
    return row


async def _columns(session: AsyncSession, table: str, action: str) -> list[str]:
    """Those that a partner's role may write."""
    query = text(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name = :table AND is_identity = 'NO' "
        "AND has_column_privilege(:role, table_name, column_name, :action) "
    )
    values = {"table": table, "role": PARTNER, "action": action}
    return list(await session.scalars(query, values))


async def _column(session: AsyncSession, table: str, action: str) -> str | None:
    return next(iter(await _columns(session, table, action)), None)
