"""Checks which phases a ``Plugin`` class handles, and whether each handler can be called as Kong calls it."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kong_pdk.plugin.problem import Problem
from kong_pdk.protocol import PHASES

# Phases of Lua plugins for which Kong never calls a plugin server, and the phase to use instead.
_LUA_ONLY = {"header_filter": "response", "body_filter": "response"}

# The similarity (of difflib) from which a method's name counts as a misspelt phase: `acces`, not `success`.
_SIMILARITY = 0.84


class PhaseMethods:
    """The phases that a class handles, and all problems of the class."""

    def __init__(self, name: str, file: Path, cls: object, line: int | None) -> None:
        self._name = name
        self._file = file
        self._line = line
        self.phases: tuple[str, ...] = ()
        self.problems: list[Problem] = []
        if isinstance(cls, type):
            self._check_class(cls)
        else:
            message = f"Plugin is {_article(type(cls).__name__)}, not a class"
            self._report(message, "define class Plugin with a method for each phase")

    def _check_class(self, cls: type) -> None:
        self.phases = tuple(phase for phase in PHASES if getattr(cls, phase, None) is not None)
        self._check_constructor(cls)
        for phase in self.phases:
            self._check_handler(cls, phase)
        misspelt = list(self._misspelt_phases(cls))
        self.problems.extend(misspelt)
        if not self.phases and not misspelt:
            self._report("Plugin has no phase", f"define a method for at least one of {', '.join(PHASES)}")

    def _report(self, message: str, hint: str, code: Callable[..., Any] | None = None) -> None:
        file, line = _location(code)
        self.problems.append(Problem(file or self._file, line or self._line, message, hint, self._name))

    def _check_constructor(self, cls: type) -> None:
        if inspect.isabstract(cls):
            names = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            self._report(f"Plugin is abstract ({names})", "define its abstract methods")
            return
        if _accepts(cls, 1) is False:
            hint = "write def __init__(self, config): self.config = config"
            self._report(
                "Plugin cannot be called with the configuration as its only argument", hint, vars(cls).get("__init__")
            )

    def _check_handler(self, cls: type, phase: str) -> None:
        attribute = inspect.getattr_static(cls, phase)
        handler = getattr(cls, phase)
        hint = f"write def {phase}(self, kong)"
        if not callable(handler):
            self._report(
                f'Plugin has the phase "{phase}", which is {_article(type(handler).__name__)}, not a method', hint
            )
            return
        if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
            self._report(f'phase "{phase}" has a yield, so calling it runs nothing', "remove the yield", handler)
        # A callable object that is not a method does not get the instance as its first argument.
        is_method = hasattr(type(attribute), "__get__") and not isinstance(attribute, staticmethod | classmethod)
        if _accepts(handler, 2 if is_method else 1) is False:
            message = f'phase "{phase}" takes {inspect.signature(handler)}, but is called with only kong'
            self._report(message, hint, handler)

    def _misspelt_phases(self, cls: type) -> Iterator[Problem]:
        for name in sorted(set(dir(cls)) - set(PHASES)):
            method = inspect.getattr_static(cls, name, None)
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            phase = _intended_phase(name, self.phases)
            # A method with another signature is a helper, not a misspelt phase.
            if phase is None or (self.phases and _accepts(method, 2) is False):
                continue
            file, line = _location(method)
            location_file = file or self._file
            if name in _LUA_ONLY:
                message = f'method "{name}" is a phase of Lua plugins that plugin servers do not have'
                yield Problem(location_file, line, message, f'use the phase "{phase}"', self._name)
            else:
                message = f'method "{name}" is not a phase'
                hint = f'did you mean "{phase}"? (a helper\'s name may begin with "_")'
                yield Problem(location_file, line, message, hint, self._name)


def async_phases(cls: type) -> tuple[str, ...]:
    """Give the phases of a class whose methods are coroutine functions."""
    return tuple(phase for phase in PHASES if _is_async(inspect.getattr_static(cls, phase, None)))


def _is_async(handler: object) -> bool:
    while isinstance(handler, (functools.partial, functools.partialmethod, staticmethod, classmethod)):
        handler = handler.__func__ if isinstance(handler, (staticmethod, classmethod)) else handler.func
    call = inspect.getattr_static(type(handler), "__call__", None)  # of an object that is called like a function
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def _intended_phase(name: str, phases: tuple[str, ...]) -> str | None:
    """The phase that a method's name is a misspelling of."""
    if name in _LUA_ONLY:
        return _LUA_ONLY[name]
    matches = difflib.get_close_matches(name.lower(), PHASES, n=1, cutoff=_SIMILARITY)
    # If the class has `log` too, `logs` is more likely a helper than a misspelling.
    return matches[0] if matches and matches[0] not in phases else None


def _accepts(function: Callable[..., Any], arguments: int) -> bool | None:
    """Whether a call with this number of positional arguments works; None if the signature is unknown."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return None
    try:
        signature.bind(*range(arguments))
    except TypeError:
        return False
    return True


def _location(function: Callable[..., Any] | None) -> tuple[Path | None, int | None]:
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    if code is None or code.co_filename.startswith("<"):
        return None, None
    return Path(code.co_filename), code.co_firstlineno


def _article(name: str) -> str:
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
