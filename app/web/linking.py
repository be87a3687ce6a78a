"""`/link`: sign in with X, bring a card, agree; see what is linked, stop, unlink. Without scripts:
each form is answered with a redirect to the page, which says what has come of it.
"""

import hmac
from hashlib import sha256
from typing import Annotated, NamedTuple
from urllib.parse import urlencode, urlsplit

import structlog
from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from app.config import Settings
from app.deps import NowDep, SessionDep, SessionsDep, SettingsDep
from app.errors import Forbidden, Invalid, TagbackError
from app.linking import service, sign_in
from app.linking.handoff import read_handoff
from app.linking.service import LINKED
from app.web.pages import PageRoute, headers_of, language_of, show
from app.web.words import CONSENT_VERSION, GOOD_NEWS, PROBLEMS

log = structlog.get_logger(__name__)


router = APIRouter(include_in_schema=False, route_class=PageRoute)


class Browser(NamedTuple):
    """`token` is what its cookie holds, ours or not."""

    token: str | None
    text_version: str  # of the consent, in the language that the browser is shown

    @property
    def csrf(self) -> str:
        return sha256(f"csrf {self.token}".encode()).hexdigest()


def _cookie_name(settings: Settings) -> str:
    """The prefix makes a browser take it from this host alone, and by https."""
    return "__Host-tagback" if _is_https(settings) else "tagback"


def _is_https(settings: Settings) -> bool:
    return settings.public_url is not None and settings.public_url.scheme == "https"


def get_browser(request: Request, settings: SettingsDep) -> Browser:
    language = language_of(
        request.headers.get("accept-language", ""), default=settings.default_locale
    )
    return Browser(request.cookies.get(_cookie_name(settings)), f"{CONSENT_VERSION} {language}")


BrowserDep = Annotated[Browser, Depends(get_browser)]


def get_own_form(
    request: Request,
    browser: BrowserDep,
    settings: SettingsDep,
    csrf: Annotated[str, Form()] = "",
) -> Browser:
    """The browser, if the form is of a page that we have given to it. Raises Forbidden, Invalid."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    # "null" is what a page that tells no referrer sends of its own forms
    origin = request.headers.get("origin", "null")
    if site != "same-origin" or origin not in ("null", _own_origin(settings)):
        raise Forbidden("a form of another site", code="csrf")
    if browser.token is None:
        raise Invalid("a form without our cookie", code="no_cookie")
    if not hmac.compare_digest(csrf.encode(), browser.csrf.encode()):
        raise Forbidden("a form of another session", code="csrf")
    return browser


OwnFormDep = Annotated[Browser, Depends(get_own_form)]


def _own_origin(settings: Settings) -> str | None:
    if settings.public_url is None:
        return None
    url = urlsplit(str(settings.public_url))
    return f"{url.scheme}://{url.netloc}"


def _what_is_missing(settings: Settings) -> list[str]:
    needed = {
        "TAGBACK_PUBLIC_URL": settings.public_url,
        "TAGBACK_HANDOFF_SECRET": settings.handoff_secret,
        "TAGBACK_X_CLIENT_ID": settings.x_client_id,
    }
    return [name for name, value in needed.items() if value is None]


def require_set_up(settings: SettingsDep) -> None:
    if missing := _what_is_missing(settings):
        log.warning("linking_not_set_up", missing=missing)
        raise Invalid("linking is not set up", code="not_set_up")


SET_UP = [Depends(require_set_up)]


def _back(settings: Settings, said: str | None = None, *, token: str | None = None) -> Response:
    """To the page, with nothing in its address but a word of ours."""
    query = "" if said is None else "?" + urlencode({"said": said})
    return _keep(RedirectResponse(f"/link{query}", 303, headers_of(settings)), settings, token)


def _keep(response: Response, settings: Settings, token: str | None) -> Response:
    if token is not None:
        response.set_cookie(
            _cookie_name(settings),
            token,
            max_age=int(LINKED.total_seconds()),
            path="/",
            secure=_is_https(settings),
            httponly=True,
            samesite="lax",
        )
    return response


def tell(request: Request, error: TagbackError) -> Response:
    """What a person can do something about is said on `/link`, in place of what he was about."""
    if isinstance(error, Forbidden):
        return show(request, "refused.html", status=error.status, said="csrf")
    if error.code in PROBLEMS:
        return _back(request.app.state.settings, error.code)
    return show(request, "refused.html", status=error.status, said="unavailable")


@router.get("/link")
async def link(
    request: Request,
    browser: BrowserDep,
    session: SessionDep,
    settings: SettingsDep,
    now: NowDep,
    handoff: str | None = None,
    said: str = "",
) -> Response:
    """Where the person stands. With the issuer's link: that is kept, and taken off the address."""
    if missing := _what_is_missing(settings):
        log.warning("linking_not_set_up", missing=missing)
        return show(request, "link.html", is_set_up=False)
    if handoff is not None and settings.handoff_secret is not None:
        found = read_handoff(handoff, secret=settings.handoff_secret.get_secret_value(), now=now)
        token = await service.keep_handoff(
            session, token=browser.token, link=handoff, handoff=found, now=now
        )
        return _back(settings, token=token)
    standing = await service.get_standing(
        session, token=browser.token, text_version=browser.text_version, now=now
    )
    # who has no cookie yet gets one: a form of his is known by it
    new = None if browser.token else service.new_token()
    browser = browser._replace(token=browser.token or new)
    problems = {
        standing.problem,
        "handoff_changed" if standing.handoff_changed else None,
        said if said in PROBLEMS else None,
    } - {None}
    page = show(
        request,
        "link.html",
        is_set_up=True,
        standing=standing,
        csrf=browser.csrf,
        text_version=browser.text_version,
        programme_handle=settings.x_handle,
        problems=sorted(problems),
        news=[said] if said in GOOD_NEWS else [],
    )
    return _keep(page, settings, new)


@router.post("/link/x", dependencies=SET_UP)
async def begin(
    browser: OwnFormDep, sessions: SessionsDep, settings: SettingsDep, now: NowDep
) -> Response:
    url, token = await sign_in.begin(sessions, settings, token=browser.token, now=now)
    return _keep(RedirectResponse(url, 303, headers_of(settings)), settings, token)


@router.get(sign_in.CALLBACK, dependencies=SET_UP)
async def come_back(
    browser: BrowserDep,
    sessions: SessionsDep,
    settings: SettingsDep,
    now: NowDep,
    state: str = "",
    code: str | None = None,
    error: str | None = None,
) -> Response:
    returned = sign_in.Returned(state, code, error)
    token = await sign_in.come_back(sessions, settings, returned, token=browser.token, now=now)
    return _back(settings, token=token)


@router.post("/link/consent", dependencies=SET_UP)
async def consent(
    browser: OwnFormDep,
    session: SessionDep,
    settings: SettingsDep,
    now: NowDep,
    about: Annotated[str, Form()] = "",
    agreed: Annotated[str, Form()] = "",
) -> Response:
    if agreed != "yes":
        raise Invalid("the box is not ticked", code="consent_missing")
    await service.consent(
        session, token=browser.token, about=about, text_version=browser.text_version, now=now
    )
    return _back(settings, "agreed")


@router.post("/link/unlink", dependencies=SET_UP)
async def unlink(
    browser: OwnFormDep,
    session: SessionDep,
    settings: SettingsDep,
    now: NowDep,
    sure: Annotated[str, Form()] = "",
) -> Response:
    if sure != "yes":
        raise Invalid("the box is not ticked", code="unlink_unsure")
    await service.unlink(session, token=browser.token, now=now)
    return _back(settings, "unlinked")


@router.post("/link/stop", dependencies=SET_UP)
async def stop(
    browser: OwnFormDep, session: SessionDep, settings: SettingsDep, now: NowDep
) -> Response:
    await service.stop(session, token=browser.token, now=now)
    return _back(settings, "stopped")
