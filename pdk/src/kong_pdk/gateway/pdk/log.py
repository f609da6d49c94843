"""``kong.log``: lines in Kong's error log, and the JSON that log plugins send."""

from __future__ import annotations

import json
from typing import Any

from kong_pdk.gateway.exchange import Refused
from kong_pdk.gateway.pdk.calls import Event, function
from kong_pdk.gateway.pdk.checks import lua_type, string
from kong_pdk.gateway.pdk.lua import tostring
from kong_pdk.gateway.pdk.serialize import serialized

_LEVELS = {
    "kong.log": "notice",
    "kong.log.debug": "debug",
    "kong.log.info": "info",
    "kong.log.notice": "notice",
    "kong.log.warn": "warn",
    "kong.log.err": "error",
    "kong.log.crit": "crit",
    "kong.log.alert": "alert",
}


def _writer(level: str) -> Any:
    def write(event: Event, *args: object) -> None:
        event.log(level, "".join(tostring(item) for item in args))

    return write


for _name, _level in _LEVELS.items():
    function(_name)(_writer(_level))


@function("kong.log.inspect")
def inspect(event: Event, *args: object) -> None:
    """Show values; ``kong.log.inspect.off`` stops it, ``kong.log.inspect.on`` begins again."""
    if event.exchange.node.inspection.on:
        event.log("notice", " ".join(json.dumps(item, ensure_ascii=False) for item in args))


@function("kong.log.inspect.on")
def inspect_on(event: Event) -> None:
    event.exchange.node.inspection.on = True


@function("kong.log.inspect.off")
def inspect_off(event: Event) -> None:
    event.exchange.node.inspection.on = False


@function("kong.log.deprecation")
def deprecation(event: Event, *args: object) -> None:
    """Warn of something old; a table at the end says since when, and is not for the log."""
    shown = args[:-1] if args and isinstance(args[-1], dict) else args
    event.log("warn", "".join(tostring(item) for item in shown))


@function("kong.log.set_serialize_value")
def set_serialize_value(event: Event, key: object = None, value: object = None, options: object = None) -> None:
    """Set, add or replace a value of the serialized log; dots in the key are levels of it."""
    name = string("key", key)
    mode = options.get("mode", "set") if isinstance(options, dict) else "set"
    if mode not in {"set", "add", "replace"}:
        raise Refused("mode must be 'set', 'add' or 'replace'")
    if value is not None and lua_type(value) not in {"number", "string", "boolean", "table"}:
        raise Refused("value must be nil, a number, string, boolean or a table")
    event.exchange.serialize_values[f"{len(event.exchange.serialize_values)}:{name}"] = (mode, name, value)


@function("kong.log.serialize")
def serialize(event: Event) -> str:
    return json.dumps(serialized(event.exchange), separators=(",", ":"), ensure_ascii=False)
