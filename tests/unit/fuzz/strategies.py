"""Input from peers: any value that a protocol can carry, any bytes, in any pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from kong_pdk.wire.text import decode

EXACT = 2**53

unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
raw_text = st.one_of(unicode_text, st.binary(max_size=40).map(decode))
"""What Lua's strings become: most are UTF-8, none need be."""

int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
doubles = st.floats(allow_nan=False).map(
    lambda number: int(number) if number.is_integer() and abs(number) <= EXACT else number
)
"""What Lua's numbers become: integers where they have no fraction."""


def json_values(text: st.SearchStrategy[str], most: int = 20) -> st.SearchStrategy[Any]:
    """Any value of JSON, with strings from a strategy."""
    leaves = st.one_of(st.none(), st.booleans(), st.integers(-EXACT, EXACT), doubles, text)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(text, inner, max_size=5)),
        max_leaves=most,
    )


def msgpack_values(text: st.SearchStrategy[str], most: int = 20) -> st.SearchStrategy[Any]:
    """Any value that MessagePack can carry without extensions; keys may be of any simple type."""
    integers = st.integers(-(2**63), 2**64 - 1)
    keys = st.one_of(st.none(), st.booleans(), integers, st.floats(allow_nan=False), text, st.binary(max_size=20))
    leaves = st.one_of(keys, st.binary(max_size=300))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(keys, inner, max_size=5)),
        max_leaves=most,
    )


@st.composite
def pieces(draw: Callable[..., Any], stream: bytes) -> list[bytes]:
    """Cut a stream anywhere, also into empty pieces."""
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@st.composite
def damaged(draw: Callable[..., Any], stream: bytes) -> bytes:
    """Change, remove or insert some bytes of a stream."""
    changed = bytearray(stream)
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(changed))), draw(st.integers(0, 4))
        changed[at : at + length] = draw(st.binary(max_size=4))
    return bytes(changed)
