"""Finds out, without running it, whether a plugin's source needs threads: whether greenlets would change what it does.

On the loop all events of a plugin run on one thread. Two handlers that hold a lock over a PDK call would wait for each
other for good, and a ``threading.local`` would be one for all of them. What other packages do is not looked at: their
locks are held for their own steps, and not while the handler waits for Kong.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from kong_pdk.plugin.problem import PluginError
from kong_pdk.plugin.static_scan import StaticScan

NEED_THREADS = frozenset(
    {
        *("threading", "_thread", "queue", "concurrent", "multiprocessing"),
        *("asyncio", "anyio", "trio", "gevent", "greenlet", "eventlet"),
    }
)
"""The modules of which an import in a plugin's source means that its handlers run on threads."""


def needs_threads(scan: StaticScan) -> str | None:
    """Look for imports in a plugin's file, and in the files beside it that it imports.

    :param scan: the plugin's file.
    :return: ``FILE:LINE imports MODULE`` of the first import that needs threads; None where there is none.
    """
    folder = scan.file.parent
    todo, seen = [scan], {scan.file}
    while todo:
        current = todo.pop(0)
        for module, line in _imports(current.tree):
            if module.partition(".")[0] in NEED_THREADS:
                return f"{current.file}:{line} imports {module}"
            for file in _own_files(folder, module):
                if file not in seen:
                    seen.add(file)
                    todo.extend(_parsed(file))
    return None


def _imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Give the modules that a file imports anywhere, and the lines; a relative import as if it were absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.module, node.lineno
            prefix = f"{node.module}." if node.module else ""
            yield from ((prefix + alias.name, node.lineno) for alias in node.names)


def _own_files(folder: Path, module: str) -> Iterator[Path]:
    """Give the files of a module in the plugin's folder, and of the packages around it."""
    place = folder
    for name in module.split("."):
        place /= name
        yield from (file for file in (place.with_name(f"{name}.py"), place / "__init__.py") if file.is_file())


def _parsed(file: Path) -> list[StaticScan]:
    try:
        return [StaticScan.parse(file)]
    except PluginError:  # its import fails, and says why
        return []
