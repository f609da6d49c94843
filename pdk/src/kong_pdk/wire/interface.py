"""Kong's interface file (``include/kong/pluginsocket.proto``): reads its methods, and appends our own ones."""

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
# Strings are matched first: the start of a comment inside of a string does not count.
_STRING_OR_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\')|//[^\n]*|/\*.*?\*/', re.DOTALL)
_NAMING = re.compile(r"\bextend\s+[\w.]*\bMethodOptions\s*\{[^}]*\bMethodName\b")
_HINT = "put the file of Kong 3.9 in its place"
_BLOCK = re.compile(r"\bservice\s+(\w+)\s*\{")
_RPC = re.compile(
    r"\brpc\s+(?P<rpc>\w+)\s*\(\s*(?P<input>[\w.]+)\s*\)\s*returns\s*\(\s*(?P<output>[\w.]+)\s*\)"
    r"\s*(?:;|\{(?P<options>(?:[^{}]|\{[^{}]*\})*)\})"
)
_METHOD_NAME = re.compile(r"\boption\s*\(\s*[\w.]*\bMethodName\s*\)\s*=\s*([\"'])(.*?)\1")
# In `log` Kong finds its copies of the request's values only for functions that are called by their dotted names.
_SAVED_FOR_LOG = ("kong.request.", "kong.response.", "kong.service.response.", "kong.nginx.", "kong.ctx.")
# Over HTTP it returns no value at all, which Kong cannot put into a Value; over streams it returns one, which does not
# fit into Empty.
_EXACT_OVER_STREAMS = "kong.service.request.disable_tls"


def saved_for_log(function: str) -> bool:
    """Whether Kong answers a function from its copies of the request in ``log``, which needs the dotted name."""
    return function.startswith(_SAVED_FOR_LOG)


class Interface:
    """The methods that a Kong has over ProtoBuf:1. Immutable."""

    __slots__ = ("_by_function", "_by_phase", "_methods")

    def __init__(self, methods: Iterable[Method]) -> None:
        """:param methods: the methods of the interface file."""
        self._methods = {method.name: method for method in methods}
        dotted = {method.function: method for method in self if "/" not in method.name}
        exact = {method.function: method for method in self if "/" in method.name}
        over_http = {name: method for name, method in exact.items() if name != _EXACT_OVER_STREAMS}
        self._by_function = dotted | over_http
        # In `log` a refused call leaks data between requests, so the dotted name, which always works, comes first.
        self._by_phase = {"log": over_http | dotted, "preread": dotted | exact}

    def method(self, wire_name: str) -> Method:
        """Find a method by its name on the wire.

        :raises UnknownMethod: the interface file does not have it.
        """
        method = self._methods.get(wire_name)
        if method is None:
            raise UnknownMethod(wire_name)
        return method

    def choose(self, function: str, phase: str) -> Method:
        """Choose the method for a PDK function: of two methods the one with the more exact messages, except in ``log``.

        :param function: dotted name, ``kong.request.get_header``.
        :param phase: the phase of the handler.
        :raises UnknownMethod: the interface file has no method for the function.
        """
        method = self._by_phase.get(phase, self._by_function).get(function)
        if method is None:
            raise UnknownMethod(function)
        return method

    def missing(self) -> tuple[str, ...]:
        """List the methods of our extension, by name on the wire, that are missing here or have other messages."""
        return tuple(name for name, method in METHODS.items() if method.extended and self._methods.get(name) != method)

    def __contains__(self, wire_name: object) -> bool:
        return wire_name in self._methods

    def __iter__(self) -> Iterator[Method]:
        """Give the methods in the order of the file."""
        return iter(self._methods.values())

    def __len__(self) -> int:
        return len(self._methods)

    def __eq__(self, other: object) -> bool:
        """Whether the methods are the same, in any order."""
        return isinstance(other, Interface) and self._methods == other._methods

    def __hash__(self) -> int:
        return hash(frozenset(self._methods.values()))

    def __repr__(self) -> str:
        return f"<Interface of {len(self)} methods>"


STOCK = Interface(method for method in METHODS.values() if not method.extended)
"""The methods of an unmodified Kong 3.9."""

EXTENDED = Interface(METHODS.values())
"""The methods of an unmodified Kong 3.9, and our extension."""


def read(text: str) -> Interface:
    """Read the methods of an interface file, except those with messages that we do not know.

    :param text: the content of the file.
    :raises InterfaceError: it has no service.
    """
    uncommented = _without_comments(text)
    methods = [
        _method(match, service)
        for service, start, end in _services(uncommented)
        for match in _RPC.finditer(uncommented, start, end)
    ]
    return Interface(method for method in methods if method.input in INPUTS and method.output in OUTPUTS)


def extend(text: str) -> str:
    """Append our methods to an interface file, and leave its lines as they are.

    :param text: the content of the file.
    :return: the new content; ``text`` itself where no method is missing.
    :raises InterfaceError: Kong could not read the result, or would read it in another sense.
    """
    uncommented = _without_comments(text)
    blocks = {service: (start, end) for service, start, end in _services(uncommented)}
    if _SERVICE not in blocks:
        raise InterfaceError(f"it has no service {_SERVICE}; {_HINT}")
    start, end = blocks[_SERVICE]
    rpcs = {match["rpc"]: match for match in _RPC.finditer(uncommented, start, end)}
    by_name = {method.name: method for method in (_method(match, _SERVICE) for match in rpcs.values())}
    # An older Kong may have fewer methods of its own, or other messages: only our methods are checked.
    ours = [method for method in METHODS.values() if method.extended]
    for method in ours:
        _check_types(by_name.get(method.name), method)
    missing = [method for method in ours if method.name not in by_name]
    if not missing:
        return text
    full_names = {
        _short(match[side]): match[side]
        for match in _RPC.finditer(uncommented, start, end)
        for side in ("input", "output")
    }
    for method in missing:
        _check_place(rpcs, full_names, method)
    if not _NAMING.search(uncommented):
        raise InterfaceError(f"it does not declare the option MethodName; {_HINT}")
    lines = [*_COMMENT.splitlines(), *(line for method in missing for line in _rpc_lines(method, full_names))]
    return f"{text[:end]}\n" + "".join(f"    {line}\n" for line in lines) + text[end:]


def as_text(interface: Interface) -> str:
    """Make a file from which :func:`read` gives ``interface``: only the service, without its messages."""
    full_names = {kind: kind for method in interface for kind in (method.input, method.output)}
    lines = (line for method in interface for line in _rpc_lines(method, full_names))
    naming = "extend google.protobuf.MethodOptions {\n    string MethodName = 50007;\n}\n\n"
    return f"{naming}service {_SERVICE} {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"


def is_extended(text: str) -> bool:
    """Whether :func:`extend`, of this or an older version, has extended this text."""
    return _COMMENT.splitlines()[0] in text


def rpc_name(method: Method) -> str:
    """Give the name of our method's ``rpc`` in the file, in the form of Kong's own names."""
    path = ["Exact"] * ("/" in method.name) + method.function.split(".")[1:]
    return "_".join("".join(word.capitalize() for word in part.split("_")) for part in path)


def _without_comments(text: str) -> str:
    """Replace comments by spaces, so that every other character keeps its position."""
    return _STRING_OR_COMMENT.sub(lambda match: match[1] or re.sub(r"[^\n]", " ", match[0]), text)


def _services(uncommented: str) -> list[tuple[str, int, int]]:
    """Find the services: name, start and end of the block.

    :raises InterfaceError: there is no service, or one without end.
    """
    services = []
    bare = _STRING_OR_COMMENT.sub(lambda string: " " * len(string[0]), uncommented)
    for block in _BLOCK.finditer(bare):
        depth, place = 1, block.end()
        while depth and place < len(bare):
            depth += {"{": 1, "}": -1}.get(bare[place], 0)
            place += 1
        if depth:
            raise InterfaceError(f"its service {block[1]} has no end; {_HINT}")
        services.append((block[1], block.end(), place - 1))
    if not services:
        raise InterfaceError(f"it has no service; {_HINT}")
    return services


def _method(match: re.Match[str], service: str) -> Method:
    option = _METHOD_NAME.search(match["options"] or "")
    name = option[2] if option else _default_name(f"{service}_{match['rpc']}")
    known = METHODS.get(name)
    return Method(name, _short(match["input"]), _short(match["output"]), known is None or known.extended)


def _default_name(name: str) -> str:
    """Make the name of a method without the option, as Kong does: ``Kong_Client_GetIp`` is ``kong.client.get_ip``."""
    return re.sub(r"([a-z][0-9]*)([A-Z])", r"\1_\2", name.replace("_", ".")).lower()


def _short(message: str) -> str:
    return message.rpartition(".")[2]


def _check_types(existing: Method | None, ours: Method) -> None:
    if existing is not None and (existing.input, existing.output) != (ours.input, ours.output):
        raise InterfaceError(
            f"it names {ours.name} with the messages {existing.input} and {existing.output}, where {ours.input} and "
            f"{ours.output} are needed; take the line out, or {_HINT}"
        )


def _check_place(rpcs: dict[str, re.Match[str]], full_names: dict[str, str], method: Method) -> None:
    name = rpc_name(method)
    if name in rpcs:
        raise InterfaceError(f"it has an rpc {name} that is not {method.name}; take the line out, or {_HINT}")
    for message in (method.input, method.output):
        if message not in full_names:
            raise InterfaceError(f"none of its methods has the message {message}, as {method.name} needs it; {_HINT}")


def _rpc_lines(method: Method, full_names: dict[str, str]) -> list[str]:
    line = f"rpc {rpc_name(method)}({full_names[method.input]}) returns ({full_names[method.output]})"
    if "/" not in method.name:
        return [f"{line};"]
    return [f"{line} {{", f'    option (MethodName) = "{method.name}";', "}"]
