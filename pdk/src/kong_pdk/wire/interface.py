"""What a Kong's interface file (``include/kong/pluginsocket.proto``) names, and the extension of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kong_pdk.wire.pdk_functions import METHODS, Method
from kong_pdk.wire.pdk_values.protobuf_arguments import INPUTS
from kong_pdk.wire.pdk_values.protobuf_results import OUTPUTS
from kong_pdk.wire.wire_errors import InterfaceError, UnknownMethod

_SERVICE = "Kong"
_COMMENT = (
    "// Appended by kong-python: PDK functions that the lines above do not name, and exact results for some that\n"
    "// they do, under a second name with slashes. What stood here before is as it was."
)
# What begins like a comment inside of a string is none.
_STRING_OR_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\')|//[^\n]*|/\*.*?\*/', re.DOTALL)
_NAMING = re.compile(r"\bextend\s+[\w.]*\bMethodOptions\s*\{[^}]*\bMethodName\b")
_HINT = "put the file of Kong 3.9 in its place"
_BLOCK = re.compile(r"\bservice\s+(\w+)\s*\{")
_RPC = re.compile(
    r"\brpc\s+(?P<rpc>\w+)\s*\(\s*(?P<input>[\w.]+)\s*\)\s*returns\s*\(\s*(?P<output>[\w.]+)\s*\)"
    r"\s*(?:;|\{(?P<options>(?:[^{}]|\{[^{}]*\})*)\})"
)
_METHOD_NAME = re.compile(r"\boption\s*\(\s*[\w.]*\bMethodName\s*\)\s*=\s*([\"'])(.*?)\1")
# Functions that read what Kong has saved of the request for `log` look at the copies by their dotted names alone.
_SAVED_FOR_LOG = ("kong.request.", "kong.response.", "kong.service.response.", "kong.nginx.", "kong.ctx.")
# Over HTTP this gives no value at all, of which Kong cannot make a Value, and over streams one, which is not Empty.
_EXACT_OVER_STREAMS = "kong.service.request.disable_tls"


def saved_for_log(function: str) -> bool:
    """Say whether in ``log`` Kong answers this function from its copies, which takes the dotted name."""
    return function.startswith(_SAVED_FOR_LOG)


class Interface:
    """The methods that one Kong can be asked for over ProtoBuf:1. It does not change."""

    __slots__ = ("_by_function", "_by_phase", "_methods")

    def __init__(self, methods: Iterable[Method]) -> None:
        """:param methods: those that the interface file names."""
        self._methods = {method.name: method for method in methods}
        dotted = {method.function: method for method in self if "/" not in method.name}
        exact = {method.function: method for method in self if "/" in method.name}
        over_http = {name: method for name, method in exact.items() if name != _EXACT_OVER_STREAMS}
        self._by_function = dotted | over_http
        # What Kong refuses in `log` leaks data between requests: no second name is tried there.
        self._by_phase = {"log": over_http | dotted, "preread": dotted | exact}

    def method(self, wire_name: str) -> Method:
        """Look a method up by its name on the wire.

        :raises UnknownMethod: the interface file does not name it.
        """
        found = self._methods.get(wire_name)
        if found is None:
            raise UnknownMethod(wire_name)
        return found

    def choose(self, function: str, phase: str) -> Method:
        """Give the method by which to call a PDK function: of two the one whose messages say more, except in ``log``.

        :param function: dotted name, ``kong.request.get_header``.
        :param phase: that of the handler.
        :raises UnknownMethod: no method reaches the function.
        """
        found = self._by_phase.get(phase, self._by_function).get(function)
        if found is None:
            raise UnknownMethod(function)
        return found

    def missing(self) -> tuple[str, ...]:
        """List, by name on the wire, what our extension has and this interface has not, or with other messages."""
        return tuple(name for name, method in METHODS.items() if method.extended and self._methods.get(name) != method)

    def __contains__(self, wire_name: object) -> bool:
        """Whether there is a method of this name on the wire."""
        return wire_name in self._methods

    def __iter__(self) -> Iterator[Method]:
        """Give all methods, in the order of the file."""
        return iter(self._methods.values())

    def __len__(self) -> int:
        """Count the methods."""
        return len(self._methods)

    def __eq__(self, other: object) -> bool:
        """Whether the same methods are there, in whichever order."""
        return isinstance(other, Interface) and self._methods == other._methods

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash(frozenset(self._methods.values()))

    def __repr__(self) -> str:
        """Say how many methods there are."""
        return f"<Interface of {len(self)} methods>"


STOCK = Interface(method for method in METHODS.values() if not method.extended)
"""What an unmodified Kong 3.9 names."""

EXTENDED = Interface(METHODS.values())
"""The same with our extension."""


def read(text: str) -> Interface:
    """Learn from an interface file what a Kong can be asked for.

    Methods whose messages we do not know are left out.

    :raises InterfaceError: there is no service in it.
    """
    plain = _without_comments(text)
    methods = [
        _method(found, service)
        for service, start, end in _services(plain)
        for found in _RPC.finditer(plain, start, end)
    ]
    return Interface(method for method in methods if method.input in INPUTS and method.output in OUTPUTS)


def extend(text: str) -> str:
    """Append our methods to an interface file; what is there already stays as it is.

    :return: the text itself where nothing is missing.
    :raises InterfaceError: Kong could not read the result, or would read something else than we mean.
    """
    plain = _without_comments(text)
    blocks = {service: (start, end) for service, start, end in _services(plain)}
    if _SERVICE not in blocks:
        raise InterfaceError(f"it has no service {_SERVICE}; {_HINT}")
    start, end = blocks[_SERVICE]
    there = {found["rpc"]: found for found in _RPC.finditer(plain, start, end)}
    by_name = {method.name: method for method in (_method(found, _SERVICE) for found in there.values())}
    # What Kong itself names may be less in an older one, or of other messages: we go by what is there.
    ours = [method for method in METHODS.values() if method.extended]
    for method in ours:
        _check_types(by_name.get(method.name), method)
    missing = [method for method in ours if method.name not in by_name]
    if not missing:
        return text
    spelled = {
        _short(found[side]): found[side] for found in _RPC.finditer(plain, start, end) for side in ("input", "output")
    }
    for method in missing:
        _check_place(there, spelled, method)
    if not _NAMING.search(plain):
        raise InterfaceError(f"it does not declare the option MethodName; {_HINT}")
    lines = [*_COMMENT.splitlines(), *(line for method in missing for line in _rpc_lines(method, spelled))]
    return f"{text[:end]}\n" + "".join(f"    {line}\n" for line in lines) + text[end:]


def as_text(interface: Interface) -> str:
    """Make a file from which :func:`read` gives ``interface``: the service alone, without its messages."""
    spelled = {kind: kind for method in interface for kind in (method.input, method.output)}
    lines = (line for method in interface for line in _rpc_lines(method, spelled))
    naming = "extend google.protobuf.MethodOptions {\n    string MethodName = 50007;\n}\n\n"
    return f"{naming}service {_SERVICE} {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"


def is_extended(text: str) -> bool:
    """Say whether :func:`extend` has added something to this text, now or in an older version of ours."""
    return _COMMENT.splitlines()[0] in text


def rpc_name(method: Method) -> str:
    """Give the name under which a method of ours stands in the file, made as Kong makes its own."""
    path = ["Exact"] * ("/" in method.name) + method.function.split(".")[1:]
    return "_".join("".join(word.capitalize() for word in part.split("_")) for part in path)


def _without_comments(text: str) -> str:
    """Blank comments out, and keep every other character in its place."""
    return _STRING_OR_COMMENT.sub(lambda found: found[1] or re.sub(r"[^\n]", " ", found[0]), text)


def _services(plain: str) -> list[tuple[str, int, int]]:
    """Find the services: name, where the block begins, and where it ends.

    :raises InterfaceError: there is none, or one without end.
    """
    found = []
    bare = _STRING_OR_COMMENT.sub(lambda string: " " * len(string[0]), plain)
    for block in _BLOCK.finditer(bare):
        depth, place = 1, block.end()
        while depth and place < len(bare):
            depth += {"{": 1, "}": -1}.get(bare[place], 0)
            place += 1
        if depth:
            raise InterfaceError(f"its service {block[1]} has no end; {_HINT}")
        found.append((block[1], block.end(), place - 1))
    if not found:
        raise InterfaceError(f"it has no service; {_HINT}")
    return found


def _method(found: re.Match[str], service: str) -> Method:
    option = _METHOD_NAME.search(found["options"] or "")
    name = option[2] if option else _derived(f"{service}_{found['rpc']}")
    known = METHODS.get(name)
    return Method(name, _short(found["input"]), _short(found["output"]), known is None or known.extended)


def _derived(name: str) -> str:
    """Make a method's name as Kong does where no option gives it: ``Kong_Client_GetIp`` is ``kong.client.get_ip``."""
    return re.sub(r"([a-z][0-9]*)([A-Z])", r"\1_\2", name.replace("_", ".")).lower()


def _short(message: str) -> str:
    return message.rpartition(".")[2]


def _check_types(there: Method | None, ours: Method) -> None:
    if there is not None and (there.input, there.output) != (ours.input, ours.output):
        raise InterfaceError(
            f"it names {ours.name} with the messages {there.input} and {there.output}, where {ours.input} and "
            f"{ours.output} are needed; take the line out, or {_HINT}"
        )


def _check_place(there: dict[str, re.Match[str]], spelled: dict[str, str], method: Method) -> None:
    name = rpc_name(method)
    if name in there:
        raise InterfaceError(f"it has an rpc {name} that is not {method.name}; take the line out, or {_HINT}")
    for message in (method.input, method.output):
        if message not in spelled:
            raise InterfaceError(f"none of its methods has the message {message}, as {method.name} needs it; {_HINT}")


def _rpc_lines(method: Method, spelled: dict[str, str]) -> list[str]:
    line = f"rpc {rpc_name(method)}({spelled[method.input]}) returns ({spelled[method.output]})"
    if "/" not in method.name:
        return [f"{line};"]
    return [f"{line} {{", f'    option (MethodName) = "{method.name}";', "}"]
