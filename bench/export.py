"""An analyst's million redemptions as Parquet: how many rows a second, beside a bare COPY TO STDOUT
of the same columns that is thrown away as it comes; and how much memory the service takes for it,
beside a tenth of the rows.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.parquet as pq
from sqlalchemy import text

from app.config import Settings
from app.database import OWNER, locate, open_sessions
from app.insight import exporting
from app.insight.export_queries import sales
from app.kit import clock
from app.kit.db import Sessions, copy_out, make_engine
from app.partners import keys
from bench.running import free_port, tagback
from tests.many import PARTNERS, write_redemptions

ROWS = 1_000_000
MEMORY_GROWTH_MB_MAX = 32  # from a tenth of the rows to all of them
SAMPLE_SECONDS = 0.01
MEGABYTE = 1_000_000
ALL = sales([], for_partner=False)


async def discard(_data: bytes) -> None:
    pass


async def in_process(sessions: Sessions, out: Path) -> tuple[float, float]:
    """Rows a second of the bare COPY and of the export, which see the same snapshot."""
    async with sessions.begin() as session:
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        await session.execute(text("SET LOCAL statement_timeout = 0"))
        counted: int = (await session.scalars(text("SELECT count(*) FROM sales"))).one()
        started = time.perf_counter()
        copied = await copy_out(session, ALL, write=discard)
        copy_seconds = time.perf_counter() - started
        with out.open("wb") as file:

            async def write(data: bytes) -> None:
                file.write(data)

            started = time.perf_counter()
            written = await exporting.export(session, ALL, file_format="parquet", write=write)
            seconds = time.perf_counter() - started
    agree(counted, copied, written, pq.read_metadata(out).num_rows)
    return counted / copy_seconds, counted / seconds


def agree(counted: int, *others: int) -> None:
    if any(other != counted for other in others):
        raise SystemExit(f"export: {counted} rows were counted, but {others} came")


async def over_http(client: httpx.AsyncClient, key: str, out: Path, **query: str) -> int:
    async with client.stream(
        "GET",
        "/v1/redemptions/export",
        params={"format": "parquet", **query},
        headers={"Authorization": f"Bearer {key}"},
    ) as answer:
        answer.raise_for_status()
        with out.open("wb") as file:
            async for piece in answer.aiter_raw():
                file.write(piece)
    rows: int = pq.read_metadata(out).num_rows
    return rows


class Watched:
    """How large a process was at its largest."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.highest_mb = 0.0

    @property
    def now_mb(self) -> float:
        return float(self._process.memory_info().rss) / MEGABYTE

    @asynccontextmanager
    async def while_it_works(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch())
        yield
        watching.cancel()

    async def _watch(self) -> None:
        while True:
            self.highest_mb = max(self.highest_mb, self.now_mb)
            await asyncio.sleep(SAMPLE_SECONDS)


async def by_the_service(
    sessions: Sessions, folder: Path, *, runs: int
) -> tuple[list[float], float, float]:
    """Rows a second, and by how many megabytes the service grew at most for a partner's tenth of
    the rows and for all of them, after a first small export.
    """
    out = folder / "http.parquet"
    async with sessions.begin() as session:
        (counted,) = await session.scalars(text("SELECT count(*) FROM sales"))
        new = await keys.create_key(session, actor="bench", role="analyst", now=clock.now())
    port = free_port()
    variables = {"TAGBACK_DATA_DIR": str(folder)}
    async with (
        tagback(["serve", "--roles", "api", "--port", str(port)], variables) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        (process,) = (one for one in psutil.Process().children() if str(port) in one.cmdline())
        service = Watched(process)
        await over_http(client, new.key, out, offer="offer-1")
        before_mb = service.now_mb
        async with service.while_it_works():
            agree(counted // PARTNERS, await over_http(client, new.key, out, partner="partner-1"))
            tenth_mb = service.highest_mb - before_mb
            rates = []
            for _ in range(runs):
                started = time.perf_counter()
                agree(counted, await over_http(client, new.key, out))
                rates.append(counted / (time.perf_counter() - started))
        return rates, tenth_mb, service.highest_mb - before_mb


async def run(*, runs: int, rows: int = ROWS) -> list[dict[str, Any]]:
    """The contract's rows. Ends the process when rows are missing or memory grows with them."""
    with tempfile.TemporaryDirectory(prefix="tagback-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        settings = Settings(data_dir=folder, _env_file=None)
        async with open_sessions(settings) as sessions:
            await write_redemptions(sessions, rows)
            await analyse(settings)
            await in_process(sessions, folder / "bench.parquet")  # the cache, and Arrow's libraries
            pairs = [await in_process(sessions, folder / "bench.parquet") for _ in range(runs)]
            over, tenth_mb, all_mb = await by_the_service(sessions, folder, runs=runs)
    if all_mb - tenth_mb > MEMORY_GROWTH_MB_MAX:
        raise SystemExit(f"export: {all_mb:.0f} MB for all rows, {tenth_mb:.0f} MB for a tenth")
    copied = [copy for copy, _ in pairs]
    return [
        row("export", [made for _, made in pairs], copied, unit="rows/s"),
        row("export_http", over, copied, unit="rows/s"),
        row("export_memory", [all_mb], [tenth_mb], unit="MB"),
    ]


async def analyse(settings: Settings) -> None:
    engine = make_engine((await locate(settings)).owner_url, role=OWNER, statement_timeout_ms=0)
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
    await engine.dispose()


def row(
    name: str, values: Sequence[float], bounds: Sequence[float], *, unit: str
) -> dict[str, Any]:
    """The contract's."""
    value, bound = statistics.median(values), statistics.median(bounds)
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "bound": bound,
        "ratio": value / bound,
        "peer": None,
        "peer_ratio": None,
        "runs": len(values),
        "spread": [min(values), max(values)],
    }
