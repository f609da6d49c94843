"""Loads a plugin into this process and checks everything about it that Kong, or its first request, would trip on."""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from kong_pdk import settings
from kong_pdk.exception_text import describe
from kong_pdk.mode import ENGINES
from kong_pdk.plugin import description, module
from kong_pdk.plugin.authors_line import authors_line
from kong_pdk.plugin.description import Field, Plugin, Source
from kong_pdk.plugin.handlers import Handlers
from kong_pdk.plugin.outline import Binding, Outline, syntax_problem
from kong_pdk.plugin.problem import NotAPlugin, PluginError, Problem
from kong_pdk.plugin.schema import check_schema

_VERSION = re.compile(r"\d+\.\d+\.\d+\Z", re.ASCII)

# Larger integers lose digits in Lua.
_MAX_PRIORITY = 2**53

# Where the package is named otherwise than the module.
_PACKAGES = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "jose": "python-jose",
    "jwt": "PyJWT",
    "OpenSSL": "pyOpenSSL",
    "PIL": "Pillow",
    "psycopg2": "psycopg2-binary",
    "re2": "google-re2",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


def load(source: Source) -> Plugin:
    """Import a plugin and return it. ``if __name__ == "__main__"`` blocks in it do not run.

    A module that says no ``version`` has 0.1.0, one that says no ``priority`` has 0, one without ``Schema`` has no
    configuration, and without ``lua_style = False`` PDK calls return ``(value, err)``; ``engine`` and ``workers`` are
    left open where it does not say them. Raises :class:`PluginError` with all that is wrong, or :class:`NotAPlugin`
    if only the import could show that it is no plugin.
    """
    outline = Outline.parse(source.file, source.name)
    loaded = _import(source, outline)
    with readable(source):
        if not hasattr(loaded, "Plugin"):
            raise _no_plugin(source, outline)
        return Check(source, outline, loaded).plugin()


@contextlib.contextmanager
def readable(source: Source) -> Iterator[None]:
    """Turn what an author's own code raises while its attributes are looked at into :class:`PluginError`."""
    try:
        yield
    except PluginError:
        raise
    except Exception as error:
        file, line = authors_line(source.file, error)
        message = f"the plugin's attributes cannot be read: {' '.join(describe(error).split())}"
        cure = "let Plugin, Schema, version and priority be plain values"
        raise PluginError([Problem(file, line, message, cure, source.name)]) from error


def _import(source: Source, outline: Outline) -> ModuleType:
    try:
        return module.execute(source, outline.source)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # Authors may raise anything, sys.exit() included.
        raise PluginError([import_problem(source, error)]) from error


def _no_plugin(source: Source, outline: Outline) -> PluginError:
    message = "there is no Plugin after the import, though the source defines one"
    problem = Problem(source.file, outline.line_of("Plugin"), message, "do not delete Plugin", source.name)
    return (PluginError if outline.binds("Plugin") is Binding.YES else NotAPlugin)([problem])


def import_problem(source: Source, error: BaseException) -> Problem:
    if isinstance(error, SyntaxError):
        return syntax_problem(source.file, error, source.name)
    file, line = authors_line(source.file, error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return Problem(file, line, *_missing_module(source, error.name), source.name)
    if isinstance(error, SystemExit):
        message = f"import ends the process: sys.exit({'' if error.code is None else repr(error.code)})"
        cure = 'move what should run as a script below if __name__ == "__main__"'
        return Problem(file, line, message, cure, source.name)
    message = f"import raises {' '.join(describe(error).split()).removesuffix(':')}"
    return Problem(file, line, message, "mend this line; the plugin must be importable", source.name)


def _missing_module(source: Source, name: str) -> tuple[str, str]:
    top, _, inner = name.partition(".")
    if top.startswith("_kong_plugin_"):
        return f'there is no module "{inner}" in {source.file.parent}', "mend the name, or add the file"
    if top in sys.modules or top in sys.stdlib_module_names:
        guess = difflib.get_close_matches(name, [each for each in sys.modules if each.startswith(f"{top}.")], n=1)
        cure = f'did you mean "{guess[0]}"?' if guess else f"mend the name, or upgrade {_PACKAGES.get(top, top)}"
        return f'there is no module "{name}"', cure
    file = source.file.parent / "requirements.txt"
    cure = f"add {_PACKAGES.get(top, top)} to {file}, for the next start or kong-python install"
    if guess := difflib.get_close_matches(top, sys.stdlib_module_names, n=1, cutoff=0.8):
        cure += f', or did you mean "{guess[0]}"?'
    return f'module "{name}" is not installed', cure


class Check:
    """The attributes of one loaded module, with all that is wrong with them."""

    def __init__(self, source: Source, outline: Outline, loaded: ModuleType) -> None:
        self._source = source
        self._outline = outline
        self._module = loaded
        self._problems: list[Problem] = []

    def plugin(self) -> Plugin:
        """The plugin. Raises :class:`PluginError` with everything that is wrong."""
        cls = self._module.Plugin
        handlers = Handlers(self._source.name, self._source.file, cls, self._outline.line_of("Plugin"))
        self._problems.extend(handlers.problems)
        version, priority, schema = self._version(), self._priority(), self._schema()
        lua_style, engine, workers = self._lua_style(), self._engine(), self._workers()
        if self._problems:
            raise PluginError(self._problems)
        name, file = self._source.name, self._source.file
        return Plugin(name, file, cls, version, priority, handlers.phases, schema, lua_style, engine, workers)

    def _wrong(self, name: str, message: str, cure: str) -> None:
        line = self._outline.line_of(name)
        self._problems.append(Problem(self._source.file, line, message, cure, self._source.name))

    def _version(self) -> str:
        value: Any = getattr(self._module, "version", description.DEFAULT_VERSION)
        if not isinstance(value, str) or not _VERSION.match(value):
            self._wrong("version", f"version is {value!r}, not a string x.y.z", 'write version = "1.0.0"')
        return str(value)

    def _priority(self) -> int:
        value: Any = getattr(self._module, "priority", description.DEFAULT_PRIORITY)
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong("priority", f"priority is {value!r}, not an integer", "write priority = 10")
            return 0
        if abs(value) > _MAX_PRIORITY:
            self._wrong("priority", f"priority is {value}, too large for Kong", "write priority = 10")
        return int(value)

    def _lua_style(self) -> bool:
        value: Any = getattr(self._module, "lua_style", True)
        if not isinstance(value, bool):
            self._wrong("lua_style", f"lua_style is {value!r}, not True or False", "write lua_style = False")
        return bool(value)

    def _engine(self) -> str | None:
        value: Any = getattr(self._module, "engine", None)
        if not isinstance(value, str):  # a module's own, of a database for example
            return None
        if value not in ENGINES:
            self._wrong("engine", f"engine is {value!r}, not {settings.ENGINE.kind}", 'write engine = "gevent"')
        return value

    def _workers(self) -> int | None:
        value: Any = getattr(self._module, "workers", None)
        if not isinstance(value, int | str) or isinstance(value, bool):  # a pool of the module's own, for example
            return None
        try:
            return settings.WORKERS.parse(str(value))
        except ValueError:
            self._wrong("workers", f"workers is {value!r}, not {settings.WORKERS.kind}", "write workers = 4")
            return None

    def _schema(self) -> tuple[Field, ...]:
        value: Any = getattr(self._module, "Schema", ())
        try:
            fields, faults = check_schema(value)
        except RecursionError:
            self._wrong("Schema", "Schema is nested too deeply", "nest it less deeply")
            return ()
        for fault in faults:
            line = self._outline.line_in("Schema", fault.path)
            problem = Problem(self._source.file, line, fault.message, fault.cure, self._source.name)
            self._problems.append(problem)
        return fields
