"""The folder of wheels and the data directory of the unit tests."""

from __future__ import annotations

from unit.packages.conftest import data, environ, folder, index, installed, located, one, write

__all__ = ["data", "environ", "folder", "index", "installed", "located", "one", "write"]
