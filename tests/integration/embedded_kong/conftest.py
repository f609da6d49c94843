"""The prefix of the unit tests."""

from __future__ import annotations

from unit.embedded_kong.conftest import prefix

__all__ = ["prefix"]
