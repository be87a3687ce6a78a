from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from app.replies.domain import State
from app.replies.models import Reply
from app.replies.texts import Kind


class ScopeIn(BaseModel):
    """Without an offer: all replies."""

    model_config = ConfigDict(extra="forbid")

    offer_id: UUID | None = None

    @property
    def scope(self) -> UUID | Literal["all"]:
        return "all" if self.offer_id is None else self.offer_id


class ReplyOut(BaseModel):
    id: UUID
    network: str
    in_reply_to_id: str
    posted_at: datetime
    offer_id: UUID
    kind: Kind
    locale: str
    text: str
    state: State
    attempts: int
    outcome_unknown: bool
    not_before: datetime
    sent_post_id: str | None
    problem: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, reply: Reply) -> Self:
        return cls.model_validate({**vars(reply), "in_reply_to_id": reply.post_id})
