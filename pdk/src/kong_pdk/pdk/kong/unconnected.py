"""The PDK without a Kong: calls on the imported class or module, and on a ``kong()`` that a plugin's code makes.

As in kong-pdk, the functions of the class ``kong`` can be called at import and in unit tests; they return None. Mocks
of the class (``unittest.mock.create_autospec``) have its functions with their parameters.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Container, Sequence
from types import FunctionType, ModuleType
from typing import Any, NoReturn

_log = logging.getLogger(__name__)

# Modules that are imported where plugins are served, and not in unit tests of a plugin.
_SERVERS = frozenset({"_kong_plugins", "kong_pdk.server"})

# The lines of code that a warning has named.
_warned: set[tuple[str, int]] = set()


def do_nothing(method: str, args: Sequence[object]) -> None:
    """Replace a call to Kong, of a ``kong()`` in a unit test; warn where a plugin that is served makes one."""
    if _SERVERS.intersection(sys.modules):
        warn(method)


def warn(method: str) -> None:
    """Log, once for each line of code, that a call has no effect."""
    file, line = _place()
    if (file, line) not in _warned:
        _warned.add((file, line))
        instead = "; elsewhere use Python's logging" if method.startswith("kong.log") else ""
        _log.warning(
            "%s:%d: %s is not called on the handler's kong argument, so it has no effect and returns None; call it on "
            "the argument of the handler%s", file, line, method, instead,
        )  # fmt: skip


def _place() -> tuple[str, int]:
    """Find the line of code that called the PDK."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith(f"{__package__}."):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def unconnected(documented: Callable[..., Any], method: str) -> FunctionType:
    """Make a function that does nothing, with the docstring and the parameters of a method."""

    def function(*args: object, **named: object) -> None:
        warn(method)

    signature = inspect.signature(documented)
    setattr(function, "__signature__", signature.replace(parameters=list(signature.parameters.values())[1:]))  # noqa: B010
    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        setattr(function, name, getattr(documented, name))
    return function  # type: ignore[return-value]


class Types(ModuleType):
    """A module of the PDK, which has only types: ``kong.log`` after ``import kong_pdk.pdk.kong as kong``."""

    def __getattr__(self, name: str) -> Any:
        part = self.__name__.rpartition(".")[2]
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name == part:  # kong-pdk's name of the class
            return getattr(self, part.capitalize())
        raise refusal(f"kong.{part}.{name}")

    def __call__(self, *args: object, **named: object) -> NoReturn:
        """Refuse ``kong.log("...")`` on the import.

        :raises AttributeError: always.
        """
        raise refusal(f"kong.{self.__name__.rpartition('.')[2]}")


def refuses_calls(module: str, parts: Container[str]) -> Callable[[str], object]:
    """Make the ``__getattr__`` of a module of types, which refuses ``kong.log.err(...)`` on the import.

    :param parts: the names in the class of the PDK; for a part of it the message says where to call it.
    """

    def refuse(name: str) -> object:
        if name in parts and not name.startswith("_"):
            raise refusal(f"kong.{name}")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return refuse


def refusal(method: str) -> AttributeError:
    """Make the error for a call on the import."""
    elsewhere = "use Python's logging" if method.startswith("kong.log") else "there is no Kong to ask"
    return AttributeError(
        f"{method} cannot be called on the import, which holds types and no values: call it on the argument of the "
        f"handler, and hand that on to other functions; in __init__ and at import {elsewhere}"
    )
