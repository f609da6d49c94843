"""Imports a plugin's file under a name of its own, so that no other module can be taken for it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType

from kong_pdk.plugin import siblings
from kong_pdk.plugin.description import Source

PACKAGE = "_kong_plugins"
"""The package in which plugins are modules, or packages."""

# Which file is which plugin, for processes that this one starts: JSON, names of modules to paths.
_FILES = "_KONG_PLUGIN_FILES"

_lock = threading.RLock()


def execute(source: Source, code: bytes) -> ModuleType:
    """Run ``code``, the content of the plugin's file, as a new module and return it.

    A plugin in a folder of its own imports its siblings absolutely or relatively, and they come before modules of
    the same name elsewhere. A plugin that is a file of the plugin folder imports files beside it, after everything
    that is installed: a plugin ``redis.py`` can import the library. What it prints goes to stderr. Raises whatever
    the import raises; of a module that failed nothing is left in ``sys.modules``.
    """
    importlib.import_module(PACKAGE)
    with _lock, contextlib.redirect_stdout(sys.stderr):
        private = _name(source)
        siblings.open_folder(source.file.parent, private if _is_package(source.file, source.name) else None)
        _tell_children(private, source)
        with _nothing_left_on_failure(private):
            compiled = compile(code, str(source.file), "exec", dont_inherit=True)
            return _run(private, source, compiled)


def _name(source: Source) -> str:
    """The module's name; the second one of a plugin that is loaded again in this process has a number."""
    plain = f"{PACKAGE}.{re.sub('[^A-Za-z0-9_]', '_', source.name)}"
    numbered = (f"{plain}_{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([plain], numbered) if name not in sys.modules)


def _is_package(file: Path, plugin: str) -> bool:
    """Whether a plugin has a folder of its own, rather than being a file of the plugin folder."""
    return file.parent.name == plugin or file.stem != plugin


def _run(private: str, source: Source, compiled: CodeType) -> ModuleType:
    file = source.file
    if not _is_package(file, source.name):
        return _execute(_made(_spec(private, file)), compiled)
    package = _made(_package_spec(private, file.parent))
    if file.name == "__init__.py":
        return _execute(package, compiled)
    initial = file.parent / "__init__.py"
    if initial.is_file():
        _execute(package, compile(initial.read_bytes(), str(initial), "exec", dont_inherit=True))
    inner = f"{private}.{file.stem}"
    # The package's own __init__.py may have imported the plugin's file already.
    return sys.modules.get(inner) or _execute(_made(_spec(inner, file)), compiled)


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Reads the source itself: a compiled file beside it could be that of the edit before.

    A folder without ``__init__.py`` is a package as one with an empty one is, with files to be read as resources.
    """

    def get_data(self, path: str) -> bytes:
        if path == self.path and Path(path).name == "__init__.py" and not Path(path).exists():
            return b""
        return super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _spec(name: str, file: Path, search: Sequence[str] | None = None) -> importlib.machinery.ModuleSpec:
    loader = _SourceLoader(name, str(file))
    spec = importlib.machinery.ModuleSpec(name, loader, origin=str(file), is_package=search is not None)
    spec.has_location = True
    if search is not None:
        spec.submodule_search_locations = list(search)
    return spec


def _package_spec(name: str, folder: Path) -> importlib.machinery.ModuleSpec:
    return _spec(name, folder / "__init__.py", [str(folder)])


def _made(spec: importlib.machinery.ModuleSpec) -> ModuleType:
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    return module


def _execute(module: ModuleType, compiled: CodeType) -> ModuleType:
    # The module was just now read and compiled: a cached one could be that of the edit before.
    exec(compiled, module.__dict__)  # noqa: S102 - running the author's code is what a plugin server is for
    return sys.modules.get(module.__name__, module)


@contextlib.contextmanager
def _nothing_left_on_failure(private: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for name in [name for name in sys.modules if name == private or name.startswith(f"{private}.")]:
            del sys.modules[name]
        raise


def _tell_children(private: str, source: Source) -> None:
    """Have processes that this one starts find the plugin's module by its name."""
    told = [source.name, str(source.file), siblings.are_apart(private)]
    os.environ[_FILES] = json.dumps({**_told(), private: told})


def _told() -> dict[str, tuple[str, str, bool]]:
    try:
        told = json.loads(os.environ.get(_FILES, "{}"))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds plugins in a process that has not loaded them: one that ``multiprocessing`` has spawned, for example."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != PACKAGE:
            return None
        if fullname not in _told():
            raise ImportError(
                f"attempted relative import of {name} by a plugin that is a single file, which is in no package: "
                f"write import {name}, or give the plugin a folder"
            )
        plugin, text, apart = _told()[fullname]
        file = Path(text)
        if not _is_package(file, plugin):
            return _spec(fullname, file)
        if apart:
            siblings.keep_apart()
        siblings.open_folder(file.parent, fullname)
        return _package_spec(fullname, file.parent)


def find_plugins_here() -> None:
    """Have imports below the package find plugins."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
