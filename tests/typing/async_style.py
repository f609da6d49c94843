"""Uses of the PDK in async handlers, type-checked and never run; "# error" as in lua_style.py."""

from __future__ import annotations

import asyncio
from typing import Any

import kong_pdk.pdk.aio as kong
import kong_pdk.pdk.kong as kong_of_handlers
from kong_pdk.pdk.kong.values import Headers
from typing_extensions import assert_type


class Plugin:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def access(self, kong: kong.kong) -> None:
        host, err = await kong.request.get_header("host")
        assert_type(host, str | None)
        assert_type(err, str | None)
        await kong.response.set_header("x-host", host or "none")
        value, err = kong.request.get_header("host")  # error
        await kong.request.get_haeder("host")  # error
        method, path = await asyncio.gather(kong.request.get_method(), kong.request.get_path())
        assert_type(path[0], str)
        task = asyncio.create_task(kong.request.get_headers())
        headers, _ = await task
        assert_type(headers, Headers)
        await kong.log("seen")
        await helper(kong)

    def log(self, kong: kong_of_handlers.kong) -> None:
        assert_type(kong.log.serialize()[0], str)


async def helper(kong: kong.kong) -> int:
    body, err = await kong.request.get_raw_body()
    if body is None:
        await kong.response.exit(500, {"message": err})
    return len(body)
