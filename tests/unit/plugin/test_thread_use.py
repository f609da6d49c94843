"""Which plugins get threads: those whose own source imports what greenlets would change."""

from __future__ import annotations

from pathlib import Path

import pytest
from kong_pdk.plugin.static_scan import StaticScan
from kong_pdk.plugin.thread_use import NEED_THREADS, needs_threads


def scanned(folder: Path, **files: str) -> str | None:
    """Write files of a folder, and look at ``plugin.py``."""
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return needs_threads(StaticScan.parse(folder / "plugin.py"))


@pytest.mark.parametrize("module", sorted(NEED_THREADS))
@pytest.mark.parametrize("form", ["import {}", "import os, {}.x as y", "from {} import x", "from {}.x import y"])
def test_an_import_of_what_needs_threads_is_found(tmp_path, module, form):
    found = scanned(tmp_path, plugin=f"\n\ndef access(self, kong):\n    {form.format(module)}\n")
    assert found is not None
    assert found.startswith(f"{tmp_path}/plugin.py:4 imports {module}")


@pytest.mark.parametrize(
    "text",
    ["import time, json, socket\n", "threading = 1\n", "from requests import threading_local\n", "import asyncpg\n"],
)
def test_other_imports_are_none_of_it(tmp_path, text):
    assert scanned(tmp_path, plugin=text) is None


@pytest.mark.parametrize(
    "text",
    ["import helpers", "from helpers import x", "from . import helpers", "from .helpers import x", "import inner.deep"],
)
def test_the_files_beside_it_that_it_imports_count(tmp_path, text):
    found = scanned(
        tmp_path, plugin=text, helpers="import again", again="import helpers\nimport queue", inner__deep="import queue"
    )
    assert found is not None
    assert found.endswith(("again.py:2 imports queue", "deep.py:1 imports queue"))


def test_the_files_of_other_plugins_do_not(tmp_path):
    assert scanned(tmp_path, plugin="import json", other="import threading") is None


def test_a_file_beside_it_that_is_broken_is_left_to_the_import(tmp_path):
    assert scanned(tmp_path, plugin="import helpers", helpers="def (") is None
