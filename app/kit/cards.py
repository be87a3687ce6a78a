"""Card numbers are refused wherever they appear: nothing here keeps or prints the value."""

import re

from stdnum import luhn

# In one run, or grouped as on the plastic (4-4-4-4…, 4-6-5). Any other grouping is an id: of UUIDs
# with their hyphens one in some thousand would otherwise pass for a card.
_NUMBER = re.compile(
    r"(?<!\d)\d{13,19}(?!\d)"
    r"|(?<![0-9A-Za-z])\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}(?![0-9A-Za-z-])"
    r"|(?<![0-9A-Za-z])\d{4}([ -])\d{6}\2\d{5}(?![0-9A-Za-z-])"
)


def looks_like_card_number(value: str) -> bool:
    """13 to 19 digits that pass the Luhn check."""
    return any(luhn.is_valid(re.sub(r"\D", "", run[0])) for run in _NUMBER.finditer(value))
