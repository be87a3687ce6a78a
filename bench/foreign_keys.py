"""What foreign keys cost on the hot path: posts enrolled a second, with none on the tables that a
batch writes, with the two that the schema keeps (coupon to its terms, coupon to its member), and
with one on every column that refers to another row. ADR 4 quotes it.

    .venv/bin/python -m bench.foreign_keys [--posts 20000] [--runs 5]
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import uvloop
from sqlalchemy import text

from app.config import Settings
from app.database import ENGINE, OWNER, Database, locate, upgrade
from app.kit.db import Sessions, make_engine, make_sessions
from app.posts.enrol import Enroller
from tests.programme import NOW, make_members, make_offer, make_post

OFFERS = 100
MEMBERS = 20_000
BATCH = 1_000

KEPT = (
    ("coupons", "offer_id, offer_version", "offer_versions (offer_id, version)"),
    ("coupons", "member_id", "members (id)"),
)
LEFT_OUT = (
    ("decisions", "offer_id, offer_version", "offer_versions (offer_id, version)"),
    ("decisions", "network, post_id", "posts (network, post_id)"),
    ("decisions", "member_id", "members (id)"),
    ("decisions", "coupon_id", "coupons (id)"),
    ("coupons", "network, post_id", "posts (network, post_id)"),
    ("replies", "network, root_id, offer_id", "decisions (network, root_id, offer_id)"),
    ("post_days", "offer_id", "offers (id)"),
)
VARIANTS = {"none": (), "kept": KEPT, "all": KEPT + LEFT_OUT}


async def use(database: Database, keys: tuple[tuple[str, str, str], ...]) -> None:
    engine = make_engine(database.owner_url, role=OWNER, statement_timeout_ms=0)
    async with engine.begin() as connection:
        await connection.execute(
            text("TRUNCATE posts, decisions, coupons, replies, post_days, post_hours CASCADE")
        )
        await connection.execute(
            text("UPDATE offer_counters SET coupons_loaded = 0, reserved_minor = 0")
        )
        found = await connection.execute(
            text(
                "SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype = 'f' AND "
                "conrelid::regclass::text IN ('coupons', 'decisions', 'replies', 'post_days')"
            )
        )
        for table, name in found.all():
            await connection.execute(text(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"'))
        for table, columns, target in keys:
            await connection.execute(
                text(
                    f"ALTER TABLE {table} ADD FOREIGN KEY ({columns}) REFERENCES {target} "
                    "DEFERRABLE INITIALLY DEFERRED"
                )
            )
    await engine.dispose()


async def enrol(sessions: Sessions, settings: Settings, accounts: list[str], posts: int) -> float:
    chance = random.Random(1)
    made = [
        make_post(
            chance.choice(accounts),
            f"tag{chance.randrange(OFFERS)}",
            posted_at=NOW - timedelta(seconds=chance.randrange(3_600)),
        )
        for _ in range(posts + BATCH)
    ]
    enroller = Enroller(sessions, settings)
    await enroller.enrol(made[:BATCH], source="bench", now=NOW)  # plans and caches
    started = time.perf_counter()
    for start in range(BATCH, len(made), BATCH):
        await enroller.enrol(made[start : start + BATCH], source="bench", now=NOW)
    return posts / (time.perf_counter() - started)


async def main(posts: int, runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tagback-bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings(data_dir=Path(folder), _env_file=None)
        database = await locate(settings)
        await upgrade(database)
        engine = make_engine(database.url, role=ENGINE)
        sessions = make_sessions(engine)
        for number in range(OFFERS):
            await make_offer(sessions, f"Tag{number}", partner=f"p{number % 10}")
        accounts = await make_members(sessions, MEMBERS)
        rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for run in range(runs):
            for name, keys in VARIANTS.items():
                await use(database, keys)
                rates[name].append(await enrol(sessions, settings, accounts, posts))
                print(f"run {run + 1}, foreign keys {name}: {rates[name][-1]:,.0f} posts/s")
        for name, found in rates.items():
            print(
                f"{name:5} median {statistics.median(found):,.0f} posts/s "
                f"({min(found):,.0f} to {max(found):,.0f})"
            )
        await engine.dispose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(given.posts, given.runs))
