"""Secrets that must be kept and used again, encrypted at rest."""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class SealError(ValueError):
    """What is there was not sealed with any of these keys, or was changed since."""


class Sealer:
    """`keys`: Fernet keys, of which the first seals and any opens, so that a key can be replaced
    without losing what the old one has sealed. Raises ValueError for what is no such key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("there is no key")
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, secret: str) -> bytes:
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        """Raises SealError."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise SealError("sealed with another key, or changed since") from error


def new_key() -> str:
    return Fernet.generate_key().decode()
