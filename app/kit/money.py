"""Integer minor units, ISO 4217 exponents, one rounding."""

from decimal import Decimal
from functools import lru_cache

from babel.numbers import format_currency, get_currency_precision, list_currencies

BASIS_POINTS = 10_000


def is_currency(code: str) -> bool:
    return code in _currencies()


@lru_cache(maxsize=1)
def _currencies() -> frozenset[str]:
    return frozenset(list_currencies(locale="en"))


@lru_cache(maxsize=512)
def exponent(currency: str) -> int:
    """Digits after the decimal sign: 2 for USD, 0 for JPY, 3 for BHD (CLDR's currency data)."""
    return get_currency_precision(currency)


def share(amount_minor: int, basis_points: int) -> int:
    """`basis_points` hundredths of a per cent of an amount >= 0, half up, rounded once."""
    return (amount_minor * basis_points + BASIS_POINTS // 2) // BASIS_POINTS


@lru_cache(maxsize=65_536)
def display(amount_minor: int, currency: str, locale: str = "en") -> str:
    """As a reader of `locale` writes it: `$5.00`, `5,00 €`, `¥500`."""
    amount = Decimal(amount_minor).scaleb(-exponent(currency))
    return format_currency(amount, currency, locale=locale)
