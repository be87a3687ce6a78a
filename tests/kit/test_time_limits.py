"""How long a transaction may live, and who may live longer."""

from sqlalchemy import text

from app.insight.verify import verify
from app.kit.db import TRANSACTION_SECONDS_MAX, Sessions


class TestATransaction:
    async def test_has_a_limit(self, sessions: Sessions) -> None:
        async with sessions() as session:
            limit = await session.scalar(text("SHOW transaction_timeout"))
        assert limit == f"{TRANSACTION_SECONDS_MAX // 60}min"

    async def test_of_a_verification_takes_its_time(self, sessions: Sessions) -> None:
        async with sessions() as session:
            await verify(session)
            assert await session.scalar(text("SHOW transaction_timeout")) == "0"
