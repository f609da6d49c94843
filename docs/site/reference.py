"""The pages of the reference, made from the types and tables of the package."""

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

Every function of Kong's PDK that a plugin server can reach, by namespace, and
:doc:`all of them in one table <functions>`. The text is that of the package's docstrings, which an editor shows too.

.. _styles:

Values and errors
-----------------

A plugin makes calls through the ``kong`` that its handler is given. ``Result[X]`` is a tuple ``(X, err)``; ``err`` is
None unless Kong gave an error. ``Fallible[X]`` is one of ``(X, None)`` and ``(None, "why not")``. In a plugin with
``lua_style = False``, or on a server with ``--no-lua-style``, both are ``X`` alone, and :exc:`kong_pdk.PDKError` is
raised in place of an error. For such plugins ``kong_pdk.pdk.plain`` has the types:
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

What a real Kong 3.9.3 did with each function in each phase, called with valid arguments: ✓ it worked; *refused*: Kong
raises an error, so the plugin server does not send the call, and raises :exc:`kong_pdk.PhaseError`; ?: it was not
tried, and Kong decides.

``log`` is that of a request, ``log (stream)`` that of a TCP connection. The three columns behind the phases say
over which protocol a function is reached: MsgPack:1; ProtoBuf:1 with the interface file as Kong has it (*stock*);
ProtoBuf:1 with the file as our image extends it (*extended*). The last one says whether the embedded gateway has the
function. What it has behaves as was recorded from a real Kong; the gateway is not Kong.

{table}
"""

_VALUES = """\
Values
======

What functions take and give, beside numbers and text. These are types for checkers and editors; the values are plain
dicts and lists. Text that is not UTF-8 has its bytes as surrogate escapes.

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

   The type of what a handler is given: ``def access(self, kong: kong.kong)`` after
   ``import kong_pdk.pdk.kong as kong``. Its parts are the namespaces of the :doc:`reference <index>`.
"""


def write(folder: Path) -> None:
    """Write the pages into a folder."""
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
    """The page of a namespace."""
    head = [group.name, "=" * len(group.name), "", group.text, ""]
    return "\n".join([*head, *(entry(function) for function in group.functions)])


def entry(function: Function) -> str:
    """The entry of a function."""
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
    """The table of all functions, by phase and protocol."""
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
