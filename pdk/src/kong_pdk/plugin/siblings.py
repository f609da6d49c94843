"""Modules beside a plugin: which file ``import helpers`` is in a plugin's own code.

In a process with one plugin its folder is the first entry of ``sys.path``, as that of a script. In a process with
several, each of them that has a folder gets its own ``helpers``, at its import as well as later and on any thread:
its ``import`` statements, ``__import__`` and ``importlib.import_module`` look into its folder first, and what they find
there is a submodule of the plugin's package. Only names that a library looks up for a plugin, as ``pickle`` and
``logging.config`` do, are those of ``sys.path``.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

# Folders that plugins of this process are in.
_opened: set[str] = set()

# Folders of plugins that are kept apart, by the plugin's package.
_apart: dict[str, str] = {}

_several = False

_python_import = builtins.__import__
_python_import_module = importlib.import_module


def keep_apart() -> None:
    """Several plugins are to be loaded into this process."""
    global _several
    _several = True


def are_apart(package: str) -> bool:
    """Whether the modules beside a plugin are submodules of its package."""
    return package in _apart


def open_folder(folder: Path, package: str | None) -> None:
    """Let a plugin import the modules of a folder.

    :param package: the plugin's package where the folder is its own; None for a plugin that is a file of the folder.
    """
    path = str(folder)
    others = any(other != path and other in sys.path for other in _opened)
    _opened.add(path)
    if package is None:
        if path not in sys.path:
            sys.path.insert(_end_of_path(), path)
    elif _several or others:
        _apart[package] = path
        if path not in sys.path:
            sys.path.append(path)
        builtins.__import__ = _import
        importlib.import_module = _import_module
    else:
        if path in sys.path:
            sys.path.remove(path)
        sys.path.insert(0, path)


def _end_of_path() -> int:
    """The place before the folders that are kept apart: a plugin that is a file does not find modules of others."""
    places = [place for place, entry in enumerate(sys.path) if entry in _apart.values()]
    return min(places, default=len(sys.path))


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """What ``import`` statements call."""
    # An empty list is C code's, which looks for the module under its plain name afterwards.
    package = _package_of(globals) if level == 0 and fromlist != [] else None
    if package is None or not _is_sibling(package, name):
        return _python_import(name, globals, locals, fromlist or (), level)
    found = _python_import(f"{package}.{name}", globals, locals, fromlist or (), 0)
    return found if fromlist else sys.modules[f"{package}.{name.partition('.')[0]}"]


def _import_module(name: str, package: str | None = None) -> ModuleType:
    """Stands for ``importlib.import_module``."""
    importer = None if name.startswith(".") else _package_of(sys._getframe(1).f_globals)
    private = f"{importer}.{name}" if importer and _is_sibling(importer, name) else name
    return _python_import_module(private, package)


def _package_of(names: Mapping[str, object] | None) -> str | None:
    """The package of the plugin whose code imports, if it is one that is kept apart."""
    importer: Any = names.get("__name__") if names else None
    if importer is None:  # __import__("helpers"), or code that exec runs with names of its own
        frame = sys._getframe(2)
        while importer is None and frame is not None:
            importer = frame.f_globals.get("__name__")
            frame = frame.f_back  # type: ignore[assignment]
    if not isinstance(importer, str):
        return None
    package = ".".join(importer.split(".", 2)[:2])
    return package if package in _apart else None


def _is_sibling(package: str, name: str) -> bool:
    """Whether a plugin's ``import name`` is that of a module in its folder."""
    top = name.partition(".")[0]
    if f"{package}.{top}" in sys.modules:
        return True
    if top in sys.builtin_module_names or (top in sys.stdlib_module_names and top in sys.modules):
        return False
    spec = importlib.machinery.PathFinder.find_spec(top, [_apart[package]])
    # A folder without __init__.py comes after everything else, as in Python.
    return spec is not None and (spec.loader is not None or not _is_elsewhere(top))


@cache
def _is_elsewhere(top: str) -> bool:
    others = [entry for entry in sys.path if entry not in _apart.values()]
    return top in sys.modules or importlib.machinery.PathFinder.find_spec(top, others) is not None
