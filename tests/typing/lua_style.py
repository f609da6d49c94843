"""Uses of the PDK in Lua's style, type-checked and never run; a line that ends in "# error" must be refused."""

from __future__ import annotations

from typing import Any, Literal

import kong_pdk.pdk.kong as kong
from kong_pdk.pdk.kong.values import Consumer, Headers, Route, Service, Statistics
from typing_extensions import assert_type


class Plugin:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def access(self, kong: kong.kong) -> None:
        host, err = kong.request.get_header("host")
        assert_type(host, str | None)
        assert_type(err, str | None)
        kong.response.set_header("x-host", host)  # error
        kong.response.set_header("x-host", host or "none")
        helper(kong)

    def response(self, kong: kong.kong) -> None:
        kong.response.exit(502, {"message": "no"}, {"x-why": ["because", "so"], "x-count": 3})


def helper(kong: kong.kong) -> None:
    kong.log("said", 1, None)
    kong.log.notice("said ", b"bytes", 1.5)
    kong.log.inspect({"a": 1})
    kong.log.inspect.off()
    kong.log.set_serialize_value("a.b", {"c": True}, {"mode": "add"})
    kong.log.set_serialize_value("a.b", 1, {"mode": "sometimes"})  # error


def results(kong: kong.kong) -> None:
    assert_type(kong.request.get_method()[0], str)
    assert_type(kong.request.get_port()[0], int)
    assert_type(kong.request.get_headers()[0], Headers)
    assert_type(kong.request.get_query()[0], dict[str, list[str | Literal[True]]])
    assert_type(kong.request.get_query_arg("a")[0], str | Literal[True] | None)
    assert_type(kong.request.get_raw_body()[0], bytes | None)
    assert_type(kong.request.get_raw_body()[1], str | None)
    assert_type(kong.request.get_uri_captures()[0]["unnamed"], dict[int, str])
    assert_type(kong.response.get_source()[0], Literal["exit", "error", "service"])
    assert_type(kong.service.response.get_status()[0], int | None)
    assert_type(kong.nginx.get_subsystem()[0], Literal["http", "stream"])
    assert_type(kong.nginx.get_statistics()[0], Statistics)
    assert_type(kong.ctx.shared.get("a")[0], Any)
    assert_type(kong.client.tls.get_full_client_certificate_chain()[0], str | None)
    assert_type(kong.vault.is_reference("{vault://env/a}")[0], bool)


def entities(kong: kong.kong) -> None:
    consumer, _ = kong.client.load_consumer("alice", search_by_username=True)
    assert_type(consumer, Consumer | None)
    kong.client.authenticate(consumer, None)
    kong.client.authenticate(consumer, {"id": "c1"})
    consumer["username"]  # error
    if consumer:
        assert_type(consumer["id"], str)
        assert_type(consumer.get("username"), str | None)
        consumer["nosuch"]  # error
    route, _ = kong.router.get_route()
    assert_type(route, Route | None)
    service, _ = kong.router.get_service()
    assert_type(service, Service | None)
    if route and service:
        assert_type(route.get("paths"), list[str] | None)
        assert_type(service.get("read_timeout"), int | None)
    stats, _ = kong.node.get_memory_stats("k", 2)
    assert_type(stats["lua_shared_dicts"]["kong"]["capacity"], int | float | str)


def arguments(kong: kong.kong, body: dict[str, Any]) -> None:
    kong.service.set_target("10.0.0.1", 8080)
    kong.service.set_target("10.0.0.1")  # error
    kong.service.set_target("10.0.0.1", "8080")  # error
    kong.service.set_timeouts(connect_timeout=1, write_timeout=2, read_timeout=3)
    kong.service.set_timeouts(1, 2, read_time=3)  # error
    kong.service.request.set_scheme("ftp")  # error
    kong.service.request.set_headers({"a": "b", "c": ["d", "e"], "f": 1})
    kong.service.request.set_headers([("a", "b")])  # error
    kong.service.request.set_query({"a": True, "b": ["1", 2]})
    kong.service.request.set_raw_body(b"bytes")
    kong.service.request.set_raw_body(body)  # error
    kong.service.request.set_body(body, "application/json")
    kong.request.get_headers(1000)
    kong.request.get_headers(max_headers="all")  # error
    kong.request.get_header()  # error
    kong.request.get_header("a", "b")  # error
    kong.request.get_heder("a")  # error
    kong.reqest.get_header("a")  # error
    kong.request()  # error
    kong.node.get_memory_stats("kilo")  # error
    getattr(kong.request, "of_a_newer_kong")("a")  # noqa: B009


def ended(kong: kong.kong) -> int:
    if kong.request.get_method()[0] == "POST":
        return 1
    kong.response.exit(405)  # without a type that says that it never returns, the end of the function would be refused


def erred(kong: kong.kong) -> int:
    kong.response.error(500, "no", headers={"x": "y"})


def returned(kong: kong.kong) -> str:
    return kong.request.get_method()  # error


def of_parts(request: kong.Request, log: kong.Log, part: kong.Namespace) -> None:
    log.info(request.get_path(), part)
