"""The PDK functions for the reference: their types, and their entries in the tables that plugin servers use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kong_pdk.gateway.pdk.dispatch import FUNCTIONS as IN_THE_GATEWAY
from kong_pdk.pdk.kong import kong, values
from kong_pdk.pdk.kong.namespace import Namespace, Part
from kong_pdk.wire import pdk_functions
from kong_pdk.wire.pdk_functions import METHODS

COLUMNS = {
    "certificate": ("certificate", "stream"),
    "rewrite": ("rewrite", "http"),
    "access": ("access", "http"),
    "response": ("response", "http"),
    "preread": ("preread", "stream"),
    "log": ("log", "http"),
    "log (stream)": ("log", "stream"),
}
"""The columns of the table: phase and subsystem."""

_NAMED = {method.function: not method.extended for method in METHODS.values() if "/" not in method.name}


_IMPORTED = {"annotations", "Any", "Literal", "Mapping", "Sequence", "TypedDict"}
_OF_VALUES = re.compile(
    r"\b(?:" + "|".join(name for name in vars(values) if name[0] != "_" and name not in _IMPORTED) + r")\b"
)


@dataclass(frozen=True)
class Function:
    """A function of the PDK, as plugins call it."""

    name: str
    method: Callable[..., Any]

    @property
    def signature(self) -> str:
        """Its parameters and its result; the types of values are full names, which become links."""
        found = inspect.signature(self.method)
        text = str(found.replace(parameters=list(found.parameters.values())[1:])).replace("'", "")
        return _OF_VALUES.sub(rf"{values.__name__}.\g<0>", text)

    @property
    def text(self) -> str:
        """Its docstring without the lines on phases and interface, which come from the tables."""
        lines = (inspect.getdoc(self.method) or "").splitlines()
        return "\n".join(line for line in lines if not line.startswith(("Phases:", "Interface:"))).rstrip()

    @property
    def stock(self) -> bool:
        """Whether the interface file of an unmodified Kong has it."""
        return _NAMED.get(self.name, False)

    @property
    def extended(self) -> bool:
        """Whether it can be called over ProtoBuf:1 with the extended interface file."""
        return self.name in _NAMED

    @property
    def in_the_gateway(self) -> bool:
        """Whether the embedded gateway has it."""
        return self.name in IN_THE_GATEWAY

    def works_in(self, column: str) -> bool | None:
        """Say whether Kong makes the call in a phase; None if this was not measured."""
        return pdk_functions.allowed(self.name, *COLUMNS[column])

    @property
    def phases(self) -> list[str]:
        """The columns in which it works."""
        return [column for column in COLUMNS if self.works_in(column)]


@dataclass(frozen=True)
class Group:
    """A namespace of the PDK: ``kong.request``, for example."""

    name: str
    kind: type[Namespace]

    @property
    def text(self) -> str:
        """The docstring of the namespace."""
        return inspect.getdoc(self.kind) or ""

    @property
    def functions(self) -> list[Function]:
        """Its functions, in the order of the source."""
        found = [Function(str(each.pdk_function), each) for each in vars(self.kind).values() if _is_function(each)]
        # A function with the name of its namespace comes first.
        return sorted(found, key=lambda function: function.name != self.name)


def _is_function(value: object) -> bool:
    return callable(value) and hasattr(value, "pdk_function")


def groups(kind: type[Namespace] = kong, name: str = "kong") -> Iterator[Group]:
    """Give all namespaces that have functions; a nested one after its parent."""
    group = Group(name, kind)
    if group.functions:
        yield group
    for part, value in vars(kind).items():
        if isinstance(value, Part):
            yield from groups(value.kind, f"{name}.{part}")
