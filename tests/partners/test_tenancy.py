import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from app.kit.clock import now
from app.kit.db import Sessions
from app.partners import keys, proposals, service
from app.partners.models import Acceptor, ApiKey, Partner
from app.partners.schemas import AcceptorDetails
from app.partners.tenancy import confine

DENIED = "permission denied"


def place(name: str) -> AcceptorDetails:
    return AcceptorDetails(
        acquirer_id="acq",
        acceptor_id=name,
        name=f"Shop {name}",
        channel="in_store",
        mcc="5812",
        country="US",
    )


@pytest.fixture
async def two(sessions: Sessions) -> list[Partner]:
    """Partners cafe and rival, each with one place and one key."""
    async with sessions.begin() as session:
        partners = []
        for ref in ("cafe", "rival"):
            partner = await service.ensure_partner(session, ref=ref)
            await proposals.propose_acceptor(
                session, actor="test", partner_id=partner.id, details=place(f"of-{ref}")
            )
            await keys.create_key(session, actor="test", role="partner", now=now(), partner=ref)
            partners.append(partner)
    return partners


async def run_as(sessions: Sessions, partner: Partner, statement: str) -> None:
    async with sessions.begin() as session:
        await confine(session, partner_id=partner.id)
        await session.execute(text(statement))


class TestAPartnersTransaction:
    async def test_sees_its_own_rows_and_no_others(
        self, sessions: Sessions, two: list[Partner]
    ) -> None:
        cafe, _ = two
        async with sessions.begin() as session:
            await confine(session, partner_id=cafe.id)
            assert (await session.scalars(select(Partner.ref))).all() == ["cafe"]
            assert (await session.scalars(select(Acceptor.partner_id))).all() == [cafe.id]
            assert (await session.scalars(select(ApiKey.partner_id))).all() == [cafe.id]

    async def test_cannot_write_a_row_for_another(
        self, sessions: Sessions, two: list[Partner]
    ) -> None:
        cafe, rival = two
        for_another = (
            "INSERT INTO acceptors "
            "(id, partner_id, acquirer_id, acceptor_id, name, channel, mcc, country) VALUES "
            f"(gen_random_uuid(), '{rival.id}', 'acq', 'new', 'New', 'in_store', '5812', 'US')"
        )
        await run_as(sessions, rival, for_another)
        with pytest.raises(DBAPIError, match="row-level security"):
            await run_as(sessions, cafe, for_another)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE acceptors SET state = 'confirmed', confirmed_at = now()",
            "UPDATE partners SET credit_limit_minor = 1, credit_currency = 'USD'",
            "UPDATE api_keys SET expires_at = NULL",
            "INSERT INTO api_keys (id, hash, hint, role) VALUES (gen_random_uuid(), '', '', '')",
        ],
    )
    async def test_cannot_give_itself_more(
        self, sessions: Sessions, two: list[Partner], statement: str
    ) -> None:
        with pytest.raises(DBAPIError, match=DENIED):
            await run_as(sessions, two[0], statement)

    async def test_ends_with_the_transaction(self, sessions: Sessions, two: list[Partner]) -> None:
        async with sessions() as session:
            await confine(session, partner_id=two[0].id)
            assert await session.scalar(text("SELECT current_user")) == "tagback_partner"
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
            await session.rollback()
            assert await session.scalar(text("SELECT pg_backend_pid()")) == pid
            assert await session.scalar(text("SELECT current_user")) == "tagback_engine"
            setting = "SELECT current_setting('tagback.partner_id', true)"
            assert not await session.scalar(text(setting))

    @pytest.mark.usefixtures("two")
    async def test_sees_nothing_when_no_partner_is_named(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            await session.execute(text("SET LOCAL ROLE tagback_partner"))
            assert (await session.scalars(select(Acceptor.id))).all() == []
