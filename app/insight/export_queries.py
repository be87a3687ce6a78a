"""What leaves the house: each set is one statement, so one snapshot, and its columns have the types
that the statement gives them. Amounts are minor units.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    String,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.insight.models import Sale
from app.kit.db import Query
from app.ledger.models import Adjustment, CreditBatch, CreditLine
from app.members.models import Member
from app.offers.models import Coupon, Offer
from app.partners.models import Partner
from app.posts.models import Decision, ReceivedPost
from app.redemptions.models import Purchase, Redemption

# What a spreadsheet takes for the start of a formula, in the full width of East Asian keyboards
# too; and what says that it is none, so that taking one away gives back any text as it was.
_FORMULA_STARTS = tuple(map(ord, "'=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))

EXPORTS: dict[str, Query] = {
    "redemptions": select(
        Redemption.id.label("redemption_id"),
        Redemption.state,
        Redemption.reason,
        Offer.ref.label("offer_ref"),
        Partner.ref.label("partner"),
        Offer.hashtag,
        Coupon.network,
        Coupon.post_id,
        Member.ref.label("member_ref"),
        Purchase.ref.label("purchase_id"),
        Purchase.occurred_at.label("purchased_at"),
        Coupon.posted_at,
        Purchase.channel,
        Purchase.customer_kind,
        Purchase.currency,
        Purchase.authorised_minor,
        Purchase.cleared_minor,
        Purchase.refunded_minor,
        Purchase.net_minor,
        Redemption.owed_minor.label("reward_minor"),
        Redemption.credited_minor,
    )
    .select_from(Redemption)
    .join(Purchase, Purchase.id == Redemption.purchase_id)
    .join(Coupon, Coupon.id == Redemption.coupon_id)
    .join(Member, Member.id == Purchase.member_id)
    .join(Offer, Offer.id == Coupon.offer_id)
    .join(Partner, Partner.id == Offer.partner_id)
    .order_by(Redemption.id),
    "coupons": select(
        Coupon.id.label("coupon_id"),
        Offer.ref.label("offer_ref"),
        Partner.ref.label("partner"),
        Offer.hashtag,
        Coupon.offer_version,
        Member.ref.label("member_ref"),
        Coupon.network,
        Coupon.post_id,
        Coupon.posted_at,
        Coupon.loaded_at,
        Coupon.valid_until,
        Coupon.uses,
        Coupon.uses_max,
        Offer.currency,
        Coupon.reserved_minor,
        Coupon.spent_minor,
        Coupon.closed_at,
    )
    .select_from(Coupon)
    .join(Member, Member.id == Coupon.member_id)
    .join(Offer, Offer.id == Coupon.offer_id)
    .join(Partner, Partner.id == Offer.partner_id)
    .order_by(Coupon.id),
    "posts": select(
        ReceivedPost.network,
        ReceivedPost.post_id,
        ReceivedPost.root_id,
        ReceivedPost.author_id,
        ReceivedPost.posted_at,
        ReceivedPost.received_at,
        ReceivedPost.source,
        ReceivedPost.mentions_programme,
        ReceivedPost.lang,
        ReceivedPost.reach,
        Offer.ref.label("offer_ref"),
        Offer.hashtag,
        Decision.outcome,
        Decision.decided_at,
        Decision.coupon_id,
    )
    .select_from(ReceivedPost)
    .outerjoin(
        Decision,
        and_(Decision.network == ReceivedPost.network, Decision.post_id == ReceivedPost.post_id),
    )
    .outerjoin(Offer, Offer.id == Decision.offer_id)
    .order_by(ReceivedPost.network, ReceivedPost.post_id, Decision.offer_id),
    "credits": select(
        CreditLine.id.label("line_id"),
        CreditLine.batch_id,
        CreditBatch.created_at,
        CreditBatch.acknowledged_at,
        Member.ref.label("member_ref"),
        CreditLine.card_ref,
        CreditLine.amount_minor,
        CreditLine.currency,
        CreditLine.state,
        CreditLine.failure,
        CreditLine.redemption_id,
        CreditLine.adjustment_id,
        Adjustment.ref.label("adjustment_ref"),
    )
    .select_from(CreditLine)
    .join(CreditBatch, CreditBatch.id == CreditLine.batch_id)
    .join(Member, Member.id == CreditLine.member_id)
    .outerjoin(Adjustment, Adjustment.id == CreditLine.adjustment_id)
    .order_by(CreditLine.batch_id, CreditLine.id),
}

# How soon a purchase followed its post tells whose post it was, where posts are public: that is for
# the programme alone.
_OF_THE_POST = (
    Sale.posted_at,
    cast(
        func.floor(func.extract("epoch", Sale.purchased_at - Sale.posted_at) / 60), BigInteger
    ).label("minutes_from_post"),
)


def sales(conditions: Sequence[ColumnElement[bool]], *, for_partner: bool) -> Query:
    """As GET /v1/redemptions shows them, and more of the post for the programme."""
    return (
        select(
            Sale.redemption_id.label("id"),
            Sale.state,
            Sale.reason,
            Offer.ref.label("offer"),
            Partner.ref.label("partner"),
            Sale.hashtag,
            Sale.network,
            Sale.buyer,
            Sale.channel,
            Sale.customer_kind,
            Sale.country,
            Sale.purchased_at,
            Sale.currency,
            Sale.spend_minor,
            Sale.reward_minor,
            Sale.refunded_minor,
            *(() if for_partner else _OF_THE_POST),
        )
        .join(Offer, Offer.id == Sale.offer_id)
        .join(Partner, Partner.id == Sale.partner_id)
        .where(*conditions)
        .order_by(Sale.redemption_id)
    )


def as_csv(query: Query) -> Query:
    """Times in RFC 3339, as the others have them, and no text that a spreadsheet would run."""
    rows = query.subquery("rows")
    return select(*(_plain(column).label(column.name) for column in rows.c))


def _plain(column: ColumnElement[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, DateTime):
        return func.to_json(column).op("#>>")(text("'{}'"))
    if isinstance(column.type, Boolean):
        return cast(column, Text)
    if isinstance(column.type, String):
        guarded = literal("'") + column
        return case((func.ascii(column).in_(_FORMULA_STARTS), guarded), else_=column)
    return column


def as_json(query: Query) -> Query:
    """One JSON object a row."""
    return select(func.row_to_json(query.subquery("rows").table_valued()))


async def take_any_time(session: AsyncSession) -> None:
    """Statements of the transaction may, as long as there is somebody to read what they find."""
    await session.execute(text("SET LOCAL transaction_timeout = 0"))
    await session.execute(text("SET LOCAL statement_timeout = 0"))
    await session.execute(text("SET LOCAL client_connection_check_interval = '1s'"))
