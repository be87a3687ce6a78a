"""The main job end to end: the service and the X stand-in are two processes of their own, and all
that comes in comes by HTTP, as it would from X, an issuer and partners.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from app.cli.demo.scenario import ACCOUNT_ID, HANDLE, PARTNERS, PAUSED, Row, Scenario, build
from app.cli.roles import open_socket
from app.config import Settings
from app.database import open_sessions
from app.errors import TagbackError
from app.insight import attribution, funnel
from app.insight import queries as insight
from app.kit import clock, money
from app.kit.db import Sessions
from app.partners import keys

START_SECONDS_MAX = 30
SETTLE_SECONDS_MAX = 120
CALLS_IN_FLIGHT_MAX = 16
KEYS_LIVE = timedelta(days=1)
_NEW_AUTHORS_DAYS = 7


class DemoError(TagbackError):
    code = "demo"


class Programme:
    """A running service and stand-in, and clients with the keys of each role."""

    def __init__(self, service_url: str, x_url: str, x_headers: dict[str, str]) -> None:
        self.service_url = service_url
        self.x_url = x_url
        self.x = httpx.AsyncClient(base_url=x_url, headers=x_headers, timeout=60)
        self.roles: dict[str, httpx.AsyncClient] = {}
        self.processes: list[asyncio.Task[int]] = []

    async def close(self) -> None:
        for client in (self.x, *self.roles.values()):
            await client.aclose()


async def run(settings: Settings, *, once: bool, console: Console) -> dict[str, Any]:
    """Answers the contract's JSON; with `once` false, serves until interrupted."""
    this = asyncio.current_task()
    if this is not None:  # told to stop, it stops what it has started
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    await asyncio.to_thread(settings.data_dir.mkdir, parents=True, exist_ok=True)
    async with open_sessions(settings) as sessions:
        scenario = build(await _started_at(sessions, settings.data_dir / "demo.json"))
        async with _running(settings) as programme:
            await _make_keys(sessions, programme)
            with Progress(
                TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(),
                console=console, disable=not console.is_terminal,
            ) as progress:  # fmt: skip
                await _set_up(programme, scenario, progress)
                await _post(programme, sessions, scenario, progress)
                await _buy(programme, scenario, progress)
            result = await _result(sessions, programme)
            if not once:
                show(result, console)
                console.print(f"The service is at {programme.service_url}, the stand-in for X at "
                              f"{programme.x_url}. Ctrl-C stops both.")  # fmt: skip
                await asyncio.wait(programme.processes, return_when=asyncio.FIRST_COMPLETED)
                raise DemoError("the service or the stand-in has ended: it says why above")
    return result


async def _started_at(sessions: Sessions, marker: Path) -> datetime:
    """The moment of the first run: with it the scenario is the same again. Raises DemoError where
    the data is somebody's.
    """
    if (known := _read_marker(marker)) is not None:
        return known
    async with sessions.begin() as session:
        if await insight.has_members(session):
            raise DemoError(
                f"{marker.parent} holds a programme that is not the demo's: "
                "set TAGBACK_DATA_DIR to a folder of its own"
            )
    return _write_marker(marker, datetime.now(UTC))


def _read_marker(marker: Path) -> datetime | None:
    if not marker.exists():
        return None
    return datetime.fromisoformat(json.loads(marker.read_text())["started_at"])


def _write_marker(marker: Path, started_at: datetime) -> datetime:
    marker.write_text(json.dumps({"started_at": started_at.isoformat()}))
    return started_at


@asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[Programme]:
    app_token, user_token, secret = (secrets.token_urlsafe(24) for _ in range(3))
    x_environment = {
        "TAGBACK_X_ACCOUNT_ID": ACCOUNT_ID,
        "TAGBACK_X_HANDLE": HANDLE,
        "TAGBACK_X_APP_TOKEN": app_token,
        "TAGBACK_X_USER_TOKEN": user_token,
        "TAGBACK_X_CONSUMER_SECRET": secret,
        "TAGBACK_DATA_DIR": str(settings.data_dir),
    }
    stand_in = ["sandbox", "--port", "0", "--profile", "enterprise",
                "--data", str(settings.data_dir / "sandbox.ndjson")]  # fmt: skip
    async with _process(stand_in, x_environment) as (x_url, x_process):
        await _drop_webhooks(x_url, app_token)
        port = _free_port()
        service_environment = {
            **x_environment,
            "TAGBACK_X_BASE_URL": x_url,
            "TAGBACK_X_HASHTAG_STREAM": "true",
            "TAGBACK_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "TAGBACK_X_REPLIES_PER_WINDOW": "1000000",
            "TAGBACK_X_REPLIES_PER_DAY": "1000000",
            "TAGBACK_AUTHOR_AGE_DAYS_MIN": str(_NEW_AUTHORS_DAYS),
        }
        command = ["serve", "--port", str(port)]
        async with _process(command, service_environment) as (service_url, service):
            programme = Programme(service_url, x_url, {"Authorization": f"Bearer {app_token}"})
            programme.processes += [asyncio.create_task(one.wait()) for one in (x_process, service)]
            try:
                yield programme
            finally:
                await programme.close()


def _free_port() -> int:
    """The listener tells X where the API is, so the port must be known beforehand."""
    with open_socket("127.0.0.1", 0) as listening:
        port: int = listening.getsockname()[1]
    return port


async def _drop_webhooks(x_url: str, app_token: str) -> None:
    """Those of an earlier run, whose port was another."""
    headers = {"Authorization": f"Bearer {app_token}"}
    async with httpx.AsyncClient(base_url=x_url, headers=headers, timeout=60) as x:
        for webhook in (await _get(x, "/2/webhooks")).get("data", []):
            (await x.delete(f"/2/webhooks/{webhook['id']}")).raise_for_status()


@asynccontextmanager
async def _process(
    command: Sequence[str], environment: dict[str, str]
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Runs a `tagback` command until the block ends; gives the address that it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", *command,
        env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    if process.stdout is None:
        raise DemoError("a child process has no output")
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            line = (await process.stdout.readline()).decode().strip()
        if "http://" not in line:
            raise DemoError(f"`tagback {command[0]}` did not start: {line or 'it says why above'}")
        yield line[line.index("http://") :].split()[0], process
    except TimeoutError:
        raise DemoError(f"`tagback {command[0]}` was not ready in {START_SECONDS_MAX} s") from None
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _make_keys(sessions: Sessions, programme: Programme) -> None:
    now = clock.now()
    async with sessions.begin() as session:
        for role in ("operator", "issuer", "processor", "analyst"):
            new = await keys.create_key(
                session, actor="demo", role=role, now=now, expires_at=now + KEYS_LIVE
            )
            programme.roles[role] = httpx.AsyncClient(
                base_url=programme.service_url,
                headers={"Authorization": f"Bearer {new.key}"},
                timeout=60,
            )


async def _set_up(programme: Programme, scenario: Scenario, progress: Progress) -> None:
    operator, issuer = programme.roles["operator"], programme.roles["issuer"]
    for ref, name in PARTNERS.items():
        await _call(operator, "/v1/partners", {"ref": ref, "name": name}, known=(409,))
    for merchant in scenario.merchants:
        made = await _call(operator, "/v1/merchants", merchant, known=(409,))
        if "id" in made:
            await _call(operator, f"/v1/merchants/{made['id']}/confirm")
    for offer in scenario.offers:
        made = await _call(operator, "/v1/offers", offer)
        if made["state"] == "draft":
            await _call(operator, f"/v1/offers/{made['id']}/publish")
        if made["offer_ref"] == PAUSED:
            await _call(operator, f"/v1/offers/{made['id']}/pause")
    task = progress.add_task("members linked", total=len(scenario.members))
    await _call_all(issuer, "/v1/members", scenario.members, progress, task)
    await _send_lines(programme.x, "/sandbox/people", scenario.people)


async def _post(
    programme: Programme, sessions: Sessions, scenario: Scenario, progress: Progress
) -> None:
    task = progress.add_task("posts", total=len(scenario.live) + len(scenario.archive))
    await _listening(programme, scenario)
    for start in range(0, len(scenario.live), 100):
        wave = scenario.live[start : start + 100]
        await _send_lines(programme.x, "/sandbox/posts", wave)
        progress.advance(task, len(wave))
    await _send_lines(programme.roles["issuer"], "/v1/posts", scenario.archive)
    progress.advance(task, len(scenario.archive))
    await _settled(programme, sessions)


async def _listening(programme: Programme, scenario: Scenario) -> None:
    """Mentions are pushed, and the stream has the rules of the offers that run."""
    now = clock.now()
    tags = {
        f"#{offer['hashtag']}"
        for offer in scenario.offers
        if offer["offer_ref"] != PAUSED
        and datetime.fromisoformat(offer["starts_at"]) < now
        and datetime.fromisoformat(offer["ends_at"]) > now
    }
    await _until(programme, lambda state: state["connections"]["filtered_stream"] > 0,
                 "the listener did not connect to the stream")  # fmt: skip
    for _ in range(SETTLE_SECONDS_MAX * 10):
        rules = (await _get(programme.x, "/2/tweets/search/stream/rules")).get("data", [])
        found = (await _get(programme.x, "/2/activity/subscriptions"))["data"]
        listened_for = {word.strip("()") for rule in rules for word in rule["value"].split()}
        kinds = {one["event_type"] for one in found}
        if tags <= listened_for and "post.mention.create" in kinds:
            return
        await asyncio.sleep(0.1)
    raise DemoError("the listener did not set up what it listens to")


async def _settled(programme: Programme, sessions: Sessions) -> None:
    """Everything delivered, nothing left to answer, and no post more since the last look."""
    await _until(
        programme,
        lambda state: all(channel["pending"] == 0 for channel in state["events"].values()),
        "the stand-in could not deliver all posts",
    )
    before = -1
    for _ in range(SETTLE_SECONDS_MAX * 2):
        async with sessions.begin() as session:
            posts = await insight.count_posts(session)
            waiting = await insight.count_waiting_replies(session)
        if waiting == 0 and posts == before:
            return
        before = posts
        await asyncio.sleep(0.5)
    raise DemoError(f"{waiting} replies were still waiting after {SETTLE_SECONDS_MAX} s")


async def _until(programme: Programme, holds: Callable[[Row], bool], otherwise: str) -> None:
    for _ in range(SETTLE_SECONDS_MAX * 10):
        if holds(await _get(programme.x, "/sandbox/state")):
            return
        await asyncio.sleep(0.1)
    raise DemoError(otherwise)


async def _buy(programme: Programme, scenario: Scenario, progress: Progress) -> None:
    task = progress.add_task("card transactions", total=len(scenario.transactions))
    for start in range(0, len(scenario.transactions), 500):
        part = scenario.transactions[start : start + 500]
        await _send_lines(programme.roles["processor"], "/v1/transactions/batch", part)
        progress.advance(task, len(part))
    issuer = programme.roles["issuer"]
    # The issuer cannot place one credit of the first batch; the next batch takes it up.
    for failing in (1, 0):
        batch = await _call(issuer, "/v1/credit-batches")
        if "id" not in batch:
            break
        lines = (await _get(issuer, f"/v1/credit-batches/{batch['id']}"))["items"]
        failures = [{"line_id": line["id"], "reason": "card closed"} for line in lines[:failing]]
        await _call(issuer, f"/v1/credit-batches/{batch['id']}/acknowledge", {"failures": failures})


async def _result(sessions: Sessions, programme: Programme) -> dict[str, Any]:
    await attribution.flush(sessions)
    answered = await _get(programme.roles["analyst"], "/v1/attribution?group_by=offer,hashtag")
    async with sessions.begin() as session:
        result = await funnel.funnel(session)
        confirmations = await insight.confirmation_texts(session)
    texts = [reply["text"] for reply in await _all_replies(programme)]
    states: dict[str, int] = result["replies"]
    result["replies"] = {
        "sent": len(texts),
        "confirmations": sum(text in confirmations for text in texts),
        **states,
    }
    names = ("offer", "hashtag", "currency", "coupons", "redemptions", "sales_minor",
             "reward_minor")  # fmt: skip
    result["attribution"] = [{name: row[name] for name in names} for row in answered["items"]]
    return result


async def _all_replies(programme: Programme) -> list[Row]:
    """As they stand at the stand-in: a reply sent twice would be here twice."""
    replies: list[Row] = []
    cursor: str | None = "0"
    while cursor is not None:
        page = await _get(programme.x, f"/sandbox/replies?limit=1000&cursor={cursor}")
        replies += page["items"]
        cursor = page["next_cursor"]
    return replies


async def _call(
    client: httpx.AsyncClient, path: str, body: Row | None = None, *, known: Sequence[int] = ()
) -> Row:
    """Raises DemoError with the problem's text for a failure whose status is not `known`."""
    response = await client.post(path, json=body)
    if response.is_error and response.status_code not in known:
        raise DemoError(f"POST {path} answered {response.status_code}: {response.text[:500]}")
    answer: Row = response.json() if response.content else {}
    return answer


async def _get(client: httpx.AsyncClient, path: str) -> Row:
    response = await client.get(path)
    if response.is_error:
        raise DemoError(f"GET {path} answered {response.status_code}: {response.text[:500]}")
    answer: Row = response.json()
    return answer


async def _call_all(
    client: httpx.AsyncClient, path: str, bodies: Sequence[Row], progress: Progress, task: TaskID
) -> None:
    room = asyncio.Semaphore(CALLS_IN_FLIGHT_MAX)

    async def call(body: Row) -> None:
        async with room:
            await _call(client, path, body)
        progress.advance(task)

    await asyncio.gather(*map(call, bodies))


async def _send_lines(client: httpx.AsyncClient, path: str, rows: Sequence[Row]) -> None:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    response = await client.post(
        path, content=lines.encode(), headers={"Content-Type": "application/x-ndjson"}
    )
    if response.is_error:
        raise DemoError(f"POST {path} answered {response.status_code}: {response.text[:500]}")


def show(result: dict[str, Any], console: Console) -> None:
    """The funnel and the sales of each offer, for people."""
    console.print("\n[bold]From a hashtag to money back[/bold]")
    steps = Table(box=None, show_header=False, padding=(0, 2))
    outcomes, redemptions = result["outcomes"], result["redemptions"]
    for name, number, note in (
        ("posts with a tag", result["posts"], f"{len(outcomes)} kinds of outcome"),
        ("coupons loaded", result["coupons"], f"{result['coupons_with_mention']} by a mention"),
        ("replies sent", result["replies"]["sent"],
         f"{result['replies']['confirmations']} confirmations"),
        ("card transactions", result["transactions"], "of linked cards, in registered shops"),
        ("rewards earned", redemptions.get("earned", 0),
         ", ".join(f"{number} {state}" for state, number in redemptions.items()
                   if state != "earned")),
        ("money back", ", ".join(money.display(minor, currency)
                                 for currency, minor in result["credits_minor"].items()),
         "credited to statements"),
        ("cost on X", f"${result['x_cost_usd']:.2f}", "posts read and replies"),
    ):  # fmt: skip
        steps.add_row(name, str(number), f"[dim]{note}[/dim]")
    console.print(steps)
    console.print("\n[bold]Why posts did or did not load a coupon[/bold]")
    reasons = Table(box=None, show_header=False, padding=(0, 2))
    for outcome, number in sorted(outcomes.items(), key=lambda item: -item[1]):
        reasons.add_row(outcome, str(number))
    console.print(reasons)
    console.print("\n[bold]What the posts sold[/bold]")
    sales = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("hashtag", "coupons", "redemptions", "sales", "money back"):
        sales.add_column(name, justify="left" if name == "hashtag" else "right")
    for row in sorted(result["attribution"], key=lambda row: -row["redemptions"]):
        sales.add_row(
            f"#{row['hashtag']}", str(row["coupons"]), str(row["redemptions"]),
            money.display(row["sales_minor"], row["currency"]),
            money.display(row["reward_minor"], row["currency"]),
        )  # fmt: skip
    console.print(sales)
