"""How a page is made: its language, its headers, its template."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from starlette.staticfiles import StaticFiles

from app.config import Settings
from app.web.words import WORDS

_FOLDER = Path(__file__).parent
_LANGUAGES_MAX = 20  # of those that a browser asks for

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

static = StaticFiles(directory=_FOLDER / "static")


class PageRoute(APIRoute):
    """One whose errors are told on a page: `main` does so once the transaction is undone."""


def is_page(request: Request) -> bool:
    return isinstance(request.scope.get("route"), PageRoute)


def language_of(accepted: str, *, default: str) -> str:
    """The one of ours that a browser likes best, by its Accept-Language."""
    wanted: list[tuple[float, int, str]] = []
    for part in accepted.split(",")[:_LANGUAGES_MAX]:
        tag, _, weight = part.partition(";q=")
        language = tag.strip().partition("-")[0].lower()
        try:
            liking = float(weight) if weight else 1.0
        except ValueError:
            continue
        if language in WORDS and liking > 0:
            wanted.append((-liking, len(wanted), language))
    return min(wanted)[2] if wanted else default


def words_of(language: str) -> Callable[..., str]:
    """`say("x_done", handle="ann")`: text, which the template escapes."""
    words = WORDS[language]

    def say(name: str, **values: object) -> str:
        return words[name].format(**values)

    return say


def _policy(settings: Settings) -> str:
    """Nothing but our stylesheet. A form may lead to X, whose page answers a sign-in: browsers hold
    the answer's redirect to `form-action` as well.
    """
    x = urlsplit(settings.x_authorize_url)
    return (
        f"default-src 'none'; style-src 'self'; form-action 'self' {x.scheme}://{x.netloc}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )


def headers_of(settings: Settings) -> dict[str, str]:
    """An address may hold the issuer's link or X's code: it is told to nobody, and kept nowhere."""
    return {
        "Content-Security-Policy": _policy(settings),
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def render(template: str, **values: Any) -> str:  # noqa: ANN401
    return _templates.get_template(template).render(**values)


def show(
    request: Request,
    template: str,
    *,
    status: int = 200,
    **values: Any,  # noqa: ANN401
) -> HTMLResponse:
    settings = cast("Settings", request.app.state.settings)
    language = language_of(
        request.headers.get("accept-language", ""), default=settings.default_locale
    )
    text = render(
        template,
        language=language,
        say=words_of(language),
        programme_name=settings.programme_name,
        **values,
    )
    return HTMLResponse(text, status, headers_of(settings))
