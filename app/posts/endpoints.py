from typing import Annotated, Any, cast

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from app.deps import SessionsDep, SettingsDep
from app.errors import Forbidden, Invalid, Unavailable
from app.kit.lines import Line, LineResult
from app.openapi import JSON, NDJSON, lines, problems
from app.partners.auth import Principal, require
from app.posts.loader import PostLoader
from app.posts.schemas import (
    LINE_ANSWERS,
    POST_LINE,
    X_EVENT,
    ChallengeAnswer,
    EventAnswer,
)
from app.posts.webhook import PATH, XPosts

SIGNATURE_HEADER = "x-twitter-webhooks-signature"

router = APIRouter(tags=["posts"])


@router.post(
    "/v1/posts",
    response_class=Response,
    responses={200: {"content": lines(LINE_ANSWERS, "a line for each, and the summary")}},
    openapi_extra={
        "requestBody": {"required": True, "content": lines(POST_LINE, "posts, one a line")}
    },
)
async def receive_posts(
    request: Request,
    sessions: SessionsDep,
    settings: SettingsDep,
    _: Annotated[Principal, Depends(require("issuer", "operator"))],
) -> Response:
    """A batch of posts from any listening tool, one JSON object a line, in the shapes that
    `tagback import posts` reads. Answers a line for each, and a summary as the last. Durable when
    answered; the same batch again changes nothing.
    """
    load = PostLoader(settings, source="api")
    lines = [
        Line(number, raw)
        for number, raw in enumerate((await request.body()).splitlines(), start=1)
        if raw.strip()
    ]
    results: list[LineResult] = []
    for start in range(0, len(lines), settings.batch_posts_max):
        results += await load(sessions, lines[start : start + settings.batch_posts_max])
    answer = [_answer(line, result) for line, result in zip(lines, results, strict=True)]
    answer.append({"summary": _summary(results)})
    return Response(b"\n".join(map(msgspec.json.encode, answer)) + b"\n", media_type=NDJSON)


def _answer(line: Line, result: LineResult) -> dict[str, Any]:
    answer: dict[str, Any] = {"line": line.number, "status": result.status}
    if result.outcomes:
        answer["outcomes"] = result.outcomes
    if result.reason is not None:
        answer["reason"] = result.reason
    return answer


def _summary(results: list[LineResult]) -> dict[str, int]:
    summary = {"read": len(results), "accepted": 0, "ignored": 0, "rejected": 0}
    for result in results:
        summary[result.status] += 1
    return summary


def get_x_posts(request: Request) -> XPosts:
    return cast("XPosts", request.app.state.x_posts)


XPostsDep = Annotated[XPosts, Depends(get_x_posts)]
ChallengeToken = Annotated[
    str, Query(max_length=1_000, json_schema_extra={"pattern": "^[A-Za-z0-9+/=_-]{16,128}$"})
]


@router.get(PATH, responses=problems(Unavailable))
async def answer_challenge(x_posts: XPostsDep, crc_token: ChallengeToken) -> ChallengeAnswer:
    """X asks at least once a day whether the secret is still ours."""
    try:
        return ChallengeAnswer(response_token=x_posts.answer_challenge(crc_token))
    except ValueError as error:
        raise Invalid(str(error), code="crc_token_refused") from error


@router.post(
    PATH,
    response_model_exclude_none=True,
    responses=problems(Forbidden, Unavailable),
    openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": X_EVENT}}}},
)
async def receive_event(
    request: Request,
    x_posts: XPostsDep,
    signature: Annotated[str | None, Header(alias=SIGNATURE_HEADER)] = None,
) -> EventAnswer:
    """One event of the X Activity API, answered 200 when it is durable. What cannot be read is
    answered 200 as well: X would only send it again.
    """
    return EventAnswer.model_validate(await x_posts.receive(await request.body(), signature))
