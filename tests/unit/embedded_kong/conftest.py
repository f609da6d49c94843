"""A prefix for each test, and an environment without KONG variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("KONG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KONG_PREFIX", str(tmp_path / "kong"))
    return tmp_path / "kong"
