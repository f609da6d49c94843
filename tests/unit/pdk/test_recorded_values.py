"""Values recorded from a real Kong have the types that the PDK's functions declare."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Union

import kong_pdk.pdk.kong as face
import pytest
from conformance.recordings import FOLDER
from kong_pdk.pdk.kong.namespace import Part
from kong_pdk.wire.msgpack_codec import Messages, Request
from kong_pdk.wire.pdk_functions import METHODS
from kong_pdk.wire.pdk_values.protobuf_results import decode_result
from kong_pdk.wire.pdk_values.results import from_msgpack, from_protobuf

FILES = (
    "protobuf",
    "protobuf-extended",
    "stream-and-certificate-protobuf",
    "msgpack",
    "stream-and-certificate-msgpack",
)
# Kong never answers these calls.
UNANSWERED = {"kong.response.exit", "kong.response.error"}


def _frames(file: str) -> Iterator[dict[str, Any]]:
    for line in (FOLDER / f"{file}.jsonl").read_text("utf-8").splitlines():
        yield from (frame for frame in json.loads(line)["frames"] if "hex" in frame)


def _over_protobuf(file: str) -> Iterator[tuple[str, Any, str | None]]:
    for frame in _frames(file):
        method = METHODS.get(frame.get("reply_to", ""))
        if method is not None:
            reply = decode_result(method, bytes.fromhex(frame["hex"]))
            if getattr(reply, "path", None):  # Kong has removed the file.
                continue
            yield method.function, *from_protobuf(method, reply)


def _over_msgpack(file: str) -> Iterator[tuple[str, Any, str | None]]:
    streams: dict[Any, Messages] = {}
    called: dict[int, str] = {}
    for frame in _frames(file):
        stream = streams.setdefault((frame["conn"], frame["from"]), Messages())
        for message in stream.feed(bytes.fromhex(frame["hex"])):
            if isinstance(message, Request):
                order = message.args[0] if message.args else None
                function = called.pop(order.get("EventId"), None) if isinstance(order, dict) else None
                if function is not None:
                    yield function, from_msgpack(function, order.get("Data")), None
            elif isinstance(message.result, dict) and isinstance(message.result.get("Data"), dict):
                called[message.result["EventId"]] = message.result["Data"]["Method"]


@cache
def _values() -> dict[str, list[tuple[str, Any, str | None]]]:
    """Give all recorded values by function, with the file and the error of each."""
    values: dict[str, list[tuple[str, Any, str | None]]] = {}
    for file in FILES:
        for function, value, error in (_over_msgpack if "msgpack" in file else _over_protobuf)(file):
            values.setdefault(function, []).append((file, value, error))
    return values


def _functions(kind: type = face.kong, path: str = "kong") -> Iterator[tuple[str, Any]]:
    for name, member in vars(kind).items():
        if isinstance(member, Part):
            yield from _functions(member.kind, f"{path}.{name}")
        elif hasattr(member, "pdk_function"):
            yield member.pdk_function, member


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as far as the PDK's types go."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in inner)
    if origin in (list, dict):
        parts = [value] if origin is list else [value.keys(), value.values()] if isinstance(value, dict) else []
        return isinstance(value, origin) and all(
            _fits(item, of) for part, of in zip(parts, inner, strict=True) for item in part
        )
    if typing.is_typeddict(hint):
        return _fits_fields(value, hint)
    # For type checkers an integer is a float; only in Python True is an integer.
    kinds = (int, float) if hint is float else hint
    return hint is Any or (isinstance(value, kinds) and (not isinstance(value, bool) or hint is bool))


def _fits_fields(value: Any, hint: Any) -> bool:
    fields = typing.get_type_hints(hint)
    return (
        isinstance(value, dict)
        and hint.__required_keys__ <= set(value) <= set(fields)
        and all(_fits(item, fields[name]) for name, item in value.items())
    )


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (1, float, True),
        (True, int, False),
        (1.0, int, False),
        ({"a": ["b", True]}, dict[str, list[str | Literal[True]]], True),
        ({"a": ["b", 1]}, dict[str, list[str | Literal[True]]], False),
        ({"id": "a"}, face.client.values.Key, True),
        ({}, face.client.values.Key, False),
        ({"id": "a", "other": 1}, face.client.values.Key, False),
        (b"a", str, False),
    ],
)
def test_a_value_that_does_not_fit_is_found(value, hint, fits):
    assert _fits(value, hint) is fits


@pytest.mark.skipif(not FOLDER.exists(), reason=f"{FOLDER} is not there")
@pytest.mark.parametrize(("name", "function"), [each for each in _functions() if each[0] not in UNANSWERED])
def test_recorded_values_have_the_declared_types(name, function):
    value_type, error_type = typing.get_args(typing.get_type_hints(function)["return"])
    for file, value, error in _values().get(name, ()):
        assert _fits(value, value_type), f"{file}: {value!r} is no {value_type}"
        assert _fits(error, error_type)


@pytest.mark.skipif(not FOLDER.exists(), reason=f"{FOLDER} is not there")
def test_nearly_all_functions_were_recorded():
    names = {name for name, _ in _functions()} - UNANSWERED
    assert len(names & set(_values())) > 0.8 * len(names), sorted(names - set(_values()))
