from sqlalchemy.exc import IntegrityError


def violated_constraint(error: IntegrityError) -> str | None:
    """The constraint's or unique index's name, as PostgreSQL tells it."""
    driver_error = error.orig.__cause__ if error.orig else None
    name = getattr(driver_error, "constraint_name", None)
    return name if isinstance(name, str) else None
