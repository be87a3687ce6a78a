import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from app.sandbox.posts import XId
from app.sandbox.records import Entry
from app.sandbox.state import State

_HANDLE = re.compile("[A-Za-z0-9_]{1,15}")


class NewPerson(Struct, forbid_unknown_fields=True, kw_only=True):
    """With the id of a person already known: that person, changed."""

    handle: Annotated[str, Meta(pattern=f"^{_HANDLE.pattern}$")]
    id: XId | None = None
    name: str | None = None
    created_at: Annotated[datetime, Meta(tz=True)] | None = None
    followers: Annotated[int, Meta(ge=0)] | None = None
    default_picture: bool | None = None


def make_person(state: State, new: NewPerson) -> str:
    """The person's id. A ValueError says why not."""
    holder = state.ids_by_handle.get(new.handle.lower())
    if holder is not None and holder != new.id:
        raise ValueError(f"the handle {new.handle} belongs to {holder}")
    person = state.people.get(new.id or "") or state.new_person(new.handle, id=new.id)
    given = {
        name: value for name, value in msgspec.structs.asdict(new).items() if value is not None
    }
    person = msgspec.structs.replace(person, **given)
    state.record(Entry(person=person))
    return person.id


def person_by_handle(state: State, written: str) -> str:
    """The id of who has this handle, a new person if need be. A ValueError says why not."""
    handle = written.strip().removeprefix("@")
    if known := state.ids_by_handle.get(handle.lower()):
        return known
    if not _HANDLE.fullmatch(handle):
        raise ValueError("a handle is 1 to 15 letters, digits or underscores")
    person = state.new_person(handle)
    state.record(Entry(person=person))
    return person.id
