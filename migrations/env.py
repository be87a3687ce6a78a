import asyncio

from alembic import context
from sqlalchemy import Connection

from app.config import get_settings
from app.database import OWNER, locate
from app.kit.db import make_engine
from app.metadata import metadata


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_by_hand() -> None:
    database = await locate(get_settings())
    engine = make_engine(database.owner_url, role=OWNER, statement_timeout_ms=0)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


given: Connection | None = context.config.attributes.get("connection")
if given is None:
    asyncio.run(migrate_by_hand())
else:
    migrate(given)
