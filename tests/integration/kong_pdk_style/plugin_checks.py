"""What plugins for kong-pdk do behind a Kong: checks for a gateway of the tests and for a container."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from integration.kong_pdk_style.running_plugins import Kong


def the_example_of_kongs_documentation(kong: Kong) -> None:
    headers = kong.get("/py-hello", host="example.test").headers
    assert headers["x-hello-from-python"] == "Python says hello to example.test"
    assert headers["x-python-pid"].isdecimal()


def lua_tuples(kong: Kong) -> None:
    answer = kong.get("/lua-tuples?b=1&b=2&flag&empty=", x_two="a")
    assert answer.status == 200
    assert answer.headers["x-method"] == "GET"
    assert answer.headers["x-missing"] == "(None, None)"
    assert answer.headers["x-two"] == "a"
    assert answer.headers["x-query"] == "[('b', ['1', '2']), ('empty', ['']), ('flag', [True])]"
    assert answer.headers["x-port"] == "int"
    assert answer.headers["x-result"] == "(None, None)"


def the_pdk_object_in_other_hands(kong: Kong) -> None:
    answer = kong.get("/helper-objects", user_agent="somebody")
    assert (answer.headers["x-client"], answer.headers["x-realm"]) == ("somebody", "guests")
    assert answer.headers["x-written"] == "2"
    kong.wait_for("helper-objects caught: invalid literal for int() with base 10: 'none'")


def an_exit_from_a_helper(kong: Kong) -> None:
    answer = kong.get("/helper-objects", user_agent="somebody", x_deny="1")
    assert (answer.status, answer.headers["x-denied"]) == (403, "yes")
    assert json.loads(answer.body) == {"message": "denied", "realm": "guests"}


def state_of_the_module(kong: Kong) -> None:
    totals: dict[str, list[int]] = {}
    for _ in range(8):
        headers = kong.get("/request-counter").headers
        totals.setdefault(headers["x-pid"], []).append(int(headers["x-total"]))
    assert 1 <= len(totals) <= kong.processes
    for seen in totals.values():
        assert seen == list(range(seen[0], seen[0] + len(seen)))


def a_thread_that_works_between_events(kong: Kong) -> None:
    kong.get("/background-writer", x_entry="one")
    kong.wait_for("background-writer wrote one")
    if kong.processes == 1:
        assert kong.get("/background-writer").headers["x-written"].split()[-1] == "one"


def a_pool_of_threads_within_a_handler(kong: Kong) -> None:
    given = {f"x_{letter}": letter.upper() for letter in "abcdefgh"}
    for _ in range(5):
        answer = kong.get("/thread-pool", **given)
        assert answer.headers["x-values"] == "A B C D E F G H"
        assert all(answer.headers[f"x-said-{letter}"] == f"x-{letter}" for letter in "abcdefgh")
        assert answer.headers["x-status"] == "200"


def requests_at_the_same_time(kong: Kong) -> None:
    def ask(number: int) -> tuple[str, str]:
        headers = kong.get("/thread-pool", **{f"x_{letter}": f"{letter}{number}" for letter in "abcdefgh"}).headers
        return headers["x-values"], " ".join(f"{letter}{number}" for letter in "abcdefgh")

    with ThreadPoolExecutor(max_workers=6) as clients:
        for given, expected in clients.map(ask, range(18)):
            assert given == expected


def values_shared_between_plugins_and_phases(kong: Kong) -> None:
    answer = kong.get("/shared")
    expected = ("alice", None, 7, {"name": "value", "list": [1, 2]}, None)
    assert ast.literal_eval(answer.headers["x-shared"]) == expected  # a Lua table has no order
    assert (answer.headers["x-own"], answer.headers["x-answer"]) == ("alice", "ALICE")
    kong.wait_for("shared-writer logged ALICE")


def calls_of_nginx(kong: Kong) -> None:
    headers = kong.get("/nginx-values?a=1").headers
    assert headers["x-uri"] == "('/nginx-values?a=1', None)"
    assert headers["x-no-such"] == "(None, None)"
    assert headers["x-subsystem"] == "http"
    assert headers["x-tls"] == "(None, None)"
    assert headers["x-recent"] == "True"
    assert headers["x-ctx"] == headers["x-later-ctx"] == "('of access', None)"
    assert headers["x-no-ctx"] == "(None, None)"


def a_configuration_of_every_type(kong: Kong) -> None:
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


def every_phase_of_a_request(kong: Kong) -> None:
    assert kong.get("/").headers["x-phases"] == "rewrite access response"
    kong.wait_for("every-phase: log in http after rewrite access response")


def the_certificate_phase(kong: Kong) -> None:
    assert kong.get_by_tls("/").headers["x-phases"] == "rewrite access response"
    kong.wait_for("every-phase: certificate in http")


def every_phase_of_a_connection(kong: Kong) -> None:
    assert json.loads(kong.get_by_stream("/by-stream").body)["path"] == "/by-stream"
    kong.wait_for("every-phase: log in stream after preread")


def a_client_of_the_standard_library(kong: Kong) -> None:
    received = json.loads(kong.get("/asks-a-service/x").body)
    assert received["headers"]["x-first"] == "/asked?by=http.client /asks-a-service/x"
    assert received["headers"]["x-second"] == "/asked?by=urllib"


def bodies_read_and_changed(kong: Kong) -> None:
    answer = kong.get("/changes-bodies", body=b'{"n": 1}')
    assert (answer.status, answer.headers["content-type"]) == (200, "text/json")
    assert json.loads(answer.body) == {"sent": {"n": 1, "seen": True}}


def requests_that_end_early(kong: Kong) -> None:
    for how, status, body in ENDS:
        for _ in range(2):
            answer = kong.get("/ends-early", x_how=how)
            assert answer.status == status
            assert body is None or _as_value(answer.body) == _as_value(body)
            assert "x-after" not in answer.headers
        kong.wait_for(f"ends-early: cleaned up after {how}")


def _as_value(body: bytes) -> object:
    """Give the value of a JSON object, whose members Kong may write in any order; else the body."""
    return json.loads(body) if body.startswith(b"{") else body


ENDS = [
    ("exit", 418, b"short and stout"),
    ("caught", 409, '{"list":[1,2],"text":"é"}'.encode()),
    ("empty", 204, b""),
    ("raise", 500, None),
]


CHECKS: list[Callable[[Kong], None]] = [
    the_example_of_kongs_documentation,
    lua_tuples,
    the_pdk_object_in_other_hands,
    an_exit_from_a_helper,
    state_of_the_module,
    a_thread_that_works_between_events,
    a_pool_of_threads_within_a_handler,
    requests_at_the_same_time,
    values_shared_between_plugins_and_phases,
    calls_of_nginx,
    a_configuration_of_every_type,
    every_phase_of_a_request,
    the_certificate_phase,
    every_phase_of_a_connection,
    a_client_of_the_standard_library,
    bodies_read_and_changed,
    requests_that_end_early,
]


def no_handler_failed_except_the_one_that_raises_on_purpose(kong: Kong) -> None:
    """Check the log after all others: it is no test, for tests may run in any order."""
    failures = [line for line in kong.said().splitlines() if "handler raised" in line]
    assert all("ends-early" in line and "it was asked for" in line for line in failures), failures
