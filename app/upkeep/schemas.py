from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from app.kit.fields import Instant
from app.testclock.service import MOVE_SECONDS_MAX


class MoveIn(BaseModel):
    """Either of the two."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"advance_seconds": 86400}]}
    )

    advance_seconds: Annotated[StrictInt, Field(ge=1, le=MOVE_SECONDS_MAX)] | None = None
    now: Instant | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.advance_seconds is None) == (self.now is None):
            raise ValueError("either advance_seconds or now")
        return self


class ClockOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"now": "2026-07-16T12:00:00Z", "offset_seconds": 86400}]}
    )

    now: datetime
    offset_seconds: int
