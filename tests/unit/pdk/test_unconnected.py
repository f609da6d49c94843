"""The PDK without Kong: imports of plugins for kong-pdk, unit tests that make a ``kong``, and mistakes."""

from __future__ import annotations

import csv
import importlib
import inspect
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock, create_autospec

import kong_pdk
import kong_pdk.pdk.kong as face
import pytest
from kong_pdk.exception import PDKException
from kong_pdk.pdk import plain
from kong_pdk.pdk.kong import unconnected
from kong_pdk.pdk.kong.namespace import Part
from kong_pdk.wire.wire_errors import ArgumentError

NAMES = list(csv.DictReader((Path(__file__).parent / "kong_pdk_names.tsv").read_text().splitlines(), delimiter="\t"))
PARTS = [name for name, member in vars(face.kong).items() if isinstance(member, Part)]
PDK: Any = face.kong


@pytest.fixture(autouse=True)
def nothing_warned_yet(monkeypatch):
    monkeypatch.setattr(unconnected, "_warned", set())


@pytest.mark.parametrize("statement", [row["statement"] for row in NAMES])
def test_imports_of_public_plugins_work(statement):
    """The list has all names that were found in public plugins, their tests and their wrappers."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", statement], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr


def test_the_exceptions_of_calls_are_kong_pdks():
    for error in (kong_pdk.PDKError, kong_pdk.PhaseError, kong_pdk.UnknownFunctionError, ArgumentError):
        assert issubclass(error, PDKException)
    assert issubclass(ArgumentError, TypeError)


def _functions() -> list[str]:
    found = []

    def below(kind: type, path: str) -> None:
        for name, member in vars(kind).items():
            if isinstance(member, Part):
                below(member.kind, f"{path}.{name}")
            elif hasattr(member, "pdk_function"):
                found.append(path if name == "__call__" else f"{path}.{name}")

    below(face.kong, "")
    return [path.removeprefix(".") for path in found]


@pytest.mark.parametrize("path", _functions())
@pytest.mark.parametrize("of", ["the class", "an object"])
def test_every_function_gives_none(path, of):
    found: Any = PDK if of == "the class" else face.kong()
    for name in path.split("."):
        found = getattr(found, name)
    assert found("a", None, b=2) is None if of == "the class" else found("a") is None


def test_a_function_of_the_class_has_the_methods_text_and_parameters():
    function = PDK.response.exit
    assert list(inspect.signature(function).parameters) == ["status", "body", "headers"]
    assert function.__doc__ == face.Response.exit.__doc__
    assert set(dir(PDK.log)) >= {"err", "warn", "inspect", "serialize"}
    with pytest.raises(AttributeError, match="Log of the PDK has no function wran"):
        assert PDK.log.wran
    with pytest.raises(TypeError, match="Request of the PDK is not a function"):
        PDK.request("x")


def test_an_object_of_a_unit_test_accepts_the_test_s_parts():
    class Request:
        def get_method(self) -> str:
            return "POST"

    kong: Any = face.kong()
    kong.request = Request()
    assert kong.request.get_method() == "POST"
    assert kong.response.set_header("a", "b") is None
    assert kong.of_a_newer_kong.function() is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: create_autospec(face.kong),
        lambda: create_autospec(face.kong).return_value,
        lambda: create_autospec(face.kong, instance=True),
        lambda: create_autospec(face.kong()),
        lambda: MagicMock(spec=face.kong),
        lambda: Mock(spec=face.kong),
        lambda: Mock(spec_set=face.kong()),
    ],
)
def test_mocks_of_the_class_have_its_functions(make):
    kong = make()
    kong.request.get_header.return_value = ("a", None)
    assert kong.request.get_header("host") == ("a", None)
    kong.response.set_header("x", "y")
    kong.response.set_header.assert_called_once_with("x", "y")
    kong.service.request.set_header("x", "y")
    kong.log.err("a", 1)
    kong.log("a")
    kong.log.inspect({})
    with pytest.raises(AttributeError):
        assert kong.reqest


@pytest.mark.parametrize(
    "make", [lambda: create_autospec(face.kong), lambda: create_autospec(face.kong, instance=True)]
)
def test_a_mock_with_a_spec_refuses_what_the_class_does_not_have(make):
    kong = make()
    with pytest.raises(AttributeError):
        assert kong.request.get_heder
    with pytest.raises(TypeError):
        kong.request.get_header()
    with pytest.raises(TypeError):
        kong.response.exit(200, "", {}, "more")


def test_the_place_of_a_call_on_the_class_is_logged_once(caplog):
    for _ in range(3):
        PDK.log.warn("no configuration file")
    PDK.request.get_path()
    frame = inspect.currentframe()
    assert frame is not None
    line = test_the_place_of_a_call_on_the_class_is_logged_once.__code__.co_firstlineno
    no_effect = "is not called on the handler's kong argument, so it has no effect and returns None"
    call = "call it on the argument of the handler"
    assert [record.getMessage() for record in caplog.records] == [
        f"{__file__}:{line + 2}: kong.log.warn {no_effect}; {call}; elsewhere use Python's logging",
        f"{__file__}:{line + 3}: kong.request.get_path {no_effect}; {call}",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_an_author_s_object_warns_only_where_plugins_are_served(caplog, monkeypatch):
    monkeypatch.setattr(unconnected, "_SERVERS", frozenset({"no_such_module"}))
    face.kong().log.err("x")
    assert caplog.records == []
    monkeypatch.setattr(unconnected, "_SERVERS", frozenset({"kong_pdk"}))
    face.kong().log.err("x")
    assert "kong.log.err is not called on the handler's kong argument" in caplog.text


@pytest.mark.parametrize("part", PARTS)
def test_a_call_on_the_imported_modules_has_a_hint(part):
    module: Any = importlib.import_module(f"kong_pdk.pdk.kong.{part}")
    assert module is getattr(face, part)
    other_way = "use Python's logging" if part == "log" else "there is no Kong to ask"
    for function, call in ((f"kong.{part}.get", lambda: module.get("x")), (f"kong.{part}", lambda: module("x"))):
        with pytest.raises(AttributeError) as raised:
            call()
        assert str(raised.value) == (
            f"{function} cannot be called on the import, which holds types and no values: call it on the argument of "
            f"the handler, and hand that on to other functions; in __init__ and at import {other_way}"
        )
    assert not hasattr(module, "err")
    assert getattr(module, part) is getattr(face.kong, part).kind  # kong-pdk's name of the class.


@pytest.mark.parametrize("part", PARTS)
def test_a_call_on_the_import_without_lua_style_has_a_hint(part):
    with pytest.raises(AttributeError, match=rf"kong\.{part} cannot be called on the import"):
        getattr(plain, part)
    with pytest.raises(AttributeError, match="has no attribute 'nosuch'"):
        getattr(plain, "nosuch")  # noqa: B009


def test_pythons_own_attributes_of_the_modules_work():
    for name in ("__wrapped__", "_private"):
        with pytest.raises(AttributeError, match="has no attribute"):
            getattr(face.log, name)  # type: ignore[attr-defined]
    assert inspect.ismodule(face.log)  # type: ignore[attr-defined]
