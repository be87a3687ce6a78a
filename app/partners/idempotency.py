"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a POST that creates is done
once, and answered alike however often it is sent (ADR 16).

The key is claimed, the thing made and the answer kept in the request's one transaction, so that
there is all of it or nothing: neither a lease nor an answer that is on its way.
"""

import asyncio
import hmac
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple
from uuid import UUID
from weakref import WeakValueDictionary

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import AfterValidator, StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession

from app.deps import NowDep, SessionDep
from app.errors import Invalid
from app.kit.bodies import JsonRequest
from app.kit.sealing import Sealer
from app.partners import idempotency_queries as queries
from app.partners.auth import Principal, PrincipalDep, identify
from app.partners.tenancy import release

CREATED = 201
KEPT = timedelta(hours=24)
KEY_CHARACTERS_MAX = 255
_HEADERS_KEPT = ("content-type", "etag", "location")
_SECRET_BYTES = 32
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


class KeyReused(Invalid):
    code = "idempotency_key_reused"


def _unquoted(value: str) -> str:
    """The draft has a structured field's string, most callers write it bare: it is one key."""
    if not value.startswith('"'):
        return value
    found = _QUOTED.fullmatch(value)
    if found is None or not found[1]:
        raise ValueError('a string in quotes must end, with \\ before a " or \\ within')
    return re.sub(r"\\(.)", r"\1", found[1])


IdempotencyKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=KEY_CHARACTERS_MAX, pattern=r"^[ -~]+$"),
    AfterValidator(_unquoted),
]
KeyHeader = Annotated[
    IdempotencyKey | None,
    Header(
        alias="Idempotency-Key",
        description="your name for this request, such as a UUID: sent again with it within 24 "
        "hours, the request is answered as the first time and does nothing",
    ),
]


class _Secrets(NamedTuple):
    """All from the caller's token, which is not kept: who reads the table learns nothing."""

    name: bytes
    fingerprints: bytes
    seal: bytes

    @classmethod
    def of(cls, token: str, key: str) -> "_Secrets":
        info = b"tagback idempotency " + key.encode()
        derived = HKDF(SHA256(), length=3 * _SECRET_BYTES, salt=None, info=info).derive(
            token.encode()
        )
        return cls(
            *(derived[at : at + _SECRET_BYTES] for at in range(0, len(derived), _SECRET_BYTES))
        )

    @property
    def sealer(self) -> Sealer:
        return Sealer([urlsafe_b64encode(self.seal).decode()])


class _Claim(NamedTuple):
    session: AsyncSession
    principal: Principal
    secrets: _Secrets


class _Replayed(Exception):
    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


_turns: WeakValueDictionary[tuple[UUID, str], asyncio.Lock] = WeakValueDictionary()


async def _take_turn(principal: PrincipalDep, key: KeyHeader = None) -> AsyncIterator[None]:
    """Twins in this process wait here, where none of them holds a connection of the pool; those in
    others at the index.
    """
    if key is None:
        yield
        return
    turn = _turns.setdefault((principal.key_id, key), asyncio.Lock())
    async with turn:
        yield


async def _claim(
    request: Request,
    principal: PrincipalDep,
    # before the session, so that the turn ends after the commit
    _turn: Annotated[None, Depends(_take_turn, scope="function")],
    session: SessionDep,
    now: NowDep,
    key: KeyHeader = None,
) -> None:
    if key is None:
        return
    _, token = get_authorization_scheme_param(request.headers["authorization"])
    secrets = _Secrets.of(token, key)
    fingerprint = hmac.digest(secrets.fingerprints, await _contents(request), "sha256")
    kept = await queries.claim(
        session,
        key_id=principal.key_id,
        name=secrets.name,
        fingerprint=fingerprint,
        now=now,
        forgotten=now - KEPT,
    )
    if kept is None:
        request.state.idempotency = _Claim(session, principal, secrets)
        return
    if not hmac.compare_digest(kept.fingerprint, fingerprint):
        raise KeyReused("this Idempotency-Key came with another request: take a new one")
    raise _Replayed(_opened(secrets.sealer.open(kept.answer)))


async def _contents(request: Request) -> bytes:
    """What makes two requests the same, each part with its length."""
    path, query = request.scope["path"].encode(), request.scope["query_string"]
    parts = (request.method.encode(), path, query, await request.body())
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


async def _keep(claim: _Claim, response: Response) -> None:
    if claim.principal.partner_id is not None:
        await release(claim.session)
    kept = {name: response.headers[name] for name in _HEADERS_KEPT if name in response.headers}
    answer = [response.status_code, kept, bytes(response.body).decode()]
    await queries.keep_answer(
        claim.session,
        key_id=claim.principal.key_id,
        name=claim.secrets.name,
        answer=claim.secrets.sealer.seal(json.dumps(answer)),
    )


def _opened(answer: str) -> Response:
    status, headers, body = json.loads(answer)
    return Response(body, status, {**headers, "Idempotency-Replayed": "true"})


async def forget_old(session: AsyncSession, *, now: datetime, most: int) -> int:
    """Answers how many went."""
    return await queries.forget_old(session, forgotten=now - KEPT, most=most)


# It comes before the endpoint's own dependencies: a partner's request is not confined yet.
IDEMPOTENT = Depends(_claim, scope="function")


class ApiRoute(APIRoute):
    """How the API takes a request: of a caller who is known, JSON read strictly, and a POST that is
    answered 201 done once for each Idempotency-Key. It must do all that it does in the request's
    own session.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:  # noqa: ANN401
        if "POST" in (given.get("methods") or ()) and given.get("status_code") == CREATED:
            given["dependencies"] = [IDEMPOTENT, *(given.get("dependencies") or ())]
        super().__init__(path, endpoint, **given)

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            request = JsonRequest(request.scope, request.receive)
            await identify(request)
            try:
                response = await handle(request)
            except _Replayed as replayed:
                return replayed.response
            claim: _Claim | None = getattr(request.state, "idempotency", None)
            if claim is not None:
                await _keep(claim, response)
            return response

        return handle_once
