"""Loads a plugin into this process and checks everything that would fail in Kong or in the first request."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from kong_pdk import settings
from kong_pdk.exception_text import describe, traceback_location
from kong_pdk.failure_policy import CLOSED, OPEN
from kong_pdk.masking import without_secrets
from kong_pdk.mode import ENGINES
from kong_pdk.plugin import importing, metadata, names
from kong_pdk.plugin.description import DEFAULT_PRIORITY, DEFAULT_VERSION, Plugin, Source
from kong_pdk.plugin.metadata import VERSION, AttributeValue, Metadata, nearest_version
from kong_pdk.plugin.phase_methods import PhaseMethods, async_phases
from kong_pdk.plugin.problem import NotAPlugin, PluginError, Problem
from kong_pdk.plugin.static_scan import Binding, StaticScan, syntax_problem
from kong_pdk.plugin.thread_use import needs_threads
from kong_pdk.schema import Field
from kong_pdk.schema.definition import check_schema
from kong_pdk.schema.foreign_shapes import ambiguous_fields

# Lua's numbers are doubles: larger integers lose digits.
_MAX_PRIORITY = 2**53

# Modules whose package has another name.
_PACKAGE_OF_MODULE = {
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
    """Import a plugin and return it. Its ``if __name__ == "__main__"`` blocks do not run.

    Defaults of a module's attributes: ``version`` 0.1.0, ``priority`` 0, a ``Schema`` without fields, and
    ``lua_style`` True (PDK calls return ``(value, err)``); ``engine`` and ``workers`` are None.
    :mod:`kong_pdk.plugin.metadata` has the spellings that are read. Raises :class:`PluginError` with all problems, or
    :class:`NotAPlugin` if the import shows that the file does not define a plugin.
    """
    scan = StaticScan.parse(source.file, source.name)
    module = _import_module(source, scan)
    with readable_attributes(source):
        if not hasattr(module, "Plugin"):
            raise _no_plugin_error(source, scan)
        return ModuleCheck(source, scan, module, main_block_ran=False).plugin()


@contextlib.contextmanager
def readable_attributes(source: Source) -> Iterator[None]:
    """Turn exceptions of the author's code, raised while its attributes are read, into :class:`PluginError`."""
    try:
        yield
    except PluginError:
        raise
    except Exception as error:
        file, line = traceback_location(source.file, error)
        message = f"the plugin's attributes cannot be read: {' '.join(describe(error).split())}"
        hint = "let Plugin, Schema, version and priority be plain values"
        raise PluginError([Problem(file, line, message, hint, source.name)]) from error


def _import_module(source: Source, scan: StaticScan) -> ModuleType:
    try:
        return importing.execute(source, scan.source)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # Authors may raise anything, sys.exit() included.
        raise PluginError([import_problem(source, error)]) from error


def _no_plugin_error(source: Source, scan: StaticScan) -> PluginError:
    message = "there is no Plugin after the import, though the source defines one"
    problem = Problem(source.file, scan.line_of("Plugin"), message, "do not delete Plugin", source.name)
    return (PluginError if scan.binds("Plugin") is Binding.YES else NotAPlugin)([problem])


def import_problem(source: Source, error: BaseException) -> Problem:
    """An exception of the import as a problem, with the line of the author's code that raised it."""
    if isinstance(error, SyntaxError):
        return syntax_problem(source.file, error, source.name)
    file, line = traceback_location(source.file, error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return Problem(file, line, *_missing_module(source, error.name), source.name)
    if isinstance(error, SystemExit):
        status = "" if error.code is None else without_secrets(repr(error.code))
        message = f"import ends the process: sys.exit({status})"
        hint = 'move what should run as a script below if __name__ == "__main__"'
        return Problem(file, line, message, hint, source.name)
    message = f"import raises {' '.join(describe(error).split()).removesuffix(':')}"
    return Problem(file, line, message, "fix this line; the plugin must be importable", source.name)


def _missing_module(source: Source, name: str) -> tuple[str, str]:
    top, _, inner = name.partition(".")
    if top == importing.PACKAGE:
        return (
            f'there is no module "{inner.partition(".")[2]}" in {source.file.parent}',
            "fix the name, or add the file",
        )
    if top in sys.modules or top in sys.stdlib_module_names:
        matches = difflib.get_close_matches(
            name, [module for module in sys.modules if module.startswith(f"{top}.")], n=1
        )
        hint = (
            f'did you mean "{matches[0]}"?'
            if matches
            else f"fix the name, or upgrade {_PACKAGE_OF_MODULE.get(top, top)}"
        )
        return f'there is no module "{name}"', hint
    file = source.file.parent / "requirements.txt"
    hint = f"add {_PACKAGE_OF_MODULE.get(top, top)} to {file}, for the next start or kong-python install"
    if matches := difflib.get_close_matches(top, sys.stdlib_module_names, n=1, cutoff=0.8):
        hint += f', or did you mean "{matches[0]}"?'
    return f'module "{name}" is not installed', hint


class ModuleCheck:
    """Checks the attributes of one loaded module and collects their problems and warnings."""

    def __init__(self, source: Source, scan: StaticScan, module: ModuleType, main_block_ran: bool) -> None:
        """:param main_block_ran: whether the values in ``if __name__ == "__main__"`` count."""
        self._metadata = Metadata(source, scan, module)
        self._main_block_ran = main_block_ran
        self._source = source
        self._scan = scan
        self._module = module
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []

    def plugin(self) -> Plugin:
        """The plugin. Raises :class:`PluginError` with all problems."""
        cls = self._module.Plugin
        phase_methods = PhaseMethods(self._source.name, self._source.file, cls, self._scan.line_of("Plugin"))
        self._problems.extend(phase_methods.problems)
        version, priority, schema = self._version(), self._priority(), self._schema()
        lua_style, engine, workers = self._lua_style(), self._engine(), self._workers()
        timeout, on_error = self._timeout(), self._on_error()
        if self._problems:
            raise PluginError([*self._problems, *self._metadata.unread_version()])
        warnings = [*self._metadata.warnings(), *self._warnings]
        if not self._main_block_ran:
            warnings.extend(self._metadata.warnings_of_main())
        return Plugin(
            name=self._source.name,
            file=self._source.file,
            cls=cls,
            version=version,
            priority=priority,
            phases=phase_methods.phases,
            async_phases=async_phases(cls),
            schema=schema,
            lua_style=lua_style,
            engine=engine,
            workers=workers,
            preload=self._preload(),
            timeout=timeout,
            on_error=on_error,
            needs_threads=needs_threads(self._scan),
            warnings=tuple(map(str, warnings)),
        )

    def _report(self, attribute: AttributeValue, message: str, write: str) -> None:
        hint = f"write {attribute.name} = {write}" if write else "nest it less deeply"
        problem = Problem(self._source.file, attribute.line, f"{attribute.name} is {message}", hint, self._source.name)
        self._problems.append(problem)

    def _version(self) -> str:
        attribute = self._metadata.find("version")
        if attribute is None:
            return DEFAULT_VERSION
        if not isinstance(attribute.value, str) or not VERSION.match(attribute.value):
            self._report(attribute, f"{attribute.value!r}, not a string x.y.z", f'"{nearest_version(attribute.value)}"')
        return str(attribute.value)

    def _priority(self) -> int:
        attribute = self._metadata.find("priority")
        if attribute is None:
            return DEFAULT_PRIORITY
        value: Any = attribute.value
        if not isinstance(value, int) or isinstance(value, bool):
            self._report(attribute, f"{value!r}, not an integer", str(_nearest_integer(value)))
            return 0
        if abs(value) > _MAX_PRIORITY:
            self._report(attribute, f"{value}, too large for Kong", "10")
        return int(value)

    def _lua_style(self) -> bool:
        attribute = self._metadata.find("lua_style")
        if attribute and not isinstance(attribute.value, bool):
            self._report(attribute, f"{attribute.value!r}, not True or False", "False")
        return bool(attribute.value) if attribute else True

    def _engine(self) -> str | None:
        attribute = self._metadata.find("engine")
        if not attribute or not isinstance(attribute.value, str):  # the module's own, a database engine for example
            return None
        if attribute.value not in ENGINES:
            self._report(attribute, f"{attribute.value!r}, not {settings.ENGINE.kind}", '"gevent"')
        return attribute.value

    def _workers(self) -> int | None:
        attribute = self._metadata.find("workers")
        value: Any = attribute.value if attribute else None
        # Anything else is the module's own, a pool for example.
        if not attribute or not isinstance(value, int | str) or isinstance(value, bool):
            return None
        try:
            return settings.WORKERS.parse(str(value))
        except ValueError:
            self._report(attribute, f"{value!r}, not {settings.WORKERS.kind}", "4")
            return None

    def _preload(self) -> bool:
        attribute = self._metadata.find("preload")
        # Anything else is the module's own, a function for example.
        return attribute is not None and attribute.value is True

    def _timeout(self) -> float | None:
        attribute = self._metadata.find("timeout")
        value: Any = attribute.value if attribute else None
        # Anything else is the module's own, an object of an HTTP client for example.
        if not attribute or not isinstance(value, int | float) or isinstance(value, bool):
            return None
        try:
            return settings.TIMEOUT.parse(f"{max(value, 0.001) if value > 0 else value:.3f}")
        except ValueError:
            self._report(attribute, f"{value!r}, not {settings.TIMEOUT.kind}", "10")
            return None

    def _on_error(self) -> str | None:
        attribute = self._metadata.find("on_error")
        if not attribute or not isinstance(attribute.value, str):  # the module's own, a function for example
            return None
        if attribute.value not in (OPEN, CLOSED):
            self._report(attribute, f"{attribute.value!r}, not {OPEN} or {CLOSED}", f'"{OPEN}"')
        return attribute.value

    def _schema(self) -> tuple[Field, ...]:
        attribute = self._metadata.find("Schema")
        if attribute is None:
            return ()
        try:
            fields, faults = check_schema(attribute.value)
        except RecursionError:
            self._report(attribute, "nested too deeply", "")
            return ()
        self._problems.extend(
            self._schema_problem(attribute, fault.path, fault.message, fault.hint) for fault in faults
        )
        if not faults:
            self._warnings.extend(
                self._schema_problem(attribute, (at, name), message, hint)
                for at, name, message, hint in ambiguous_fields(fields)
            )
        return fields

    def _schema_problem(
        self, attribute: AttributeValue, path: Sequence[int | str], message: str, hint: str | None
    ) -> Problem:
        line = self._scan.line_of_part(attribute.name, path) or attribute.line
        return Problem(self._source.file, line, message, hint, self._source.name)


def _nearest_integer(value: object) -> int:
    """The priority that a value of another type may mean; 10 if there is none."""
    with contextlib.suppress(ValueError, OverflowError):
        if isinstance(value, str | float) and abs(number := int(float(value))) <= _MAX_PRIORITY:
            return number
    return 10


def from_class(
    name: str, cls: type, version: str | None, priority: int | None, schema: Sequence[object] | None
) -> Plugin:
    """Check a plugin whose class is already loaded.

    Arguments that are None are read from the module that defines ``cls``, or from ``cls``. Raises
    :class:`PluginError` with all problems.
    """
    defining_module = sys.modules.get(getattr(cls, "__module__", "") or "")
    file = Path(getattr(defining_module, "__file__", None) or sys.argv[0] or "<unknown>").absolute()
    source = Source(name, file)
    if problem := names.check(source):
        raise PluginError([problem])
    module = ModuleType(name)
    attributes = metadata.of_module(defining_module, {"version": version, "priority": priority, "Schema": schema})
    module.__dict__.update(attributes, Plugin=cls)
    with readable_attributes(source):
        return ModuleCheck(source, StaticScan.parse(file, name), module, main_block_ran=True).plugin()
