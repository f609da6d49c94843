"""The replay tells a plugin server that does right from one that does wrong, in cases that were not recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conformance import made_up
from conformance.frames import NOTHING, Step
from conformance.plugin_servers import Servers
from conformance.recordings import Case
from conformance.script import Difference

BOTH = ["MsgPack:1", "ProtoBuf:1"]
PATH = ("kong.request.get_path", [], "/strip")
LATIN = b"caf\xe9".decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers("threads", tmp_path_factory.mktemp("server"))
    yield servers
    servers.end()


@pytest.fixture
def play(servers: Servers) -> Any:
    """Play a case that no other has to do with."""

    def play(case: Case) -> None:
        replay = servers.new_replay(case)
        try:
            replay.play(case)
        finally:
            replay.close()

    return play


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize(
    ("made", "results"),
    [
        pytest.param([PATH], ["/strip"], id="a text"),
        pytest.param([("kong.request.get_port", [], 8300), PATH], [8300, "/strip"], id="two calls"),
        pytest.param([("kong.request.get_header", ["x"], LATIN)], [{"$bytes": "636166e9"}], id="not UTF-8"),
        pytest.param([("kong.response.set_header", ["x", "y"], None), PATH], [None, "/strip"], id="a void call"),
        pytest.param([("kong.request.get_query", [0], NOTHING)], [], id="Kong refuses an argument"),
        pytest.param([("kong.client.get_protocol", [], NOTHING)], [], id="Kong refuses the phase"),
    ],
)
def test_what_is_right(protocol: str, made: list[made_up.Made], results: list[Any], play: Any) -> None:
    """The same calls, the same values."""
    play(made_up.case(protocol, "rewrite", made, results))


HEADER = ("kong.request.get_header", ["x"], "1")
OTHER_HEADER = ("kong.request.get_header", ["y"], "1")
METHOD = ("kong.request.get_method", [], "GET")


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([PATH, METHOD], r"get_method\(\) was called, no call was recorded"),
        ([METHOD], r"get_method\(\) was called, kong.request.get_path\(\) was recorded"),
        ([], r"the handler ended, kong.request.get_path\(\) was recorded"),
    ],
)
def test_other_calls(protocol: str, given: list[made_up.Made], why: str, play: Any) -> None:
    """A call too many, another one, one too few."""
    with pytest.raises(Difference, match=why):
        play(_with_orders(made_up.case(protocol, "rewrite", [PATH], ["/strip"]), given))


@pytest.mark.parametrize("protocol", BOTH)
def test_another_argument(protocol: str, play: Any) -> None:
    """The function alone is not enough."""
    with pytest.raises(Difference, match="'y'"):
        play(_with_orders(made_up.case(protocol, "rewrite", [HEADER], ["1"]), [OTHER_HEADER]))


@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize("value", ["2", 1, None])
def test_another_value(protocol: str, value: Any, play: Any) -> None:
    """In its type, too."""
    with pytest.raises(Difference, match="but the recorded one"):
        play(made_up.case(protocol, "rewrite", [HEADER], [value]))


def _with_orders(case: Case, given: list[made_up.Made]) -> Case:
    """A case in which our probe is told to do something else than was recorded."""
    other = made_up.case(case.protocol, "rewrite", given, [])
    case.events[0].calls[0].answer = other.events[0].calls[0].answer
    return case


@pytest.mark.parametrize("args", [["flag"], ["a"], ["none"]])
def test_query_arguments_by_stock_messages(args: list[Any], play: Any) -> None:
    """Kong raises on an argument without a value, and the recorded handler came no further; ours does."""
    answer = {"flag": NOTHING, "a": "1", "none": None}[args[0]]
    results = [] if answer is NOTHING else [answer, "/strip"]
    play(made_up.case("ProtoBuf:1", "access", [("kong.request.get_query_arg", args, answer), PATH], results))


@pytest.mark.parametrize("name", ["x-empty", "x-none"])
def test_empty_headers_in_log_by_stock_messages(name: str, play: Any) -> None:
    """No message tells them from those that are not there: our server looks among all of them."""
    status = ("kong.response.get_status", [], 200)
    play(made_up.case("ProtoBuf:1", "log", [("kong.response.get_header", [name], None), status], [None, 200]))


def test_large_body_over_msgpack(play: Any) -> None:
    """Kong would raise, and say nothing: our server asks first, and its handler goes on."""
    made = [("kong.request.get_raw_body", [], NOTHING), PATH]
    play(made_up.case("MsgPack:1", "access", made, [], body=b"x" * 9000))


def test_steps_on_other_connections(play: Any) -> None:
    """Kong takes a connection from its pool for every step."""
    case = made_up.case("MsgPack:1", "access", [PATH, PATH, PATH], ["/strip"] * 3)
    answers = [call.answer for call in case.events[0].calls]
    assert len({answer.conn for answer in answers if isinstance(answer, Step)}) == 2
    play(case)
