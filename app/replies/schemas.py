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

    model_config = ConfigDict(extra="forbid")

    offer_id: UUID | None = None

    @property
    def scope(self) -> UUID | Literal["all"]:
        return "all" if self.offer_id is None else self.offer_id


class AnnouncementIn(BaseModel):
    """Without a text, one is made from the offer's terms."""

    model_config = ConfigDict(extra="forbid")

    text: Words | None = None
    again: bool = False
    dry_run: bool = False


class AnnouncementOut(BaseModel):
    """`reply_id` is null for a dry run."""

    reply_id: UUID | None
    text: str
    warning: str | None


class ReplyOut(BaseModel):
    """`in_reply_to_id`: the post or the direct message that is answered; an announcement answers
    none. A farewell is about no offer. `cost_microusd`: when it was sent.
    """

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
