"""Finds the plugins of a folder without running their code."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection
from pathlib import Path

from kong_pdk.plugin import names
from kong_pdk.plugin.description import Source
from kong_pdk.plugin.problem import PluginError, Problem
from kong_pdk.plugin.static_scan import Binding, StaticScan

# A Kubernetes ConfigMap is mounted with `..data` and `..2026_11_23_...`, which begin with a dot too.
_SKIPPED_PREFIXES = (".", "_")
_SKIPPED_NAMES = frozenset({"tests"})

# pytest's test files and its conftest.py: a test imports the class that it tests, and so has a `Plugin` too.
_TEST_FILES = ("test_*.py", "*_test.py", "conftest.py")


def find(folder: Path, only: Collection[str] | None = None) -> tuple[list[Source], list[Problem]]:
    """The plugins of ``folder``, sorted by name, and all problems of the folder.

    A plugin is a file ``NAME.py``, or a folder ``NAME`` with ``NAME.py``, ``plugin.py`` or ``__init__.py``, that
    binds ``Plugin``. Where only the import shows whether it does (``from x import *``), the file counts as a plugin
    here. Test files are skipped. A plugin with a problem is not among the sources. Raises nothing: a folder that
    cannot be read is a problem.

    :param only: look at plugins of these names, and those whose names collide with them; None for all.
    """
    keys = None if only is None else {names.key_of(name) for name in only}
    problems: list[Problem] = []
    sources: list[Source] = []
    for entry in _entries(folder, problems):
        if keys is not None and names.key_of(entry.name.removesuffix(".py")) not in keys:
            continue
        try:
            source = _source(entry)
        except PluginError as error:
            problems.extend(error.problems)
            continue
        if source:
            sources.append(source)
    name_problems = [problem for source in sources if (problem := names.check(source))]
    name_problems.extend(names.collisions(sources))
    refused = {problem.plugin for problem in name_problems}
    return [source for source in sources if source.name not in refused], problems + name_problems


def _entries(folder: Path, problems: list[Problem]) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        hint = "create it, mount it there, or name another folder (KONG_PYTHON_PLUGINS_DIR)"
        problems.append(Problem(folder, None, "plugin folder does not exist", hint))
        return []
    except NotADirectoryError:
        problems.append(Problem(folder, None, "plugin folder is not a folder", "name the folder that the file is in"))
        return []
    except OSError as error:
        message = f"plugin folder cannot be read ({error.strerror})"
        hint = "let the user that runs the server read and enter it (chmod a+rx)"
        problems.append(Problem(folder, None, message, hint))
        return []
    return [
        entry for entry in entries if not entry.name.startswith(_SKIPPED_PREFIXES) and entry.name not in _SKIPPED_NAMES
    ]


def _source(entry: Path) -> Source | None:
    """The plugin at an entry of the folder, None if it is not one. Raises :class:`PluginError` if it cannot be read."""
    try:
        is_folder = stat.S_ISDIR(entry.stat().st_mode)
    except OSError:
        is_folder = False
    if is_folder:
        return _source_in_folder(entry)
    if entry.suffix == ".py" and not _is_test(entry) and _may_bind_plugin(entry, entry.stem):
        return Source(entry.stem, entry)
    return None


def _source_in_folder(folder: Path) -> Source | None:
    name = folder.name
    try:
        present = {entry.name for entry in folder.iterdir()}
        folder_is_open = os.access(folder, os.X_OK)
    except OSError:
        present, folder_is_open = set(), False
    if not folder_is_open:
        hint = "let the user that runs the server read and enter it (chmod a+rx)"
        raise PluginError([Problem(folder, None, "folder cannot be read", hint, name)])
    for candidate in (f"{name}.py", "plugin.py", "__init__.py"):
        file = folder / candidate
        if candidate in present and not _is_test(file) and _may_bind_plugin(file, name):
            return Source(name, file)
    return None


def skipped_tests(folder: Path) -> list[Problem]:
    """A problem for each file that is skipped because it is named like a test, although it defines a plugin."""
    files = [entry for entry in _entries(folder, []) if _is_test(entry) and entry.is_file()]
    return [problem for file in files if (problem := _skipped_test(file))]


def _is_test(file: Path) -> bool:
    return any(file.match(pattern) for pattern in _TEST_FILES)


def _skipped_test(file: Path) -> Problem | None:
    with contextlib.suppress(PluginError):
        scan = StaticScan.parse(file)
        plugin = scan.class_with_phases("Plugin")
        if plugin and not scan.has_tests():
            message = (
                "the file has a Plugin, but is skipped: it is named like a test (test_*.py, *_test.py, conftest.py)"
            )
            return Problem(file, plugin.lineno, message, "if it is a plugin, rename it", file.stem)
    return None


def _may_bind_plugin(file: Path, name: str) -> bool:
    scan = StaticScan.parse(file, name)
    if scan.binds("Plugin") is not Binding.NO:
        return True
    if misnamed_plugin := scan.misnamed_plugin():
        message = f'class "{misnamed_plugin.name}" handles a phase of Kong, but is not named Plugin'
        raise PluginError([Problem(file, misnamed_plugin.lineno, message, 'name it "Plugin"', name)])
    return False
