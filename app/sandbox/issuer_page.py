"""The issuer, as its app would stand between a card-holder and Tagback: a page that makes the
hand-off link by which a card comes to be linked. It is no part of X, and knows no card number.
"""

import secrets
from base64 import b32encode
from datetime import datetime, timedelta
from hmac import digest
from html import escape
from typing import Annotated
from urllib.parse import urlencode
from zoneinfo import available_timezones

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from joserfc import jwt
from joserfc.jwk import OctKey
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from app.kit.cards import looks_like_card_number
from app.kit.fields import Country, ExternalId, explain
from app.sandbox import look
from app.sandbox.settings import SandboxSettings
from app.sandbox.web import SandboxDep, read_form

router = APIRouter()

HANDOFF_LIFE = timedelta(minutes=10)
_NETWORKS = ("visa", "mastercard", "amex", "discover", "jcb")
_LOCALES = ("en-US", "en-GB", "fr-FR", "fr-CA")


class Holder(BaseModel):
    """What the form asks for; the last three may be left out."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    member_ref: ExternalId
    card_network: Annotated[str, StringConstraints(pattern="^[a-z]{1,32}$")]
    last4: Annotated[str, StringConstraints(pattern="^[0-9]{4}$")]
    locale: Annotated[str, StringConstraints(pattern="^[a-z]{2}(-[A-Z]{2})?$")] | None = None
    country: Country | None = None
    time_zone: str | None = None


@router.get("/issuer")
async def show_form() -> Response:
    return HTMLResponse(_page({}))


@router.post("/issuer")
async def make_link(request: Request, sandbox: SandboxDep) -> Response:
    """The form's fields: `member_ref`, `card_network`, `last4`, and `locale`, `country` and
    `time_zone` if need be. Answered with the page, and the link in it.
    """
    form = {name: value.strip() for name, value in (await read_form(request)).items()}
    if any(looks_like_card_number(value) for value in form.values()):
        # not shown again either
        problem = "This looks like a card number: none belongs here"
        return HTMLResponse(_page({}, problem=problem), 400)
    try:
        holder = Holder.model_validate({name: value for name, value in form.items() if value})
    except ValidationError as error:
        return HTMLResponse(_page(form, problem=explain(error)), 400)
    if holder.time_zone and holder.time_zone not in available_timezones():
        return HTMLResponse(_page(form, problem=f"{holder.time_zone} is no time zone"), 400)
    state = sandbox.state
    return HTMLResponse(_page(form, link=handoff_link(state.settings, holder, state.now())))


def handoff_link(settings: SandboxSettings, holder: Holder, now: datetime) -> str:
    """To Tagback's page, for this card-holder, for ten minutes. The same card has the same
    reference each time.
    """
    secret = settings.handoff_secret
    card = f"{holder.member_ref} {holder.card_network} {holder.last4}"
    claims = {
        "iss": "issuer",
        "aud": "tagback",
        "jti": _letters(secrets.token_bytes(20)),
        "iat": int(now.timestamp()),
        "exp": int((now + HANDOFF_LIFE).timestamp()),
        "sub": holder.member_ref,
        "card_ref": f"card-{_letters(digest(secret.encode(), card.encode(), 'sha256')[:10])}",
        **holder.model_dump(exclude={"member_ref"}, exclude_none=True),
    }
    token = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret))
    return f"{settings.tagback_url.rstrip('/')}/link?{urlencode({'handoff': token})}"


def _letters(raw: bytes) -> str:
    """Hardly any digits, so that nothing made by chance looks like a card number."""
    return b32encode(raw).decode().lower()


def _page(form: dict[str, str], *, problem: str = "", link: str = "") -> str:
    def value(name: str) -> str:
        return f'name="{name}" value="{escape(form.get(name, ""))}"'

    networks = "".join(_option(name, form.get("card_network", "")) for name in _NETWORKS)
    locales = "".join(f'<option value="{name}">' for name in _LOCALES)
    made = (
        f"<p>Made for {escape(form['member_ref'])}, for ten minutes, to be used once:</p>"
        f'<p><a href="{escape(link)}">Link the card that ends in {escape(form["last4"])}</a></p>'
        if link
        else ""
    )
    return look.page(
        "Issuer stand-in",
        f"""<p><small>In place of the app of a bank, which knows who its card-holder is and hands
 him over to Tagback. Never type a card number. <a href="/">Timeline</a></small></p>
{made}<form method="post" action="/issuer">{look.alert(f"{problem}." if problem else "")}
<label>Member reference <input {value("member_ref")} required maxlength="128"
 autocomplete="off" placeholder="M00001"></label>
<label>Card network <select name="card_network">{networks}</select></label>
<label>Last four digits <input {value("last4")} required inputmode="numeric" pattern="[0-9]{{4}}"
 maxlength="4" autocomplete="off" placeholder="4242"></label>
<label>Language <input {value("locale")} list="locales" autocomplete="off"
 placeholder="en-US"></label>
<datalist id="locales">{locales}</datalist>
<label>Country <input {value("country")} maxlength="2" autocomplete="off"
 placeholder="US"></label>
<label>Time zone <input {value("time_zone")} autocomplete="off"
 placeholder="America/New_York"></label>
<button>Make the link</button></form>""",
    )


def _option(name: str, chosen: str) -> str:
    selected = " selected" if name == chosen else ""
    return f'<option value="{name}"{selected}>{name}</option>'
