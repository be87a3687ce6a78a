"""What any request may ask for, whichever context answers it."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions


def get_sessions(request: Request) -> Sessions:
    return cast("Sessions", request.app.state.sessions)


def get_app_settings(request: Request) -> Settings:
    return cast("Settings", request.app.state.settings)


SessionsDep = Annotated[Sessions, Depends(get_sessions)]
SettingsDep = Annotated[Settings, Depends(get_app_settings)]


async def get_session(sessions: SessionsDep) -> AsyncIterator[AsyncSession]:
    """The request's one transaction. A connection is taken at its first statement."""
    async with sessions.begin() as session:
        yield session


# The scope makes the commit come before the answer: what a caller was told is in the database.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
NowDep = Annotated[datetime, Depends(clock.now)]
