import os
import time
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62


def new_id() -> UUID:
    """A UUID version 7 (RFC 9562): made before the row is written, and ordered by time in indexes.

    The standard library has its own only from Python 3.14.
    """
    random_bits = int.from_bytes(os.urandom(10))
    milliseconds = time.time_ns() // 1_000_000
    high = (random_bits >> 68) & 0xFFF
    low = random_bits & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=(milliseconds << 80) | _VERSION_7 | (high << 64) | _VARIANT | low)
