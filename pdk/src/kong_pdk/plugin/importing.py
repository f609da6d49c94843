"""Imports a plugin's file as a module with a name of its own, and lets it import the modules beside it.

In a process with one plugin, the plugin's folder is the first entry of ``sys.path``, like the folder of a script. In a
process with several plugins (:func:`keep_apart`), ``import helpers`` in a plugin finds ``helpers`` in its own folder.
Names that a library looks up for a plugin (``pickle``, ``logging.config``) are those of ``sys.path``.
"""

from __future__ import annotations

import builtins
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
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from kong_pdk.plugin.description import Source

# The folders of the plugins in this process.
_opened_folders: set[str] = set()

# The folders of plugins whose modules are kept apart from those of other plugins, by the plugin's package.
_isolated: dict[str, str] = {}

_several_plugins = False

_python_import = builtins.__import__
_python_import_module = importlib.import_module


def keep_apart() -> None:
    """Announce that several plugins will be loaded into this process, each with the modules of its own folder."""
    global _several_plugins
    _several_plugins = True


def is_isolated(package: str) -> bool:
    """Whether the modules beside a plugin are submodules of its package."""
    return package in _isolated


def open_folder(folder: Path, package: str | None) -> None:
    """Let a plugin import the modules of a folder.

    :param package: the plugin's package if the folder is the plugin's own; None for a plugin that is a single file.
    """
    path = str(folder)
    others = any(other != path and other in sys.path for other in _opened_folders)
    _opened_folders.add(path)
    if package is None:
        if path not in sys.path:
            sys.path.insert(_index_before_isolated(), path)
    elif _several_plugins or others:
        _isolated[package] = path
        if path not in sys.path:
            sys.path.append(path)
        builtins.__import__ = _import_statement
        importlib.import_module = _import_module
    else:
        if path in sys.path:
            sys.path.remove(path)
        sys.path.insert(0, path)


def _index_before_isolated() -> int:
    """The index before the isolated folders: a plugin that is a single file does not import modules from them."""
    indexes = [index for index, entry in enumerate(sys.path) if entry in _isolated.values()]
    return min(indexes, default=len(sys.path))


def _import_statement(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """Replaces ``builtins.__import__``, which ``import`` statements call."""
    # C code passes an empty list, and then looks for the module in sys.modules under its plain name.
    package = _package_of(globals) if level == 0 and fromlist != [] else None
    if package is None or not _is_sibling(package, name):
        return _python_import(name, globals, locals, fromlist or (), level)
    module = _python_import(f"{package}.{name}", globals, locals, fromlist or (), 0)
    return module if fromlist else sys.modules[f"{package}.{name.partition('.')[0]}"]


def _import_module(name: str, package: str | None = None) -> ModuleType:
    """Replaces ``importlib.import_module``."""
    importer = None if name.startswith(".") else _package_of(sys._getframe(1).f_globals)
    private = f"{importer}.{name}" if importer and _is_sibling(importer, name) else name
    return _python_import_module(private, package)


def _package_of(names: Mapping[str, object] | None) -> str | None:
    """The package of the plugin whose code imports; None if the plugin is not isolated."""
    importer: Any = names.get("__name__") if names else None
    if importer is None:  # __import__("helpers"), or code that exec runs with its own globals
        frame = sys._getframe(2)
        while importer is None and frame is not None:
            importer = frame.f_globals.get("__name__")
            frame = frame.f_back  # type: ignore[assignment]
    if not isinstance(importer, str):
        return None
    package = ".".join(importer.split(".", 2)[:2])
    return package if package in _isolated else None


def _is_sibling(package: str, name: str) -> bool:
    """Whether ``import name`` in an isolated plugin means a module of its folder."""
    top = name.partition(".")[0]
    if f"{package}.{top}" in sys.modules:
        return True
    if top in sys.builtin_module_names or (top in sys.stdlib_module_names and top in sys.modules):
        return False
    spec = importlib.machinery.PathFinder.find_spec(top, [_isolated[package]])
    # A folder without __init__.py (a namespace package) is found after everything else, as in Python.
    return spec is not None and (spec.loader is not None or not _is_importable_elsewhere(top))


@cache
def _is_importable_elsewhere(top: str) -> bool:
    others = [entry for entry in sys.path if entry not in _isolated.values()]
    return top in sys.modules or importlib.machinery.PathFinder.find_spec(top, others) is not None


PACKAGE = "_kong_plugins"
"""The package whose modules and subpackages are the plugins."""

# An environment variable that tells child processes the file of each plugin: JSON, module names to paths.
_FILES_VARIABLE = "_KONG_PLUGIN_FILES"

_lock = threading.RLock()


def execute(source: Source, code: bytes) -> ModuleType:
    """Run ``code``, the content of the plugin's file, as a new module, and return the module.

    A plugin with a folder of its own imports the modules beside it absolutely or relatively, and they are found before
    modules of the same name elsewhere. A plugin that is a single file finds the files beside it after everything that
    is installed: a plugin ``redis.py`` can import the library ``redis``. Output of the import goes to stderr. Raises
    whatever the import raises; a module that fails is removed from ``sys.modules``.
    """
    importlib.import_module(PACKAGE)
    with _lock, contextlib.redirect_stdout(sys.stderr):
        private = _module_name(source)
        open_folder(source.file.parent, private if _is_package(source.file, source.name) else None)
        _register_for_children(private, source)
        with _removed_on_failure(private):
            compiled = compile(code, str(source.file), "exec", dont_inherit=True)
            return _execute_files(private, source, compiled)


def _module_name(source: Source) -> str:
    """The module's name, with a number if the plugin is loaded again in this process."""
    plain = f"{PACKAGE}.{re.sub('[^A-Za-z0-9_]', '_', source.name)}"
    numbered = (f"{plain}_{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([plain], numbered) if name not in sys.modules)


def _is_package(file: Path, plugin: str) -> bool:
    """Whether a plugin has a folder of its own, and is not a single file of the plugin folder."""
    return file.parent.name == plugin or file.stem != plugin


def _execute_files(private: str, source: Source, compiled: CodeType) -> ModuleType:
    file = source.file
    if not _is_package(file, source.name):
        return _execute_code(_new_module(_spec(private, file)), compiled)
    package = _new_module(_package_spec(private, file.parent))
    if file.name == "__init__.py":
        return _execute_code(package, compiled)
    initial = file.parent / "__init__.py"
    if initial.is_file():
        _execute_code(package, compile(initial.read_bytes(), str(initial), "exec", dont_inherit=True))
    inner = f"{private}.{file.stem}"
    # The package's own __init__.py may have imported the plugin's file already.
    return sys.modules.get(inner) or _execute_code(_new_module(_spec(inner, file)), compiled)


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Reads the source and no compiled file, which could be older than the last edit.

    A folder without ``__init__.py`` is a package as if it had an empty one, and its files can be read as resources.
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


def _new_module(spec: importlib.machinery.ModuleSpec) -> ModuleType:
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    return module


def _execute_code(module: ModuleType, compiled: CodeType) -> ModuleType:
    exec(compiled, module.__dict__)  # noqa: S102 - a plugin server runs the author's code
    return sys.modules.get(module.__name__, module)


@contextlib.contextmanager
def _removed_on_failure(private: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for name in [name for name in sys.modules if name == private or name.startswith(f"{private}.")]:
            del sys.modules[name]
        raise


def _register_for_children(private: str, source: Source) -> None:
    """Let child processes find the plugin's module by its name."""
    entry = [source.name, str(source.file), is_isolated(private)]
    os.environ[_FILES_VARIABLE] = json.dumps({**_registered_files(), private: entry})


def _registered_files() -> dict[str, tuple[str, str, bool]]:
    try:
        files = json.loads(os.environ.get(_FILES_VARIABLE, "{}"))
    except ValueError:
        return {}
    return files if isinstance(files, dict) else {}


class _PluginFinder(importlib.abc.MetaPathFinder):
    """Finds plugins in a process that has not loaded them, such as one that ``multiprocessing`` spawned."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != PACKAGE:
            return None
        if fullname not in _registered_files():
            raise ImportError(
                f"attempted relative import of {name} by a plugin that is a single file, which is in no package: "
                f"write import {name}, or give the plugin a folder"
            )
        plugin, path_text, isolated = _registered_files()[fullname]
        file = Path(path_text)
        if not _is_package(file, plugin):
            return _spec(fullname, file)
        if isolated:
            keep_apart()
        open_folder(file.parent, fullname)
        return _package_spec(fullname, file.parent)


def find_plugins_here() -> None:
    """Let imports of submodules of the package find plugins."""
    if not any(isinstance(finder, _PluginFinder) for finder in sys.meta_path):
        sys.meta_path.append(_PluginFinder())
