"""A plan keeps the bytes of calls that were made before, and gives each call its own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kong_pdk.server.call_plan import CallPlan, plan_of_method, plan_over_msgpack
from kong_pdk.wire.interface import EXTENDED
from kong_pdk.wire.wire_errors import ArgumentError

EXIT, SET_HEADER = "kong.response.exit", "kong.response.set_header"
PLANS = {
    "protobuf": lambda function: plan_of_method(EXTENDED.choose(function, "access"), "access"),
    "msgpack": lambda function: plan_over_msgpack(function, "access"),
}


class Text(str):
    """A text of the author's own."""


class Body(dict[str, Any]):
    """A dict of the author's own."""


scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from([0, 1, 0.0, 1.0, -1, 2**31]), st.sampled_from(["", "1", "é"]),
    st.sampled_from([b"1", bytearray(b"1"), Text("1")]),
)  # fmt: skip
bodies = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
)
calls = st.tuples(st.sampled_from([200, 403]), bodies) | st.tuples(
    st.sampled_from([200, 403]), bodies, st.sampled_from([None, {"x-a": "1"}, {"x-a": ["1", "2"]}, Body(b="1")])
)


@pytest.fixture(params=PLANS)
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def counted(plan: CallPlan) -> list[Any]:
    """Note the arguments that a plan encodes."""
    encoded: list[Any] = []
    encode = plan.encode
    plan.encode = lambda args: encoded.append(args) or encode(args)
    return encoded


def result(plan: CallPlan, args: Any) -> bytes | str:
    try:
        return plan.bytes_of(args)
    except ArgumentError as error:
        return str(error)


@given(st.sampled_from(sorted(PLANS)), st.lists(calls, min_size=2, max_size=6))
def test_a_call_has_the_bytes_of_a_new_plan(protocol: str, made: list[Any]) -> None:
    used = PLANS[protocol](EXIT)
    for args in (*made, *made):
        assert result(used, args) == result(PLANS[protocol](EXIT), args)


def test_an_answer_is_encoded_once(protocol: str) -> None:
    plan = PLANS[protocol](EXIT)
    encoded = counted(plan)
    body = {"message": "no access", "code": 1}
    first = plan.bytes_of((403, body, {"x-a": "1"}))
    assert plan.bytes_of((403, dict(body), {"x-a": "1"})) == first
    assert len(encoded) == 1
    body["code"] = 2
    assert plan.bytes_of((403, body, {"x-a": "1"})) != first
    assert len(encoded) == 2


@pytest.mark.parametrize(
    "args", [(403, "x" * 1000), (403, Body(a=1)), (403, {"a": Text("b")}), (403, {"a": "x" * 1000})]
)
def test_a_long_answer_and_objects_of_the_author_are_encoded_each_time(protocol: str, args: Any) -> None:
    plan = PLANS[protocol](EXIT)
    encoded = counted(plan)
    assert plan.bytes_of(args) == plan.bytes_of(args)
    assert len(encoded) == 2


@pytest.mark.parametrize("function", [EXIT, SET_HEADER])
def test_few_calls_are_kept(protocol: str, function: str) -> None:
    plan = PLANS[protocol](function)
    made = [(200 + number, {"a": number}) if function == EXIT else ("x-a", str(number)) for number in range(200)]
    frames = {plan.bytes_of(args) for args in made}
    assert len(frames) == 200
    assert 0 < len(plan._frames) <= 64
