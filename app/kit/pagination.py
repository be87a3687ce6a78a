"""Keyset pages by id: `?limit=&cursor=` in, `{"items": […], "next_cursor": …}` out."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, NamedTuple, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel, BeforeValidator, Field

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000

Cursor = Annotated[str, Field(max_length=64)]
Item = TypeVar("Item")
Row = TypeVar("Row")


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next_cursor: str | None


class Paging(NamedTuple):
    """Read `limit + 1` rows whose id is greater than `after`, ordered by id, and give them to
    `make_page`: the extra one tells that there are more.
    """

    limit: int
    after: UUID | None


def encode_cursor(last_id: UUID) -> str:
    return urlsafe_b64encode(last_id.bytes).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> UUID:
    """Raises ValueError for what `encode_cursor` never gave."""
    try:
        return UUID(bytes=urlsafe_b64decode(cursor + "=="))
    except (binascii.Error, ValueError):
        raise ValueError("no cursor of this service") from None


def get_paging(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
    cursor: Annotated[
        Annotated[UUID, BeforeValidator(decode_cursor, json_schema_input_type=Cursor)] | None,
        Query(description="`next_cursor` of the page before"),
    ] = None,
) -> Paging:
    return Paging(limit, cursor)


PagingDep = Annotated[Paging, Depends(get_paging)]


def make_page(
    rows: Sequence[Row],
    paging: Paging,
    *,
    show: Callable[[Row], Item],
    row_id: Callable[[Row], UUID],
) -> Page[Item]:
    shown = rows[: paging.limit]
    more = len(rows) > paging.limit
    next_cursor = encode_cursor(row_id(shown[-1])) if more else None
    return Page(items=[show(row) for row in shown], next_cursor=next_cursor)
