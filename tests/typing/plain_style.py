"""Uses of the PDK without Lua's style, type-checked and never run; "# error" as in lua_style.py."""

from __future__ import annotations

from typing import Any, Literal

import kong_pdk.pdk.plain as kong
from kong_pdk import PDKError
from kong_pdk.pdk.kong.values import Consumer, Headers
from typing_extensions import assert_type

lua_style = False


class Plugin:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def access(self, kong: kong.kong) -> None:
        host = kong.request.get_header("host")
        assert_type(host, str | None)
        host.upper()  # error
        kong.response.set_header("x-host", host or "none")
        value, err = kong.request.get_port()  # error
        try:
            body = kong.request.get_raw_body()
        except PDKError as error:
            kong.log.err("no body: ", error)
            kong.response.exit(500, {"message": "no body"})
        assert_type(body, bytes)
        helper(kong)

    def log(self, kong: kong.kong) -> None:
        assert_type(kong.log.serialize(), str)


def helper(kong: kong.kong) -> int:
    assert_type(kong.request.get_headers(), Headers)
    assert_type(kong.request.get_query()["a"], list[str | Literal[True]])
    assert_type(kong.client.load_consumer("alice", True), Consumer | None)
    assert_type(kong.ctx.shared.get("a"), Any)
    assert_type(kong.client.tls.disable_session_reuse(), bool | None)
    kong.log("said")
    kong.log.inspect.on()
    kong.log.inspect(1)
    kong.request.get_header()  # error
    kong.request.get_heder("a")  # error
    kong.request()  # error
    kong.service.request.set_scheme("ftp")  # error
    if kong.request.get_method() == "POST":
        return kong.service.response.get_status()  # error
    kong.response.error(405)


def of_parts(request: kong.Request, log: kong.Log, part: kong.Namespace) -> None:
    log.info(request.get_path(), part)
