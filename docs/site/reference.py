"""The pages of the PDK reference, generated from the types and tables of the package."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from functions import COLUMNS, Function, Group, groups

YES, NO = "✓", "no"
REFUSED, UNKNOWN = "refused", "?"

_INDEX = """\
PDK reference
=============

Every function of Kong's PDK that a plugin server can call, by namespace, and
:doc:`all of them in one table <functions>`. The text comes from the docstrings of the package; an editor shows it, too.

.. _styles:

Values and errors
-----------------

A plugin makes calls through ``kong``, the argument of its handlers. ``Result[X]`` is a tuple ``(X, err)``; ``err`` is
None unless Kong gave an error. ``Fallible[X]`` is one of ``(X, None)`` and ``(None, "why not")``. In a plugin with
``lua_style = False``, or on a server with ``--no-lua-style``, both are ``X`` alone, and an error is raised as
:exc:`kong_pdk.PDKError`. For such plugins ``kong_pdk.pdk.plain`` has the types:
``import kong_pdk.pdk.plain as kong``.

.. toctree::
   :maxdepth: 1

   functions
{names}
   values
   module
"""

_TABLE = """\
Functions, phases and protocols
===============================

The result of each function in each phase on a real Kong 3.9.3, with valid arguments: ✓ it works; *refused*: Kong
raises an error, so the plugin server does not send the call and raises :exc:`kong_pdk.PhaseError`; ?: it was not
tried, and Kong decides.

``log`` is the phase of a request, ``log (stream)`` the phase of a TCP connection. The three columns after the phases
say over which protocol a function can be called: MsgPack:1; ProtoBuf:1 with Kong's own interface file (*stock*);
ProtoBuf:1 with the file that our image extends (*extended*). The last column says whether the embedded gateway has the
function. The gateway is not Kong; its functions behave as a real Kong was recorded to behave.

{table}
"""

_VALUES = """\
Values
======

The types of arguments and results other than numbers and text. Type checkers and editors use them; the values are
plain dicts and lists. Bytes of text that are not UTF-8 are surrogate escapes.

.. automodule:: kong_pdk.pdk.kong.values
   :members:
   :undoc-members:
"""

_MODULE = """\
Names to import
===============

.. autoexception:: kong_pdk.PDKError()

.. autoexception:: kong_pdk.PhaseError

.. autofunction:: kong_pdk.cli.start_dedicated_server

.. py:class:: kong_pdk.pdk.kong.kong

   The type of a handler's argument: ``def access(self, kong: kong.kong)`` after
   ``import kong_pdk.pdk.kong as kong``. Its attributes are the namespaces of the :doc:`reference <index>`.
"""


def write(folder: Path) -> None:
    """Write the pages of the reference into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = list(groups())
    for group in found:
        _write(folder / f"{group.name}.rst", namespace(group))
    _write(folder / "functions.rst", _TABLE.format(table=table(found)))
    _write(folder / "values.rst", _VALUES)
    _write(folder / "module.rst", _MODULE)
    _write(folder / "index.rst", _INDEX.format(names="\n".join(f"   {group.name}" for group in found)))


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def namespace(group: Group) -> str:
    """Give the page of a namespace."""
    head = [group.name, "=" * len(group.name), "", group.text, ""]
    return "\n".join([*head, *(entry(function) for function in group.functions)])


def entry(function: Function) -> str:
    """Give the entry of a function."""
    body = "\n".join([function.text, *([] if _ends_with_field(function.text) else [""]), *_fields(function)])
    return f".. py:function:: {function.name}{function.signature}\n\n{textwrap.indent(body, '   ')}\n"


def _ends_with_field(text: str) -> bool:
    return any(line.startswith(":") for line in text.splitlines())


def _fields(function: Function) -> Iterator[str]:
    works = function.phases
    measured = any(function.works_in(column) is not None for column in COLUMNS)
    yield f":Phases: {', '.join(works) if works else 'none' if measured else 'not tried'}"
    if function.stock:
        yield ":Protocols: MsgPack:1, ProtoBuf:1"
    elif function.extended:
        yield ":Protocols: MsgPack:1; ProtoBuf:1 with the extended interface"
    else:
        yield ":Protocols: MsgPack:1"
    if not function.in_the_gateway:
        yield ":Embedded gateway: does not have it"


def table(found: Iterable[Group]) -> str:
    """Give the table of all functions by phase and protocol."""
    columns = [*COLUMNS, "MsgPack:1", "stock", "extended", "gateway"]
    lines = [".. list-table::", "   :header-rows: 1", "   :class: functions", "", _row(["function", *columns])]
    for function in sorted((each for group in found for each in group.functions), key=lambda each: each.name):
        verdicts = [_sign(function.works_in(column)) for column in COLUMNS]
        reached = [YES, *(YES if yes else NO for yes in (function.stock, function.extended))]
        gateway = YES if function.in_the_gateway else NO
        lines.append(_row([f":py:func:`{function.name}`", *verdicts, *reached, gateway]))
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    first, *rest = cells
    return "\n".join([f"   * - {first}", *(f"     - {cell}" for cell in rest)])


def _sign(verdict: bool | None) -> str:
    return UNKNOWN if verdict is None else YES if verdict else REFUSED
