"""The PDK that authors import: every function that a plugin server can call, documented, and no other name."""

from __future__ import annotations

import csv
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kong_pdk.pdk.kong as face
import pytest
from conformance.recordings import FOLDER
from kong_pdk.pdk import plain
from kong_pdk.pdk.kong.namespace import Part
from kong_pdk.protocol import PHASES
from kong_pdk.wire import pdk_functions
from kong_pdk.wire.pdk_functions import allowed, functions

ROOT = Path(__file__).resolve().parents[3]

NAMES = [
    "Client", "ClientTls", "Cluster", "Ctx", "Inspect", "Ip", "Log", "Namespace", "Nginx", "Node", "Request",
    "Response", "Router", "Service", "ServiceRequest", "ServiceResponse", "Shared", "Telemetry", "Vault", "kong",
]  # fmt: skip

NOT_REACHED = {
    "kong.client.tls.disable_http2_alpn": "works while a ClientHello is read, which is no phase of a plugin server",
    "kong.log.LEVEL": "stands for the functions debug to alert",
    "kong.response.get_raw_body": "works in body_filter alone",
    "kong.response.set_raw_body": "works in body_filter alone",
    "kong.service.set_target_retry_callback": "takes a function",
    "kong.service.set_tls_cert_key": "takes what only Lua can make of a certificate and a key",
    "kong.service.set_tls_verify_store": "takes what only Lua can make of certificates",
    "kong.vault.init_worker": "is for the start of a worker of Kong",
    "kong.vault.try": "takes a function",
}

OTHER_PARAMETERS = {
    "kong.client.tls.request_client_certificate": "its certificates cannot leave Lua",
    "kong.client.tls.set_client_verify": "the table lacks what Kong's documentation names",
    "kong.log": "the table lacks the message",
    "kong.log.deprecation": "the table lacks the message",
    "kong.log.inspect": "the table lacks the values",
    "kong.request.get_query_arg": "the table lacks the name",
    "kong.vault.warmup": "the table lacks the options",
    # Kong accepts calls without these arguments, which the table does not mark as optional.
    "kong.log.set_serialize_value": "the options may be left out",
    "kong.telemetry.log": "the attributes may be left out",
}


def _documented() -> Iterator[tuple[str, Any]]:
    """Give each function by the path that authors write."""

    def below(kind: type, path: str) -> Iterator[tuple[str, Any]]:
        for name, member in vars(kind).items():
            if isinstance(member, Part):
                yield from below(member.kind, f"{path}.{name}")
            elif hasattr(member, "pdk_function"):
                yield (path if name == "__call__" else f"{path}.{name}"), member

    yield from below(face.kong, "kong")


FUNCTIONS = dict(_documented())


def _table(name: str) -> list[Mapping[str, str]]:
    file = FOLDER / name
    if not file.exists():
        pytest.skip(f"{file} is not there")
    return list(csv.DictReader(file.read_text("utf-8").splitlines(), delimiter="\t"))


@pytest.mark.parametrize("module", [face, plain])
def test_the_public_names_are_these(module):
    assert sorted(module.__all__) == NAMES
    assert all(getattr(module, name) is getattr(face, name) for name in NAMES)


def test_the_types_without_lua_style_are_up_to_date():
    command = [sys.executable, str(ROOT / "scripts/pdk_types.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_types_without_lua_style_have_the_names_and_arguments_of_the_classes():
    options = ["--mypy-config-file", str(ROOT / "pdk/pyproject.toml")]
    command = [sys.executable, "-m", "mypy.stubtest", *options, "kong_pdk.pdk.plain"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_function_of_the_tables_can_be_called():
    known = {*functions(), *(method.function for method in pdk_functions.METHODS.values())}
    assert known - set(FUNCTIONS) - set(NOT_REACHED) == set()


def test_every_function_of_kongs_documentation_can_be_called():
    known = {row["function"] for row in _table("pdk-functions.tsv")}
    assert known - set(FUNCTIONS) == set(NOT_REACHED)


def test_no_function_can_be_called_that_kong_lacks():
    known = {row["function"] for row in _table("pdk-functions.tsv")} | set(functions())
    assert set(FUNCTIONS) - known == set()


@pytest.mark.parametrize("path", FUNCTIONS)
def test_a_function_calls_its_path(path):
    made = []
    kong = face.kong(lambda method, args: made.append((method, list(args))), "kong")
    part: Any = kong
    for name in path.split(".")[1:]:
        part = getattr(part, name)
    part("a", None, 2)
    assert made == [(path, ["a", None, 2])]


def _parameters(path: str) -> list[inspect.Parameter]:
    return list(inspect.signature(FUNCTIONS[path]).parameters.values())[1:]


@pytest.mark.parametrize("path", FUNCTIONS)
def test_a_functions_parameters_are_kongs(path):
    rows = {row["function"]: row["params"] for row in _table("pdk-functions.tsv")}
    parameters = _parameters(path)
    if path in OTHER_PARAMETERS or path not in rows or any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return
    # "name:string,max:number?" and once "name:string,of:array", which is "of an array of" cut in pieces
    expected = [each.endswith("?") for each in rows[path].split(",") if each]
    assert [each.default is not each.empty for each in parameters] == expected


@pytest.mark.parametrize("path", FUNCTIONS)
def test_a_function_is_documented(path):
    function = FUNCTIONS[path]
    text = inspect.getdoc(function) or ""
    assert re.findall(r":param (\w+):", text) == [each.name for each in _parameters(path)]
    returns = str(inspect.signature(function).return_annotation)
    assert (":return:" in text) == (returns not in ("Result[None]", "NoReturn"))
    assert text.splitlines()[0].endswith((".", ":"))


def _phases(path: str) -> str:
    """Give the phases by the docstrings' names."""
    if path not in functions():
        return "not measured"
    named = [phase for phase in PHASES if phase != "log" and allowed(path, phase)]
    log, stream = allowed(path, "log"), allowed(path, "log", "stream")
    if log:
        named.append("log" if stream is not False else "log (http)")
    elif stream:
        named.append("log (stream)")
    return ", ".join(named) or "none"


@pytest.mark.parametrize("path", FUNCTIONS)
def test_a_docstring_names_the_phases_that_were_measured(path):
    assert f"\nPhases: {_phases(path)}.\n" in (inspect.getdoc(FUNCTIONS[path]) or "")


@pytest.mark.parametrize("path", FUNCTIONS)
def test_a_docstring_names_the_interface_that_the_function_needs(path):
    method = pdk_functions.METHODS.get(path)
    interface = "none, MsgPack:1 alone" if method is None else "extended" if method.extended else "stock"
    assert (inspect.getdoc(FUNCTIONS[path]) or "").endswith(f"\nInterface: {interface}.")
