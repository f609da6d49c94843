"""Imports a plugin's file under a name of its own, so that no other module can be taken for it."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import itertools
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType

from kong_pdk.plugin.description import Source

_lock = threading.RLock()
_count = itertools.count(1)

# Folders of plugins that are loaded in this process, each a plugin's own.
_own_folders: set[str] = set()


def execute(source: Source, code: bytes) -> ModuleType:
    """Run ``code``, the content of the plugin's file, as a new module and return it.

    A plugin in a folder of its own imports its siblings absolutely or relatively, and they come before modules of
    the same name elsewhere. A plugin that is a file of the plugin folder imports files beside it, after everything
    that is installed: a plugin ``redis.py`` can import the library. What it prints goes to stderr. Raises whatever
    the import raises; of a module that failed nothing is left in ``sys.modules``.
    """
    private = f"_kong_plugin_{re.sub('[^A-Za-z0-9_]', '_', source.name)}_{next(_count)}"
    folder = str(source.file.parent)
    own = source.file.parent.name == source.name or source.file.stem != source.name
    with _lock, contextlib.redirect_stdout(sys.stderr), _nothing_left_on_failure(private):
        _add_to_path(folder, own)
        compiled = compile(code, str(source.file), "exec", dont_inherit=True)
        if not own:
            return _run(_module(private, source.file), compiled)
        _forget_siblings_of_others(source.file.parent)
        _own_folders.add(folder)
        return _run_in_package(private, source.file, compiled)


def _add_to_path(folder: str, own: bool) -> None:
    if folder in sys.path:
        if not own:
            return
        sys.path.remove(folder)
    sys.path.insert(0 if own else len(sys.path), folder)


def _forget_siblings_of_others(folder: Path) -> None:
    """Make room for siblings that have the name of a module in another plugin's folder.

    The other plugin keeps the modules that it has imported already.
    """
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or "." in name or name.startswith("_kong_plugin_"):
            continue
        home = Path(file).parent.parent if Path(file).name == "__init__.py" else Path(file).parent
        if str(home) in _own_folders and home != folder and _has(folder, name):
            for each in [other for other in sys.modules if other == name or other.startswith(f"{name}.")]:
                del sys.modules[each]


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").exists() or (folder / name).is_dir()


def _run_in_package(private: str, file: Path, compiled: CodeType) -> ModuleType:
    """Run the plugin as a package (``__init__.py``) or as a module in one, so that it has relative imports."""
    if file.name == "__init__.py":
        return _run(_module(private, file, file.parent), compiled)
    initial = file.parent / "__init__.py"
    package = _module(private, initial if initial.is_file() else None, file.parent)
    if initial.is_file():
        _run(package, compile(initial.read_bytes(), str(initial), "exec", dont_inherit=True))
    stem = file.stem if file.stem.isidentifier() else "_plugin"
    module = sys.modules.get(f"{private}.{stem}")
    # The package's own __init__.py may have imported the plugin's file already.
    return module if module else _run(_module(f"{private}.{stem}", file), compiled)


def _module(name: str, file: Path | None, package: Path | None = None) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(name, str(file)) if file else None
    search = [str(package)] if package else None
    spec = importlib.machinery.ModuleSpec(name, loader, origin=str(file) if file else None, is_package=bool(package))
    spec.has_location = file is not None
    if search:
        spec.submodule_search_locations = search
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    return module


def _run(module: ModuleType, compiled: CodeType) -> ModuleType:
    # The module was just now read and compiled: a cached one could be that of the edit before.
    exec(compiled, module.__dict__)  # noqa: S102 - running the author's code is what a plugin server is for
    return sys.modules.get(module.__name__, module)


@contextlib.contextmanager
def _nothing_left_on_failure(private: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for name in [name for name in sys.modules if name.partition(".")[0] == private]:
            del sys.modules[name]
        raise
