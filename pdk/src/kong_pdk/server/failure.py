"""The answer to the client when a handler raised: Kong's own 500, made by a PDK call.

An error over the protocol would not do: MsgPack:1 logs it and lets the request pass, ProtoBuf:1 has none.
"""

from __future__ import annotations

import contextlib

from kong_pdk.error_page import UNEXPECTED, error_page
from kong_pdk.server.bridge import Channel
from kong_pdk.server.exits import EventEnded
from kong_pdk.wire.errors import UnknownMethod


def method(phase: str) -> str:
    """Name the PDK function that ends a request with a 500."""
    return "kong.response.exit" if phase in ("certificate", "preread") else "kong.response.error"


def answer(channel: Channel, phase: str) -> None:
    """Make the request end with a 500 in Kong's form.

    In ``certificate`` the refused call fails the handshake; in ``preread`` it ends the stream.

    :raises EventEnded: always.
    """
    with contextlib.suppress(UnknownMethod):
        channel.leave(method(phase), [500])
        raise EventEnded
    # a stock ProtoBuf:1 has no kong.response.error: its page is written here
    accept, _ = channel.call("kong.request.get_header", ["accept"])
    request_id, _ = channel.call("kong.nginx.get_var", ["kong_request_id"])
    content_type, body = error_page(accept, UNEXPECTED, request_id)
    channel.leave("kong.response.exit", [500, body, {"content-type": content_type}])
    raise EventEnded
