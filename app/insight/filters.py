"""Which sales are asked for: one set of filters for pages, exports and attribution."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Forbidden, Invalid
from app.insight.models import Sale
from app.kit.fields import Country, Currency, Instant, ShortText
from app.kit.hashtags import tag_key
from app.offers.models import Offer
from app.offers.terms import CustomerKind
from app.partners.auth import PrincipalDep
from app.partners.models import Partner
from app.redemptions.domain import Reason, State

VALUES_MAX = 100  # of one filter
Value = TypeVar("Value")
Several = Annotated[tuple[Value, ...], Field(max_length=VALUES_MAX)]
SalesChannel = Literal["in_store", "online"]
TagKey = Annotated[ShortText, AfterValidator(lambda tag: tag_key(tag.lstrip("#\uff03")))]


def _one_of(what: str) -> Any:  # noqa: ANN401 - the default of any field
    return Field((), description=f"{what}; repeated: one of them")


class Dimensions(BaseModel, frozen=True):
    """Several values of one field mean "one of these", none means all; fields are joined by
    "and".
    """

    offer: Several[ShortText] = _one_of("refs or ids")
    partner: Several[ShortText] = _one_of("refs or ids")
    hashtag: Several[TagKey] = _one_of("in any spelling, with # or without")
    network: Several[ShortText] = _one_of("such as x")
    channel: Several[SalesChannel] = _one_of("of the purchase")
    customer_kind: Several[CustomerKind] = _one_of("at the time of the purchase")
    country: Several[Country] = _one_of("of the shop")
    currency: Several[Currency] = _one_of("ISO 4217")


DIMENSIONS = tuple(Dimensions.model_fields)


class Filters(Dimensions, frozen=True):
    """Times are from `since` on and before `until`."""

    state: Several[State] = _one_of("of the redemption")
    reason: Several[Reason] = _one_of("why it was rejected")
    purchased_since: Instant | None = None
    purchased_until: Instant | None = None
    posted_since: Instant | None = Field(None, description="not for partners")
    posted_until: Instant | None = Field(None, description="not for partners")


# for each column of sales that is asked for, the values to keep
OneOf = dict[str, Sequence[Any]]


async def conditions(session: AsyncSession, wanted: Filters) -> list[ColumnElement[bool]]:
    """On `sales`. Raises Invalid for an offer or a partner that the session's role does not see."""
    one_of = await named(session, wanted)
    one_of |= {name: values for name in ("state", "reason") if (values := getattr(wanted, name))}
    found = [getattr(Sale, name).in_(values) for name, values in one_of.items()]
    if wanted.purchased_since is not None:
        found.append(Sale.purchased_at >= wanted.purchased_since)
    if wanted.purchased_until is not None:
        found.append(Sale.purchased_at < wanted.purchased_until)
    if wanted.posted_since is not None:
        found.append(Sale.posted_at >= wanted.posted_since)
    if wanted.posted_until is not None:
        found.append(Sale.posted_at < wanted.posted_until)
    return found


async def named(session: AsyncSession, wanted: Dimensions) -> OneOf:
    """Offers and hashtags are the ids of the offers that both leave. Raises Invalid as `conditions`
    does.
    """
    one_of: OneOf = {}
    if wanted.offer or wanted.hashtag:
        query = select(Offer.id).order_by(Offer.id)
        if wanted.offer:
            query = query.where(Offer.id.in_(await _ids(session, Offer, "offer", wanted.offer)))
        if wanted.hashtag:
            query = query.where(Offer.tag_key.in_(wanted.hashtag))
        one_of["offer_id"] = (await session.scalars(query)).all()
    if wanted.partner:
        one_of["partner_id"] = await _ids(session, Partner, "partner", wanted.partner)
    of_sales = ("network", "channel", "customer_kind", "country", "currency")
    return one_of | {name: values for name in of_sales if (values := getattr(wanted, name))}


async def _ids(
    session: AsyncSession, table: type[Offer | Partner], what: str, names: Sequence[str]
) -> list[UUID]:
    """A ref may be of several partners' offers: then all are meant."""
    ids = [found for name in names if (found := _as_id(name)) is not None]
    query = select(table.id, table.ref).where(table.ref.in_(names) | table.id.in_(ids))
    rows = (await session.execute(query)).all()
    known = {row.ref for row in rows} | {row.id for row in rows}
    for name in names:
        if name not in known and _as_id(name) not in known:
            raise Invalid(f"{what}: there is no {name!r}")
    return [row.id for row in rows]


def _as_id(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None


def get_filters(principal: PrincipalDep, wanted: Annotated[Filters, Query()]) -> Filters:
    """Raises Forbidden for a partner that asks by the time of the post: halving the time again and
    again would tell the minute, and so whose post it was.
    """
    if principal.partner_id is not None and (wanted.posted_since or wanted.posted_until):
        raise Forbidden("when a post was made is not a partner's affair")
    return wanted


def get_dimensions(wanted: Annotated[Dimensions, Query()]) -> Dimensions:
    return wanted


FiltersDep = Annotated[Filters, Depends(get_filters)]
