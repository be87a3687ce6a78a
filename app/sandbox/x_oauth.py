"""X's routes for signing in: the page where a person allows an app, and the token endpoints.

On X the page is at x.com and the rest at api.x.com; here both are at this address.
"""

import base64
import binascii
import re
from hmac import compare_digest
from html import escape
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from app.sandbox import look, oauth
from app.sandbox.gate import SandboxDep, read_form
from app.sandbox.oauth import SCOPE_MEANINGS, STATE_LENGTH_MAX, OAuthError
from app.sandbox.people import person_by_handle
from app.sandbox.state import State

router = APIRouter()

_ASKED = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
)
_CHALLENGE = re.compile("[A-Za-z0-9_-]{43}")
_HANDLES_OFFERED = 50


@router.get("/i/oauth2/authorize")
async def ask(request: Request, sandbox: SandboxDep) -> Response:
    asked = dict(request.query_params)
    if problem := _problem(sandbox.state, asked):
        return _refusal(problem)
    return HTMLResponse(_consent_page(sandbox.state, asked))


@router.post("/i/oauth2/authorize")
async def decide(request: Request, sandbox: SandboxDep) -> Response:
    """The page's form: the query of the page, `handle` (who signs in; a new one makes a new
    person) and `decision` (`allow` or `decline`). Answered 302, back to the app.
    """
    form = await read_form(request)
    state = sandbox.state
    asked = {name: form[name] for name in _ASKED if name in form}
    if problem := _problem(state, asked):
        return _refusal(problem)
    back = {"state": asked["state"]}
    if form.get("decision") != "allow":
        return _redirect(asked["redirect_uri"], {"error": "access_denied", **back})
    try:
        user_id = person_by_handle(state, form.get("handle", ""))
    except ValueError as error:
        return HTMLResponse(_consent_page(state, asked, problem=f"{error}."), 400)
    code = oauth.allow(
        state,
        user_id=user_id,
        redirect_uri=asked["redirect_uri"],
        scopes=tuple(dict.fromkeys(asked["scope"].split())),
        challenge=asked["code_challenge"],
    )
    return _redirect(asked["redirect_uri"], {**back, "code": code})


@router.post("/2/oauth2/token")
async def give_tokens(request: Request, sandbox: SandboxDep) -> Response:
    state = sandbox.state
    form = await read_form(request)
    _check_client(state, request.headers.get("authorization", ""), form)
    match _required(form, "grant_type"):
        case "authorization_code":
            tokens = oauth.exchange_code(
                state,
                code=_required(form, "code"),
                redirect_uri=_required(form, "redirect_uri"),
                verifier=_required(form, "code_verifier"),
            )
        case "refresh_token":
            tokens = oauth.refresh(state, _required(form, "refresh_token"))
        case other:
            raise OAuthError(
                f"Value passed for the grant type was invalid: {other}.",
                error="unsupported_grant_type",
            )
    return _json(tokens)


@router.post("/2/oauth2/revoke")
async def revoke(request: Request, sandbox: SandboxDep) -> Response:
    form = await read_form(request)
    _check_client(sandbox.state, request.headers.get("authorization", ""), form)
    oauth.revoke(sandbox.state, _required(form, "token"))
    return _json({"revoked": True})


async def answer_oauth_error(_request: Request, error: OAuthError) -> Response:
    return _json(error.body, status=error.status)


def _problem(state: State, asked: dict[str, str]) -> str:
    """Why X would not even show the page; nobody is sent anywhere then."""
    scopes = asked.get("scope", "").split()
    checks = {
        "client_id is not that of this app": asked.get("client_id") == state.settings.client_id,
        "redirect_uri is not one that the app has registered": oauth.redirect_allowed(
            state, asked.get("redirect_uri", "")
        ),
        "response_type is not code": asked.get("response_type") == "code",
        "scope names none of X's scopes, or another": scopes and SCOPE_MEANINGS.keys() >= {*scopes},
        f"state has not 1 to {STATE_LENGTH_MAX} characters": (
            1 <= len(asked.get("state", "")) <= STATE_LENGTH_MAX
        ),
        "code_challenge_method is not S256": asked.get("code_challenge_method") == "S256",
        "code_challenge is none": _CHALLENGE.fullmatch(asked.get("code_challenge", "")),
    }
    return "; ".join(problem for problem, passed in checks.items() if not passed)


def _refusal(problem: str) -> Response:
    content = f"<p>You weren't able to give access to the App.</p>{look.alert(problem)}"
    return HTMLResponse(look.page("Something went wrong", content), 400)


def _consent_page(state: State, asked: dict[str, str], *, problem: str = "") -> str:
    people = islice(reversed(state.people.values()), _HANDLES_OFFERED)
    offered = "".join(f'<option value="{escape(person.handle)}">' for person in people)
    meanings = "".join(
        f"<li>{escape(SCOPE_MEANINGS[scope])}" for scope in dict.fromkeys(asked["scope"].split())
    )
    host = urlsplit(asked["redirect_uri"]).netloc
    return look.page(
        "Sign in with the X stand-in",
        f"""<p>An app at {escape(host)} wants to access your account. It will be able to:</p>
<ul>{meanings}</ul>
<form method="post" action="/i/oauth2/authorize">{look.alert(problem)}
{look.hidden({name: asked[name] for name in _ASKED})}
<label>Your handle <input name="handle" list="handles" maxlength="16" autocomplete="off"
 placeholder="a handle; a new one makes a new person"></label>
<datalist id="handles">{offered}</datalist>
<button name="decision" value="allow">Authorize app</button>
<button class="second" name="decision" value="decline">Cancel</button></form>""",
    )


def _redirect(redirect_uri: str, more: dict[str, str]) -> Response:
    parts = urlsplit(redirect_uri)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *more.items()])
    return RedirectResponse(parts._replace(query=query).geturl(), 302)


def _check_client(state: State, authorization: str, form: dict[str, str]) -> None:
    """A confidential client comes with HTTP Basic, a public one names itself."""
    settings = state.settings
    if not authorization:
        if _required(form, "client_id") != settings.client_id:
            raise OAuthError("Value passed for the client id was invalid.")
        return
    scheme, _, credentials = authorization.partition(" ")
    try:
        given = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        given = ""
    client_id, _, secret = (unquote_plus(part) for part in given.partition(":"))
    right = compare_digest(secret.encode(), settings.client_secret.encode())
    if scheme.lower() != "basic" or client_id != settings.client_id or not right:
        raise OAuthError(
            "Missing valid authorization header", error="unauthorized_client", status=401
        )


def _required(form: dict[str, str], name: str) -> str:
    if not form.get(name):
        raise OAuthError(f"Missing required parameter [{name}].")
    return form[name]


def _json(body: dict[str, Any], *, status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")
