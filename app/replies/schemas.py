from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from app.kit.fields import Words
from app.replies.budget import Channel
from app.replies.domain import State
from app.replies.models import Reply


class ScopeIn(BaseModel):
    """Without an offer: all replies."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{}, {"offer_id": "0198f0c2-7d10-7000-8000-000000000003"}]},
    )

    offer_id: UUID | None = None

    @property
    def scope(self) -> UUID | Literal["all"]:
        return "all" if self.offer_id is None else self.offer_id


class AnnouncementIn(BaseModel):
    """Without a text, one is made from the offer's terms."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "text": "5 dollars back at Corner Coffee: post #CornerCoffee and pay by card.",
                    "dry_run": True,
                }
            ]
        },
    )

    text: Words | None = None
    again: bool = False
    dry_run: bool = False


class AnnouncementOut(BaseModel):
    """`reply_id` is null for a dry run."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "reply_id": None,
                    "text": "5 dollars back at Corner Coffee: post #CornerCoffee and pay by card.",
                    "warning": None,
                }
            ]
        }
    )

    reply_id: UUID | None
    text: str
    warning: str | None


class ReplyOut(BaseModel):
    """`in_reply_to_id`: the post or the direct message that is answered; an announcement answers
    none. A farewell is about no offer. `cost_microusd`: when it was sent.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-00000000000c",
                    "network": "x",
                    "channel": "post",
                    "in_reply_to_id": "1945000000000000001",
                    "posted_at": "2026-07-15T09:30:00Z",
                    "offer_id": "0198f0c2-7d10-7000-8000-000000000003",
                    "kind": "confirmation",
                    "locale": "en",
                    "text": "Your coupon is loaded: 5 dollars back at Corner Coffee.",
                    "state": "sent",
                    "attempts": 1,
                    "outcome_unknown": False,
                    "not_before": "2026-07-15T09:30:01Z",
                    "sent_post_id": "1945000000000000777",
                    "cost_microusd": 10000,
                    "problem": None,
                    "created_at": "2026-07-15T09:30:01Z",
                    "updated_at": "2026-07-15T09:30:02Z",
                }
            ]
        }
    )

    id: UUID
    network: str
    channel: Channel
    in_reply_to_id: str | None
    posted_at: datetime
    offer_id: UUID | None
    kind: Literal["confirmation", "invitation", "refusal", "announcement", "farewell"]
    locale: str
    text: str
    state: State
    attempts: int
    outcome_unknown: bool
    not_before: datetime
    sent_post_id: str | None
    cost_microusd: int | None
    problem: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, reply: Reply) -> Self:
        return cls.model_validate({**vars(reply), "in_reply_to_id": reply.post_id})
