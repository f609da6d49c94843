"""The route of a request and the path for the upstream: Kong's rules as a table."""

from __future__ import annotations

from typing import Any

import pytest
from kong_pdk.gateway import paths
from kong_pdk.gateway.entities import Config, Route, Service
from kong_pdk.gateway.routing import Match, Router, Target, upstream_path


def match(routes: list[dict[str, Any]], path: str = "/", **request: Any) -> Match | None:
    """Route a request among routes that are named by their order: a, b, c, ..."""
    service = Service(id="s", name="s", host="up.test")
    made = {
        name: Route(id=name, name=name, service_id="s", order=order, **fields)
        for order, (name, fields) in enumerate(zip("abcdefgh", routes, strict=False))
    }
    target = Target(
        method=request.get("method", "GET"),
        scheme=request.get("scheme", "http"),
        host=request.get("host", "gateway.test"),
        port=request.get("port", 8000),
        path=path,
        headers=request.get("headers", []),
    )
    return Router(Config(services={"s": service}, routes=made)).match(target)


def name(found: Match | None) -> str | None:
    return None if found is None else found.route.name


@pytest.mark.parametrize(
    ("routes", "request_of", "expected"),
    [
        pytest.param([{"paths": ("/a",)}], {"path": "/b"}, None, id="no path fits"),
        pytest.param([{"paths": ("/a",)}], {"path": "/abc"}, "a", id="a prefix needs no slash"),
        pytest.param([{"paths": ("/a",)}, {"paths": ("/a/b",)}], {"path": "/a/b/c"}, "b", id="longer prefix"),
        pytest.param([{"paths": ("/a/b", "/a")}, {"paths": ("/a/b/c",)}], {"path": "/a/b/c"}, "b", id="by each path"),
        pytest.param([{"paths": ("/a",)}, {"paths": ("/a",)}], {"path": "/a"}, "a", id="the older one"),
        pytest.param([{"paths": ("/a/b/c",)}, {"paths": ("~/a",)}], {"path": "/a/b/c"}, "b", id="regex first"),
        pytest.param(
            [{"paths": ("~/a/.*",)}, {"paths": ("~/a/b",), "regex_priority": 5}],
            {"path": "/a/b"},
            "b",
            id="regex priority",
        ),
        pytest.param([{"paths": (r"~/a/\d+$",)}], {"path": "/a/1x"}, None, id="regex end"),
        pytest.param([{"paths": (r"~/\d",)}], {"path": "/a/1"}, None, id="regex is anchored at the start"),
        pytest.param([{"hosts": ("x.test",)}], {"host": "x.test"}, "a", id="host"),
        pytest.param([{"hosts": ("X.Test",)}], {"host": "x.test"}, "a", id="host in capitals"),
        pytest.param([{"hosts": ("x.test:8000",)}], {"host": "x.test"}, "a", id="host with port"),
        pytest.param([{"hosts": ("x.test:9",)}], {"host": "x.test"}, None, id="host with another port"),
        pytest.param([{"hosts": ("*.x.test",)}], {"host": "a.b.x.test"}, "a", id="wildcard in front"),
        pytest.param([{"hosts": ("*.x.test",)}], {"host": "x.test"}, None, id="wildcard stands for something"),
        pytest.param([{"hosts": ("x.*",)}], {"host": "x.org"}, "a", id="wildcard behind"),
        pytest.param([{"hosts": ("*.test",)}, {"hosts": ("x.test",)}], {"host": "x.test"}, "b", id="plain host first"),
        pytest.param([{"methods": ("POST",)}], {"method": "GET"}, None, id="method"),
        pytest.param([{"methods": ("POST", "GET")}], {"method": "GET"}, "a", id="one of the methods"),
        pytest.param(
            [{"paths": ("/a/b/c",)}, {"paths": ("/a",), "methods": ("GET",)}],
            {"path": "/a/b/c"},
            "b",
            id="more conditions win over a longer path",
        ),
        pytest.param(
            [{"headers": {"X-V": ("1", "2")}}], {"headers": [(b"x-v", b"2")]}, "a", id="one of a header's values"
        ),
        pytest.param([{"headers": {"x-v": ("AbC",)}}], {"headers": [(b"X-V", b"aBc")]}, "a", id="header case"),
        pytest.param([{"headers": {"x-v": ("1",)}}], {"headers": [(b"x-v", b"11")]}, None, id="header differs"),
        pytest.param(
            [{"headers": {"x-v": ("~*v[0-9]+$",)}}], {"headers": [(b"x-v", b"a-V12")]}, "a", id="header regex"
        ),
        pytest.param(
            [{"headers": {"x-v": ("2",)}}],
            {"headers": [(b"x-v", b"1"), (b"x-v", b"2")]},
            "a",
            id="repeated header",
        ),
        pytest.param(
            [{"headers": {"x-a": ("1",)}}, {"headers": {"x-a": ("1",), "x-b": ("1",)}}],
            {"headers": [(b"x-a", b"1"), (b"x-b", b"1")]},
            "b",
            id="more headers",
        ),
        pytest.param([{"paths": ("/",), "protocols": ("grpc",)}], {}, "a", id="a route for gRPC alone"),
        pytest.param([{"paths": ("/",), "protocols": ("tcp",)}], {}, None, id="a route for streams alone"),
        pytest.param([{"protocols": ("https",), "paths": ("/",)}], {}, "a", id="https only, asked over http"),
    ],
)
def test_the_route_of_a_request(routes: list[dict[str, Any]], request_of: dict[str, Any], expected: str | None) -> None:
    assert name(match(routes, **request_of)) == expected


def test_captures_of_a_regex_path() -> None:
    found = match([{"paths": (r"~/probe/(?<id>\d+)/(\w+)(/x)?",)}], "/probe/42/word")
    assert found is not None
    assert (found.matched, found.unnamed, found.named) == ("/probe/42/word", ("42", "word", ""), {"id": "42"})


def test_a_route_of_a_disabled_service_is_ignored() -> None:
    service = Service(id="s", name="s", host="up.test", enabled=False)
    route = Route(id="r", name="r", service_id="s", paths=("/",))
    target = Target("GET", "http", "x.test", 80, "/", [])
    assert Router(Config(services={"s": service}, routes={"r": route})).match(target) is None


@pytest.mark.parametrize(
    ("base", "route", "strip", "request_path", "expected"),
    [
        # Kong's own table of path_handling v0.
        ("/s", "/fv0", True, "/fv0req", "/s/req"),
        ("/s", "/fv0", True, "/fv0/req", "/s/req"),
        ("/s", "/fv0", False, "/fv0/req", "/s/fv0/req"),
        ("/s/", "/fv0", True, "/fv0req", "/s/req"),
        ("/s/", "/fv0", False, "/fv0/req", "/s/fv0/req"),
        ("/s", "/fv0/", True, "/fv0/req", "/s/req"),
        (None, "/fv0", True, "/fv0", "/"),
        (None, "/fv0", True, "/fv0/", "/"),
        (None, "/fv0", True, "/fv0/req", "/req"),
        ("/s", "/fv0", True, "/fv0", "/s"),
        ("/s", "/fv0", True, "/fv0/", "/s/"),
        ("/s/", "/fv0", True, "/fv0", "/s"),
        ("/s/", "/", True, "/", "/s/"),
        ("/s", "/", True, "/", "/s"),
        ("/s", "/", False, "/", "/s"),
        ("/s", "~/a/\\d+", True, "/a/12/b", "/s/b"),
    ],
)
def test_the_path_for_the_upstream(base: str | None, route: str, strip: bool, request_path: str, expected: str) -> None:
    service = Service(id="s", name="s", host="up.test", path=base)
    made = Route(id="r", name="r", service_id="s", paths=(route,), strip_path=strip)
    target = Target("GET", "http", "x.test", 80, request_path, [])
    found = Router(Config(services={"s": service}, routes={"r": made})).match(target)
    assert found is not None
    assert upstream_path(found, request_path.encode()) == expected.encode()


@pytest.mark.parametrize(
    ("base", "request_path", "expected"), [("/s", "/fv1req", "/sreq"), ("/s/", "/fv1/req", "/s/req")]
)
def test_path_handling_v1_puts_no_slash_between(base: str, request_path: str, expected: str) -> None:
    assert paths.join(base.encode(), request_path.encode(), 4, strip=True, handling="v1") == expected.encode()


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        (b"/a%20b/../c//d", b"/c/d"),
        (b"/a/./b/.", b"/a/b/"),
        (b"/%2e%2e/x", b"/x"),
        (b"/a%2fb%41", b"/a%2FbA"),
        (b"/..", b"/"),
        (b"//", b"/"),
        (b"/a/b.c/", b"/a/b.c/"),
        (b"/%C3%A9", b"/\xc3\xa9"),
    ],
)
def test_normal_form_of_a_path(raw: bytes, normal: bytes) -> None:
    assert paths.normalize(raw) == normal


def test_a_path_is_escaped_for_the_upstream() -> None:
    assert paths.escape(b'/\xc3\xa9 "<a>%2F') == b"/%C3%A9%20%22%3Ca%3E%2F"


@pytest.mark.timeout(20)
def test_a_long_path_is_handled_in_time() -> None:
    """A path from a client must not keep the gateway busy."""
    long = b"/" + b"a" * 100_000
    assert paths.normalize(long + b"%20") == long + b" "
    assert paths.normalize(long + b"/b") == long + b"/b"
