"""The keys that seal secrets at rest: those of `TAGBACK_SECRET_KEYS`; with the embedded database
also one that is made, once, beside it.
"""

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from app.config import Settings, SettingsError
from app.kit.sealing import Sealer, new_key

KEY_FILE = "secret.key"


def can_seal(settings: Settings) -> bool:
    return settings.secret_keys is not None or settings.database_url is None


def sealer_of(settings: Settings) -> Sealer:
    """Raises SettingsError that shows nothing of a key."""
    try:
        return Sealer(_keys(settings))
    except ValueError:
        raise SettingsError(
            "TAGBACK_SECRET_KEYS: each key, of several with commas between them, must be one that "
            "`tagback keys new-secret` printed"
        ) from None


def _keys(settings: Settings) -> list[str]:
    if settings.secret_keys is None:
        if settings.database_url is None:
            return [_own_key(_path(settings))]
        raise SettingsError(
            "TAGBACK_SECRET_KEYS is not set: secrets are kept sealed with it. "
            "`tagback keys new-secret` prints one"
        )
    given = settings.secret_keys.get_secret_value().split(",")
    keys = [key.strip() for key in given if key.strip()]
    if keys and settings.database_url is None:
        # what was sealed before the setting was there
        with suppress(FileNotFoundError):
            keys.append(_read(_path(settings)))
    return keys


def _path(settings: Settings) -> Path:
    return settings.data_dir.expanduser() / KEY_FILE


def _own_key(path: Path) -> str:
    """Made whole under another name and then given its own, which one process alone can do."""
    try:
        with suppress(FileNotFoundError):
            return _read(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f"{KEY_FILE}.{uuid4().hex}")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(new_key() + "\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            with suppress(FileExistsError):
                os.link(made, path)
        finally:
            made.unlink()
        return _read(path)
    except OSError as error:
        raise SettingsError(
            f"cannot keep a key in the data folder: {error}. Set TAGBACK_SECRET_KEYS to one that "
            "`tagback keys new-secret` prints"
        ) from error


def _read(path: Path) -> str:
    return path.read_text().strip()
