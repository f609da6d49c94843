"""Uses of the PDK in async handlers without Lua's style, type-checked and never run; "# error" as in lua_style.py."""

from __future__ import annotations

from typing import Any

import kong_pdk.pdk.aio_plain as kong
from kong_pdk import PDKError
from typing_extensions import assert_type

lua_style = False


class Plugin:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def access(self, kong: kong.kong) -> None:
        host = await kong.request.get_header("host")
        assert_type(host, str | None)
        kong.request.get_header("host").upper()  # error
        value, err = await kong.request.get_port()  # error
        try:
            body = await kong.request.get_raw_body()
        except PDKError:
            await kong.response.exit(500, {"message": "no body"})
        assert_type(body, bytes)
