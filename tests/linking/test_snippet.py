"""What docs/linking.md tells an issuer to do works."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from app.linking.handoff import read_handoff
from tests.hand_offs import SECRET

_PAGE = Path(__file__).parents[2] / "docs" / "linking.md"


def test_the_snippet_makes_a_link_that_is_taken() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    made = subprocess.run(
        [sys.executable, "-c", snippet],
        env={"TAGBACK_HANDOFF_SECRET": SECRET, "TAGBACK_PUBLIC_URL": "https://tagback.example/"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    address, token = made.split("?handoff=")
    assert address == "https://tagback.example/link"
    found = read_handoff(token, secret=SECRET, now=datetime.now(UTC))
    assert (found.sub, found.card_ref, found.last4, found.country) == (
        "M1",
        "crd-9f2",
        "4242",
        "US",
    )
