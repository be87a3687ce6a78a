from datetime import UTC, datetime, timedelta

_ahead = timedelta()


def now() -> datetime:
    """The time as every step sees it: read once at the edge, then passed down. It is the real time
    but where the test clock was moved (`app/testclock`).
    """
    return datetime.now(UTC) + _ahead


def ahead() -> timedelta:
    """How far this process is ahead of the real time."""
    return _ahead


def set_ahead(ahead: timedelta) -> None:
    """For the test clock alone."""
    global _ahead  # noqa: PLW0603 - a process has one time
    _ahead = ahead
