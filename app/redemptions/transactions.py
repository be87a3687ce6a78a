"""A card transaction as the issuer or its processor sends it, and the answer it gets."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, get_args

import msgspec

from app.errors import Invalid
from app.kit.cards import looks_like_card_number
from app.kit.money import is_currency
from app.redemptions.domain import Reason, State, TransactionType

AMOUNT_MINOR_MAX = 10**15
FIELD_CHARACTERS_MAX = 256
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
# Value dates and test feeds run ahead of our clock and do no harm: a coupon has ended by then. What
# is further ahead is a broken date.
AHEAD_MAX = timedelta(days=366)

# An acquirer may name its acceptors in digits, and of any digits a tenth pass the Luhn check.
_MAY_LOOK_LIKE_A_CARD = frozenset({"acquirer_id", "acceptor_id", "amount_minor"})
_NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_ABOUT_FIELD = re.compile(r"^(?P<what>.*) - at `\$\.(?P<name>\w+)`$")

AnswerStatus = Literal["applied", "ignored", "unmatched", "rejected"]
IgnoredReason = Literal["not_linked", "not_registered"]
RejectedReason = Literal["id_reused", "purchase_mismatch", "purchase_too_large"]
_REFUSALS: dict[str, str] = {
    "id_reused": "a transaction of this id was taken with other contents",
    "purchase_mismatch": "this purchase_id belongs to another member, partner or currency",
    "purchase_too_large": "the sums of this purchase are more than any purchase's",
}


class MalformedTransaction(Invalid):
    """The detail names the field and never repeats what was in it."""

    code = "malformed_transaction"


_Text = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=FIELD_CHARACTERS_MAX,
        extra_json_schema={"pattern": _NO_CONTROLS},
    ),
]


class Transaction(msgspec.Struct, frozen=True):
    """`amount_minor` is in minor units of `currency`. Only a refund may lack its `purchase_id`."""

    id: _Text
    type: TransactionType
    card_ref: _Text
    acquirer_id: _Text
    acceptor_id: _Text
    amount_minor: Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MINOR_MAX)]
    currency: Annotated[
        str, msgspec.Meta(pattern="^[A-Z]{3}$", extra_json_schema={"format": "iso-4217"})
    ]
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)]
    purchase_id: _Text | None = None


class Answer(msgspec.Struct, frozen=True):
    """`decision` and what follows it are the purchase's after this transaction; null where there is
    no coupon. `reason` is the decision's when that is `rejected`, else the status's.
    """

    id: str
    status: AnswerStatus
    decision: State | None = None
    reason: Reason | IgnoredReason | RejectedReason | None = None
    purchase_id: str | None = None
    coupon_id: str | None = None
    offer_id: str | None = None
    reward_minor: int = 0
    currency: str | None = None


class _Named(msgspec.Struct):
    id: _Text


_decoder = msgspec.json.Decoder(Transaction)
_name_decoder = msgspec.json.Decoder(_Named)


def read_transaction(raw: bytes, *, now: datetime) -> Transaction:
    """From a JSON object; fields without a meaning here are passed over. Raises
    MalformedTransaction.
    """
    _refuse_card_numbers(raw)
    try:
        found = _decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise MalformedTransaction(_say(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedTransaction("not a JSON object") from None
    for name in ("id", "purchase_id", "card_ref", "acquirer_id", "acceptor_id"):
        if _CONTROLS.search(getattr(found, name) or ""):
            raise MalformedTransaction(f"{name}: holds a control character")
    if found.purchase_id is None and found.type != "refund":
        raise MalformedTransaction("purchase_id: only a refund may come without it")
    if not is_currency(found.currency):
        raise MalformedTransaction("currency: not a code of ISO 4217")
    if not EARLIEST <= found.occurred_at <= now + AHEAD_MAX:
        raise MalformedTransaction("occurred_at: before 2000, or more than a year ahead")
    return found


def readable_id(raw: bytes) -> str | None:
    """Of one that is malformed, to tell it by."""
    try:
        found = _name_decoder.decode(raw).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if _CONTROLS.search(found) or looks_like_card_number(found) else found


def _refuse_card_numbers(raw: bytes) -> None:
    text = raw.decode("utf-8", "replace")
    # an escape could hide a digit
    if "\\u" not in text and not looks_like_card_number(text):
        return
    try:
        fields: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if not isinstance(fields, dict):
        return
    for name, value in fields.items():
        if looks_like_card_number(name):
            raise MalformedTransaction("a field's name looks like a card number")
        if name in _MAY_LOOK_LIKE_A_CARD and not isinstance(value, dict | list):
            continue
        if looks_like_card_number(msgspec.json.encode(value).decode()):
            raise MalformedTransaction(f"{_known(name)}: looks like a card number")


def _known(name: str) -> str:
    return name if name in Transaction.__struct_fields__ else "a field"


def _say(complaint: str) -> str:
    found = _ABOUT_FIELD.match(complaint)
    if found is None:
        return complaint
    if found["name"] == "type":  # msgspec repeats the value
        return f"type: not one of {', '.join(get_args(TransactionType))}"
    if found["name"] == "amount_minor" and ", got " in found["what"]:
        return "amount_minor: an integer in minor units, such as 500 for 5.00"
    return f"{found['name']}: {found['what']}"


def refusal(answer: Answer) -> Invalid | None:
    """Why a rejected one was not taken."""
    if answer.status != "rejected":
        return None
    code = str(answer.reason)
    return Invalid(_REFUSALS[code], code=code)
