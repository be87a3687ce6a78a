from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import BaseModel

from app.insight.models import Sale


class RedemptionOut(BaseModel):
    """Amounts in minor units of `currency`; `spend_minor` is what was bought and kept."""

    id: UUID
    state: str
    offer: str
    partner: str
    hashtag: str
    network: str
    buyer: str
    channel: str
    customer_kind: str
    country: str
    purchased_at: datetime
    minutes_from_post: int
    currency: str
    spend_minor: int
    reward_minor: int
    refunded_minor: int

    @classmethod
    def of(cls, row: tuple[Sale, str, str]) -> Self:
        sale, offer, partner = row
        return cls(
            id=sale.redemption_id,
            state=sale.state,
            offer=offer,
            partner=partner,
            hashtag=sale.hashtag,
            network=sale.network,
            buyer=sale.buyer,
            channel=sale.channel,
            customer_kind=sale.customer_kind,
            country=sale.country,
            purchased_at=sale.purchased_at,
            minutes_from_post=int((sale.purchased_at - sale.posted_at).total_seconds() // 60),
            currency=sale.currency,
            spend_minor=sale.spend_minor,
            reward_minor=sale.reward_minor,
            refunded_minor=sale.refunded_minor,
        )
