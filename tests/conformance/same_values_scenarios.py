"""The scenarios of ``test_same_values``: requests, and every PDK call with sensible arguments."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from kong_pdk.wire.interface import STOCK
from kong_pdk.wire.pdk_functions import allowed

PHASES = ("rewrite", "access", "response", "log")
LATIN1 = b"Zo\xeb".decode("utf-8", "surrogateescape")
LARGE = 20_000
"""Bytes of a body that nginx spools to a file."""

STOCK_FUNCTIONS = {method.function for method in STOCK}

Call = tuple[str, tuple[Any, ...]]

SECRET = "{vault://env/same-values-secret}"

READS: list[Call] = [
    *((f"kong.client.{name}", ()) for name in ("get_ip", "get_forwarded_ip", "get_port", "get_forwarded_port")),
    *((f"kong.client.{name}", ()) for name in ("get_credential", "get_consumer", "get_protocol")),
    ("kong.client.get_protocol", (True,)),
    ("kong.client.load_consumer", ("alice", True)),
    ("kong.client.load_consumer", ("3bbb2a3e-0000-4000-8000-0000000000a1",)),
    ("kong.client.load_consumer", ("nobody", True)),
    ("kong.client.tls.get_full_client_certificate_chain", ()),
    ("kong.cluster.get_id", ()),
    ("kong.ip.is_trusted", ("127.0.0.1",)),
    ("kong.ip.is_trusted", ("10.0.0.1",)),
    ("kong.log.serialize", ()),
    ("kong.nginx.get_statistics", ()),
    ("kong.nginx.get_subsystem", ()),
    ("kong.nginx.get_tls1_version_str", ()),
    ("kong.nginx.get_var", ("request_method",)),
    ("kong.nginx.get_var", ("nosuch_variable",)),
    ("kong.nginx.req_start_time", ()),
    *((f"kong.node.{name}", ()) for name in ("get_hostname", "get_id", "get_memory_stats")),
    ("kong.plugin.get_id", ()),
    *(
        (f"kong.request.{name}", ())
        for name in (
            "get_scheme", "get_host", "get_port", "get_forwarded_scheme", "get_forwarded_host", "get_forwarded_port",
            "get_forwarded_path", "get_forwarded_prefix", "get_http_version", "get_method", "get_path", "get_raw_path",
            "get_path_with_query", "get_raw_query", "get_query", "get_headers", "get_start_time", "get_uri_captures",
        )
    ),
    *(("kong.request.get_query_arg", (name,)) for name in ("a", "b", "flag", "empty", "both", "nosuch")),
    ("kong.request.get_query", (2,)),
    *(
        (f"kong.{of}.get_header", (name,))
        for of in ("request", "response", "service.response")
        for name in ("x-latin1", "x-empty", "x-multi", "X-Up", "x_up", "nosuch")
    ),
    *((f"kong.{of}.get_headers", args) for of in ("request", "response", "service.response") for args in ((), (3,))),
    *((f"kong.{of}.get_status", ()) for of in ("response", "service.response")),
    ("kong.response.get_source", ()),
    ("kong.router.get_route", ()),
    ("kong.router.get_service", ()),
    ("kong.vault.is_reference", (SECRET,)),
    ("kong.vault.is_reference", ("none",)),
    ("kong.vault.parse_reference", (SECRET,)),
    ("kong.vault.get", (SECRET,)),
    ("kong.vault.get", ("{vault://env/same-values-nosuch}",)),
    ("kong.vault.update", ({"a": "b", "$refs": {"a": SECRET}},)),
    ("kong.vault.warmup", ({},)),
    ("kong.vault.flush", ()),
]  # fmt: skip

BODIES: list[Call] = [
    ("kong.request.get_raw_body", ()),
    ("kong.service.response.get_raw_body", ()),
]
PARSED: list[Call] = [
    ("kong.request.get_body", ()),
    ("kong.request.get_body", ("application/json",)),
    ("kong.request.get_body", ("application/x-www-form-urlencoded",)),
    ("kong.request.get_body", ("application/x-www-form-urlencoded", 1)),
    ("kong.service.response.get_body", ()),
]

KEPT: list[Any] = ["text", LATIN1, "", 0, 1, -5, 2**40, 0.5, 1e300, True, {}, [], [1, "a"], {"a": {"b": [True]}}]

WRITES: list[Call] = [
    *((f"kong.log.{level}", ("a", 1, None, False, {"b": [0.5]})) for level in ("alert", "crit", "err", "warn")),
    *((f"kong.log.{level}", ("a",)) for level in ("notice", "info", "debug", "inspect", "deprecation")),
    ("kong.log", ("a", LATIN1)),
    ("kong.log.inspect.on", ()),
    ("kong.log.inspect.off", ()),
    ("kong.log.set_serialize_value", ("my.value", 5)),
    ("kong.log.set_serialize_value", ("my.other", {"a": "b"})),
    *(call for value in KEPT for call in (("kong.ctx.shared.set", ("k", value)), ("kong.ctx.shared.get", ("k",)))),
    *(call for value in KEPT for call in (("kong.nginx.set_ctx", ("k", value)), ("kong.nginx.get_ctx", ("k",)))),
    *((f"kong.{of}.shared.get", ("nosuch",)) for of in ("ctx",)),
    ("kong.nginx.get_ctx", ("nosuch",)),
    ("kong.telemetry.log", ("same-values", {"a": "b"}, "a kind", "said", {"c": "d"})),
    ("kong.response.set_header", ("x-set", LATIN1)),
    ("kong.response.set_header", ("x-false", False)),
    ("kong.response.set_header", ("x-number", 5)),
    ("kong.response.add_header", ("x-added", ["1", "2"])),
    ("kong.response.set_headers", ({"x-a": "1", "x-b": ["2", "3"], "x-c": False},)),
    ("kong.response.set_status", (201,)),
    ("kong.response.clear_header", ("x-multi",)),
    ("kong.service.request.set_header", ("x-set", LATIN1)),
    ("kong.service.request.set_header", ("x-empty-set", "")),
    ("kong.service.request.set_header", ("x-false", False)),
    ("kong.service.request.add_header", ("x-added", ["1", "2"])),
    ("kong.service.request.add_header", ("x-true", True)),
    ("kong.service.request.set_headers", ({"x-a": "1", "x-b": ["2", "3"]},)),
    ("kong.service.request.clear_header", ("x-multi",)),
    ("kong.service.request.set_method", ("PUT",)),
    ("kong.service.request.set_scheme", ("http",)),
    ("kong.service.request.set_path", ("/other",)),
    ("kong.service.request.set_raw_query", ("raw=1",)),
    ("kong.service.request.set_query", ({"a": "1", "b": ["2", True], "no": False, "n": 5},)),
    ("kong.service.request.clear_query_arg", ("a",)),
    ("kong.service.request.set_raw_body", (b"\0\xff",)),
    ("kong.service.request.set_body", ({"a": 1, "f": False, "n": None, "l": []}, "application/json")),
    ("kong.service.request.enable_buffering", ()),
    ("kong.service.request.disable_tls", ()),
    ("kong.service.set_retries", (2,)),
    ("kong.service.set_timeouts", (10_000, 10_000, 10_000)),
    ("kong.service.set_tls_verify", (False,)),
    ("kong.service.set_tls_verify_depth", (2,)),
    ("kong.service.set_upstream", ("nosuch-upstream",)),
    ("kong.service.set_target", ("127.0.0.1", 1)),
    ("kong.service.set_upstream", ("other-upstream",)),
]
NEITHER: list[Call] = [
    (f"kong.{of}", ("k", value))
    for of in ("ctx.shared.set", "nginx.set_ctx")
    for value in (False, None, {"a": False}, [None])
]
CREDENTIAL = {"id": "3bbb2a3e-0000-4000-8000-0000000000c1", "consumer_id": "3bbb2a3e-0000-4000-8000-0000000000a1"}
KNOWN: list[Call] = [
    ("kong.client.authenticate", ({"id": "3bbb2a3e-0000-4000-8000-0000000000a1", "username": "alice"}, CREDENTIAL)),
    ("kong.client.get_consumer", ()),
    ("kong.client.get_credential", ()),
    ("kong.client.authenticate", ({"id": "3bbb2a3e-0000-4000-8000-0000000000a1", "username": "alice"}, None)),
    ("kong.client.get_consumer", ()),
    ("kong.client.get_credential", ()),
]


@dataclass(frozen=True)
class Scenario:
    """A request and the calls that the handlers make, each in all phases where it works."""

    calls: list[Call]
    path: str = "/strip/x"
    body: bytes | None = None
    headers: dict[str, bytes] = field(default_factory=dict)

    def orders(self) -> dict[str, list[Call]]:
        return {phase: [call for call in self.calls if allowed(call[0], phase) is not False] for phase in PHASES}


def of(stock: bool, calls: list[Call]) -> list[Call]:
    """Give the calls that the stock interface has, or those that it lacks."""
    return [call for call in calls if (call[0] in STOCK_FUNCTIONS) == stock]


HOST = "here.test"
HEADERS = {"x-latin1": b"Zo\xeb", "x-empty": b"", "x-up": b"no", "cookie": b"a=b"}
JSON = {"content-type": b"application/json"}
FORM = {"content-type": b"application/x-www-form-urlencoded"}
JSON_BODY = json.dumps({"i": 5, "f": 0.5, "n": None, "t": True, "no": False, "e": {}, "l": [], "s": "é", "b": [1, [2]]})

SCENARIOS = {
    "reads": Scenario(READS, "/probe/12/ab?a=1&b=2&b=3&flag&empty=&both&both=1&%C3=%E9", headers=HEADERS),
    "reads-of-a-known-client": Scenario(READS, "/keyed?a=1", headers={"apikey": b"alice-key"}),
    "reads-of-nothing": Scenario(READS, "/strip"),
    "writes": Scenario(of(True, WRITES), "/strip/x?a=1&b=2", headers=HEADERS),
    "writes-of-the-extension": Scenario(of(False, WRITES), "/strip/x?a=1&b=2", headers=HEADERS),
    "neither": Scenario(NEITHER),
    "known": Scenario(KNOWN),
    "known-by-a-credential-alone": Scenario([("kong.client.authenticate", (None, CREDENTIAL))]),
    "no-body": Scenario(BODIES),
    "bytes": Scenario(BODIES, body=bytes(range(256))),
    "json": Scenario(BODIES + PARSED, body=JSON_BODY.encode(), headers=JSON),
    "json-text": Scenario(BODIES + PARSED, body=b'"text"', headers=JSON),
    "json-list": Scenario(BODIES + PARSED, body=b"[]", headers=JSON),
    "no-json": Scenario(BODIES + PARSED, body=b"{", headers=JSON),
    "form": Scenario(BODIES + PARSED, body=b"a=1&b=2&b=3&flag&%C3=%E9", headers=FORM),
    "another-kind": Scenario(BODIES + PARSED, body=b"a", headers={"content-type": b"text/plain"}),
    "large": Scenario(BODIES, body=b"\xff" * LARGE),
    "large-json": Scenario(PARSED, body=b'{"a":"%s"}' % (b"x" * LARGE), headers=JSON),
    **{
        f"exit-{number}": Scenario([("kong.response.exit", args)])
        for number, args in enumerate(
            [
                (403,),
                (403, "no"),
                (403, b"\0\xff"),
                (403, {"message": "né", "ok": False, "n": None, "e": {}, "l": []}),
                (403, [1, 2]),
                (403, None, {"x-a": "1", "x-b": ["2", "3"], "x-l": LATIN1, "x-f": False}),
                (204, "", {"x-a": "1"}),
            ]
        )
    },
    "error": Scenario([("kong.response.error", (404, "not here"))]),
    "error-of-a-kind": Scenario([("kong.response.error", (503, "not now", {"x-a": "1"}))]),
}
