"""Members' JSON, of requests and of files. A value that looks like a card number is refused in
whatever field it comes, known or not, and is nowhere repeated.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from babel import Locale, UnknownLocaleError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.kit.cards import looks_like_card_number
from app.kit.fields import Country, ExternalId, Instant, ShortText, TimeZone
from app.members.models import Account, Card, Member

# The ids of accounts on X have 18 or 19 digits by now, and a tenth of them pass for card numbers.
_ACCOUNT_ID_DIGITS_MIN = 18

CARD_NUMBER_DIGITS_MIN = 13

Path = tuple[str | int, ...]


@lru_cache(maxsize=1_024)
def _known_locale(value: str) -> str:
    try:
        Locale.parse(value.replace("_", "-"), sep="-")
    except (UnknownLocaleError, ValueError):
        raise ValueError("no locale as in en or fr-CA") from None
    return value


def _long_values(given: object) -> Iterator[tuple[Path, str]]:
    """Every text and number within that is long enough for a card number, and where it is."""
    left: list[tuple[Path, object]] = [((), given)]
    while left:
        path, holder = left.pop()
        if isinstance(holder, dict):
            inner: Iterable[tuple[str | int, object]] = holder.items()
        elif isinstance(holder, list):
            inner = enumerate(holder)
        else:
            inner = ()
        for name, value in inner:
            if isinstance(value, (dict, list)):
                left.append(((*path, name), value))
            elif len(text := str(value)) >= CARD_NUMBER_DIGITS_MIN:
                yield (*path, name), text


def _is_account_id(path: Path, value: str) -> bool:
    is_id = path in (("account", "id"), ("id",))
    return is_id and value.isdigit() and len(value) >= _ACCOUNT_ID_DIGITS_MIN


LastFour = Annotated[str, StringConstraints(pattern=r"^\d{4}$")]
KnownLocale = Annotated[
    str,
    StringConstraints(min_length=2, max_length=35),
    AfterValidator(_known_locale),
    Field(json_schema_extra={"format": "bcp-47"}),
]


class WithoutCardNumbers(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _refuse_card_numbers(cls, given: Any) -> Any:  # noqa: ANN401 - whatever was sent
        found = [
            InitErrorDetails(
                type=PydanticCustomError("card_number", "looks like a card number"),
                loc=path,
                input=None,
            )
            for path, value in _long_values(given)
            if looks_like_card_number(value) and not _is_account_id(path, value)
        ]
        if found:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return given


class AccountIn(WithoutCardNumbers):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"network": "x", "id": "2244994946", "handle": "ann_at_work"}]
        }
    )

    network: Literal["x"]  # those that we can hear: who is linked elsewhere waits in vain
    id: ExternalId
    handle: ShortText | None = None


class CardIn(WithoutCardNumbers):
    card_ref: ExternalId
    network: ShortText | None = None
    last4: LastFour | None = None


class NewCardIn(CardIn):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"card_ref": "card-9b21", "network": "visa", "last4": "1881"},
                {"card_ref": "card-c004", "last4": "0004", "replaces": "card-9b21"},
            ]
        }
    )

    replaces: ExternalId | None = None


class MemberLine(WithoutCardNumbers):
    """One line of the issuer's file, and the body of POST /v1/members."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "member_ref": "m-1001",
                    "account": {"network": "x", "id": "2244994945", "handle": "ann_drinks_coffee"},
                    "card": {"card_ref": "card-7f3a", "network": "visa", "last4": "4242"},
                    "consented_at": "2026-07-02T08:00:00Z",
                    "locale": "en",
                    "time_zone": "America/New_York",
                    "country": "US",
                }
            ]
        }
    )

    member_ref: ExternalId
    account: AccountIn
    card: CardIn
    consented_at: Instant
    locale: KnownLocale | None = None
    time_zone: TimeZone | None = None
    country: Country | None = None


class MemberOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-000000000004",
                    "member_ref": "m-1001",
                    "locale": "en",
                    "time_zone": "America/New_York",
                    "country": "US",
                    "opted_out_at": None,
                    "created_at": "2026-07-02T08:00:02Z",
                }
            ]
        }
    )

    id: UUID
    member_ref: str
    locale: str | None
    time_zone: str | None
    country: str | None
    opted_out_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, member: Member) -> Self:
        return cls(
            id=member.id,
            member_ref=member.ref,
            locale=member.locale,
            time_zone=member.time_zone,
            country=member.country,
            opted_out_at=member.opted_out_at,
            created_at=member.created_at,
        )


class AccountOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "network": "x",
                    "id": "2244994945",
                    "handle": "ann_drinks_coffee",
                    "proved_by": "issuer",
                    "linked_at": "2026-07-02T08:00:02Z",
                }
            ]
        }
    )

    network: str
    id: str
    handle: str | None
    proved_by: str
    linked_at: datetime

    @classmethod
    def of(cls, account: Account) -> Self:
        return cls(
            network=account.network,
            id=account.account_id,
            handle=account.handle,
            proved_by=account.proved_by,
            linked_at=account.linked_at,
        )


class CardOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "card_ref": "card-7f3a",
                    "network": "visa",
                    "last4": "4242",
                    "state": "active",
                    "replaced_by": None,
                    "added_at": "2026-07-02T08:00:02Z",
                }
            ]
        }
    )

    card_ref: str
    network: str | None
    last4: str | None
    state: str
    replaced_by: str | None
    added_at: datetime

    @classmethod
    def of(cls, card: Card) -> Self:
        return cls(
            card_ref=card.ref,
            network=card.network,
            last4=card.last4,
            state=card.state,
            replaced_by=card.replaced_by,
            added_at=card.added_at,
        )
