"""`make bench`: what the engine exists for, measured. Writes `bench/results.json` and a table.

.venv/bin/python -m bench [--only answer] [--runs 3] [--json]
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from bench import answer, export

RESULTS = Path(__file__).parent / "results.json"
Run = Callable[..., Awaitable[list[dict[str, Any]]]]
BENCHMARKS: dict[str, Run] = {"answer": answer.run, "export": export.run}


async def main(names: list[str], runs: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in names:
        rows += await BENCHMARKS[name](runs=runs)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        low, high = row["spread"]
        figure = f"{row['value']:>12,.4g} {row['unit']}"
        beside = f"   {row['ratio']:.2f} of {row['bound']:,.4g}" if row["bound"] else ""
        print(f"{row['name']:16}{figure}   {low:,.4g} to {high:,.4g} in {row['runs']} runs{beside}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help=f"of {', '.join(BENCHMARKS)}, separated by commas")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the rows as the last line")
    given = parser.parse_args()
    chosen = given.only.split(",") if given.only else list(BENCHMARKS)
    if unknown := set(chosen) - BENCHMARKS.keys():
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(main(chosen, given.runs))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    show(results)
    if given.json:
        print(json.dumps(results))
