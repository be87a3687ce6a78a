"""X's streams, and its routes that show and end connections to them."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from msgspec import Meta, Struct
from starlette.types import Receive, Scope, Send

from app.sandbox.delivery import Sandbox
from app.sandbox.gate import SandboxDep, XProblem, answer, gate, read_json
from app.sandbox.posts import rfc3339
from app.sandbox.selection import Selection
from app.sandbox.streams import Connection, StreamName, Streams

router = APIRouter()

_CONNECTION_FIELDS = frozenset({"id", "endpoint_name", "connected_at"})
EndpointId = Literal[
    "filtered_stream",
    "sample_stream",
    "sample10_stream",
    "firehose_stream",
    "tweets_compliance_stream",
    "users_compliance_stream",
    "tweet_label_stream",
    "firehose_stream_lang_en",
    "firehose_stream_lang_ja",
    "firehose_stream_lang_ko",
    "firehose_stream_lang_pt",
    "likes_firehose_stream",
    "likes_sample10_stream",
    "likes_compliance_stream",
]


class ConnectionIds(Struct):
    uuids: Annotated[list[str], Meta(min_length=1, max_length=100)]


class StreamAnswer(StreamingResponse):
    """Frees the connection's place whichever way the answer ends, even before its first byte."""

    def __init__(self, streams: Streams, connection: Connection, headers: dict[str, str]) -> None:
        self._streams = streams
        self._connection = connection
        self._lines = streams.read(connection)
        super().__init__(self._lines, headers=headers, media_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._lines.aclose()
            self._streams.close(self._connection)


@router.get("/2/activity/stream", dependencies=gate("app"))
async def activity_stream(request: Request, sandbox: SandboxDep) -> Response:
    connections_max = sandbox.state.profile.activity_connections_max
    return _open(request, sandbox, "activity_stream", connections_max)


@router.get("/2/tweets/search/stream", dependencies=gate("app"))
async def filtered_stream(request: Request, sandbox: SandboxDep) -> Response:
    state = sandbox.state
    if not state.rules:
        raise XProblem(
            409,
            "ConnectionException",
            "Your client application must have at least one rule before it connects to this"
            " stream.",
            kind="streaming-connection",
            connection_issue="RuleConfigurationIssue",
        )
    connections_max = state.profile.filtered_connections_max
    return _open(request, sandbox, "filtered_stream", connections_max)


@router.get("/2/connections", dependencies=gate("app"))
async def list_connections(
    request: Request,
    sandbox: SandboxDep,
    status: Literal["active", "inactive", "all"] = "active",
    endpoints: str = "",
    max_results: Annotated[int, Query(ge=1, le=100)] = 10,
    pagination_token: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """The oldest first, those that have ended among the last hundred."""
    streams = sandbox.streams
    known = {
        "active": streams.connections,
        "inactive": list(streams.ended),
        "all": [*streams.ended, *streams.connections],
    }[status]
    wanted = endpoints.split(",") if endpoints else None
    found = [one for one in known if wanted is None or one.stream in wanted]
    start, end = pagination_token, pagination_token + max_results
    asked = frozenset(filter(None, request.query_params.get("connection.fields", "").split(",")))
    page = [show_connection(one, asked | _CONNECTION_FIELDS) for one in found[start:end]]
    meta: dict[str, Any] = {"result_count": len(page)}
    if found[end:]:
        meta["next_token"] = str(end)
    return answer(request, ({"data": page} if page else {}) | {"meta": meta})


@router.delete("/2/connections", dependencies=gate("app"))
async def hang_up_some(request: Request, sandbox: SandboxDep) -> Response:
    uuids = (await read_json(request, ConnectionIds)).uuids
    return _hang_up(request, sandbox, list(dict.fromkeys(uuids)))


@router.delete("/2/connections/all", dependencies=gate("app"))
async def hang_up_all(request: Request, sandbox: SandboxDep) -> Response:
    return _hang_up(request, sandbox, [one.id for one in sandbox.streams.connections])


@router.delete("/2/connections/{endpoint_id}", dependencies=gate("app"))
async def hang_up_endpoint(
    request: Request, sandbox: SandboxDep, endpoint_id: EndpointId
) -> Response:
    ids = [one.id for one in sandbox.streams.connections if one.stream == endpoint_id]
    return _hang_up(request, sandbox, ids)


def _hang_up(request: Request, sandbox: Sandbox, ids: list[str]) -> Response:
    known = {one.id: one for one in sandbox.streams.connections}
    results = [
        {"uuid": i, "success": True}
        if i in known
        else {"uuid": i, "success": False, "error_message": "Connection not found"}
        for i in ids
    ]
    for connection in (known[i] for i in ids if i in known):
        sandbox.streams.hang_up(connection, "ForceDisconnect")
    kills = sum(i in known for i in ids)
    data = {"successful_kills": kills, "failed_kills": len(ids) - kills, "results": results}
    return answer(request, {"data": data})


def show_connection(connection: Connection, fields: frozenset[str]) -> dict[str, Any]:
    ended_at = connection.disconnected_at
    shown = {
        "id": connection.id,
        "endpoint_name": connection.stream,
        "connected_at": rfc3339(connection.connected_at),
        "disconnected_at": rfc3339(ended_at) if ended_at else None,
        "disconnect_reason": connection.disconnect_reason,
        "client_ip": connection.client_ip,
    }
    return {name: value for name, value in shown.items() if name in fields and value is not None}


def _open(request: Request, sandbox: Sandbox, stream: StreamName, connections_max: int) -> Response:
    if len(sandbox.streams.connected(stream)) >= connections_max:
        raise XProblem(
            429,
            "ConnectionException",
            "This stream is currently at the maximum allowed connection limit.",
            kind="streaming-connection",
            connection_issue="TooManyConnections",
        )
    client_ip = request.client.host if request.client else ""
    selection = Selection.of(request, sandbox.state)
    connection = sandbox.streams.open(stream, selection, client_ip=client_ip)
    return StreamAnswer(sandbox.streams, connection, request.state.rate_headers)
