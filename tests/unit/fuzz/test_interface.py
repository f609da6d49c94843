"""Interface files with any content."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from kong_pdk.wire.interface import extend, read
from kong_pdk.wire.wire_errors import InterfaceError

INPUTS = "interface files"

TOKENS = [
    "service", "Kong", "{", "}", "rpc", "X", "(Empty)", "(", "returns", "(String)", ";", '"', "'", "//", "/*", "*/",
    "\n", "option", "(MethodName)", "=", '"kong.x"', "rpc Vault_Get(Empty) returns (String);",
]  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS), max_size=30).map(" ".join))
def test_any_file_is_read_or_refused(text):
    for use in (read, extend):
        with contextlib.suppress(InterfaceError):
            use(text)
