"""docs/security.md names the test of each promise."""

from __future__ import annotations

import re
from pathlib import Path

from unit.deploy.manifests import REPOSITORY

PAGE = (REPOSITORY / "docs" / "security.md").read_text("utf-8")
CONTAINER = REPOSITORY / "tests" / "container" / "image"


def test_every_test_that_it_names_exists() -> None:
    rows = re.findall(r"^\| [^|]+ \| (.*`.*) \|$", PAGE.partition("## What is tested")[2], re.MULTILINE)
    assert len(rows) >= 15
    for row in rows:
        place: Path | None = None
        for name in re.findall(r"`([^`]+)`", row):
            if not name.endswith(".py") and "/" not in name:
                assert place is not None, row
                assert f"def {name}(" in place.read_text("utf-8"), (place, name)
            else:
                place = REPOSITORY / name if "/" in name else CONTAINER / name
                assert place.exists(), name
