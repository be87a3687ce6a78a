from datetime import UTC, datetime


def now() -> datetime:
    """The time as every step sees it: read once at the edge, then passed down."""
    return datetime.now(UTC)
