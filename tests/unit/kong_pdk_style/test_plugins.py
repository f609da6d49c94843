"""Plugins written for kong-pdk, word for word, do over both command lines and protocols what their authors meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.kong_pdk_style.served_by import PLAIN_PLUGINS, PLUGINS, Kong, files, folder

SERVED = {
    "folder, MsgPack:1": (folder, "MsgPack:1", ()),
    "folder, ProtoBuf:1": (folder, "ProtoBuf:1", ()),
    "folder, MsgPack:1, -g": (folder, "MsgPack:1", ("-g",)),
    "folder, ProtoBuf:1, -m": (folder, "ProtoBuf:1", ("-m",)),
    "files, MsgPack:1": (files, "MsgPack:1", ()),
    "files, ProtoBuf:1, -gevent": (files, "ProtoBuf:1", ("-gevent",)),
}


@pytest.fixture(scope="module", params=SERVED)
def kong(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kong]:
    """All plugins behind a gateway, served one way after the other."""
    serve, protocol, options = SERVED[request.param]
    with serve(
        tmp_path_factory.mktemp("k"), PLUGINS, protocol, *options, processes=2 if "-m" in options else 1
    ) as kong:
        yield kong


def test_lua_tuples(kong):
    answer = kong.get("/lua-tuples?b=1&b=2&flag&empty=", x_two="a")
    assert answer.status == 200
    assert answer.headers["x-method"] == "GET"
    assert answer.headers["x-missing"] == "(None, None)"
    assert answer.headers["x-two"] == "a"
    assert answer.headers["x-query"] == "[('b', ['1', '2']), ('empty', ['']), ('flag', [True])]"
    assert answer.headers["x-port"] == "int"
    assert answer.headers["x-result"] == "(None, None)"


def test_the_pdk_object_in_other_hands(kong):
    answer = kong.get("/helper-objects", user_agent="somebody")
    assert (answer.headers["x-client"], answer.headers["x-realm"]) == ("somebody", "guests")
    assert answer.headers["x-written"] == "2"


def test_an_exit_from_a_helper(kong):
    answer = kong.get("/helper-objects", user_agent="somebody", x_deny="1")
    assert (answer.status, answer.headers["x-denied"]) == (403, "yes")
    assert json.loads(answer.body) == {"message": "denied", "realm": "guests"}


def test_state_of_the_module(kong):
    totals: dict[str, list[int]] = {}
    for _ in range(8):
        headers = kong.get("/request-counter").headers
        totals.setdefault(headers["x-pid"], []).append(int(headers["x-total"]))
    assert 1 <= len(totals) <= kong.processes
    for seen in totals.values():
        assert seen == list(range(seen[0], seen[0] + len(seen)))


def test_a_thread_that_works_between_events(kong):
    kong.get("/background-writer", x_entry="one")
    kong.wait_for("background-writer wrote one")
    if kong.processes == 1:
        assert kong.get("/background-writer").headers["x-written"].split()[-1] == "one"


def test_a_pool_of_threads_within_a_handler(kong):
    given = {f"x_{letter}": letter.upper() for letter in "abcdefgh"}
    for _ in range(5):
        answer = kong.get("/thread-pool", **given)
        assert answer.headers["x-values"] == "A B C D E F G H"
        assert all(answer.headers[f"x-said-{letter}"] == f"x-{letter}" for letter in "abcdefgh")
        assert answer.headers["x-status"] == "200"


def test_values_shared_between_plugins_and_phases(kong):
    answer = kong.get("/shared")
    expected = ("alice", None, 7, {"name": "value", "list": [1, 2]}, None)
    assert answer.headers["x-shared"] == repr(expected)
    assert (answer.headers["x-own"], answer.headers["x-answer"]) == ("alice", "ALICE")
    kong.wait_for("shared-writer logged ALICE")


def test_calls_of_nginx(kong):
    headers = kong.get("/nginx-values?a=1").headers
    assert headers["x-uri"] == "('/nginx-values?a=1', None)"
    assert headers["x-no-such"] == "(None, None)"
    assert headers["x-subsystem"] == "http"
    assert headers["x-tls"] == "(None, None)"
    assert headers["x-recent"] == "True"
    assert headers["x-ctx"] == headers["x-later-ctx"] == "('of access', None)"
    assert headers["x-no-ctx"] == "(None, None)"


def test_a_configuration_of_every_type(kong):
    headers = kong.get("/schema-fields").headers
    assert json.loads(headers["x-config"]) == {
        "text": "plain",
        "choice": "red",
        "count": 9,
        "ratio": 0.5,
        "flag": True,
        "names": [],
        "kinds": ["y"],
        "limits": {"m": 1},
        "server": {"host": "here", "port": 80},
    }
    assert headers["x-nothing"] == "None"


def test_every_phase_of_a_request(kong):
    assert kong.get("/").headers["x-phases"] == "rewrite access response"
    kong.wait_for("every-phase: log in http after rewrite access response")


def test_the_certificate_phase(kong):
    assert kong.get_by_tls("/").headers["x-phases"] == "rewrite access response"
    kong.wait_for("every-phase: certificate in http")


def test_every_phase_of_a_connection(kong):
    assert json.loads(kong.get_by_stream("/by-stream").body)["path"] == "/by-stream"
    kong.wait_for("every-phase: log in stream after preread")


def test_a_client_of_the_standard_library(kong):
    received = json.loads(kong.get("/asks-a-service/x").body)
    assert received["headers"]["x-first"] == "/asked?by=http.client /asks-a-service/x"
    assert received["headers"]["x-second"] == "/asked?by=urllib"


def test_bodies_read_and_changed(kong):
    answer = kong.get("/changes-bodies", body=b'{"n": 1}')
    assert (answer.status, answer.headers["content-type"]) == (200, "text/json")
    assert json.loads(answer.body) == {"sent": {"n": 1, "seen": True}}


@pytest.mark.parametrize(
    ("how", "status", "body"),
    [
        ("exit", 418, b"short and stout"),
        ("caught", 409, '{"list":[1,2],"text":"é"}'.encode()),
        ("empty", 204, b""),
        ("raise", 500, None),
    ],
)
def test_requests_that_end_early(kong, how, status, body):
    for _ in range(2):
        answer = kong.get("/ends-early", x_how=how)
        assert answer.status == status
        if body is not None:
            assert answer.body == body
        assert "x-after" not in answer.headers
    kong.wait_for(f"ends-early: cleaned up after {how}")


def test_no_handler_failed_but_the_one_that_was_to(kong):
    failures = [line for line in kong.said().splitlines() if "handler raised" in line]
    assert all("ends-early" in line and "it was asked for" in line for line in failures), failures


@pytest.mark.parametrize("serve", [folder, files])
@pytest.mark.parametrize("protocol", ["MsgPack:1", "ProtoBuf:1"])
@pytest.mark.parametrize("spelling", ["--no-lua-style", "-no-lua-style"])
def test_plain_values(tmp_path: Path, serve, protocol, spelling):
    with serve(tmp_path, PLAIN_PLUGINS, protocol, spelling) as kong:
        headers = kong.get("/plain-values").headers
    assert (headers["x-method"], headers["x-missing"], headers["x-kept"]) == ("GET", "None", "'value'")
    assert "kong.response.get_source cannot be called in the access phase" in headers["x-refused"]
