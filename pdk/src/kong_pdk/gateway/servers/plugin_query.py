"""Runs query commands and reads what they print: which plugin a plugin server has, in Kong's terms."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kong_pdk.gateway.gateway_settings import PluginServer
from kong_pdk.gateway.nginx_logs import ErrorLog
from kong_pdk.gateway.servers.failures import PluginServerError
from kong_pdk.schema.definition import Fault, check_schema
from kong_pdk.schema.error_text import format_errors

# Kong has no limit. The gateway has one, so that its message can name the command.
QUERY_TIMEOUT = 120.0
PROTOCOLS = ("MsgPack:1", "ProtoBuf:1")
_VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(?![\d.])")


@dataclass(frozen=True)
class PluginInfo:
    """The plugin that a query command describes. ``fields`` are those of its configuration."""

    name: str
    priority: int
    version: str
    phases: tuple[str, ...]
    fields: tuple[dict[str, Any], ...]
    protocol: str
    server: PluginServer


async def query(server: PluginServer, environment: Mapping[str, str], log: ErrorLog) -> PluginInfo | None:
    """Run a server's query command with ``environment``; None when its dump has no usable plugin.

    Its standard error goes to the log. Raises :class:`PluginServerError`.
    """
    process = await asyncio.create_subprocess_shell(
        server.query_command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), QUERY_TIMEOUT)
    except asyncio.TimeoutError:
        await _kill(process)
        raise PluginServerError(
            f"loading plugins info from [{server.name}]: no end of '{server.query_command}' "
            f"after {QUERY_TIMEOUT:.0f} s; it must print JSON and exit"
        ) from None
    except BaseException:
        await _kill(process)
        raise
    for line in errors.decode("utf-8", "backslashreplace").splitlines():
        log.write("notice", f"[{server.name}:{process.pid}] {line}")
    return read_dump(server, output)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the shell and its children, which can hold its output open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(process.communicate(), 5.0)


def read_dump(server: PluginServer, output: bytes) -> PluginInfo | None:
    """Read a dump: a list is MsgPack:1, an object says its protocol. Only the first plugin counts, as in 3.9."""
    try:
        dump = json.loads(output)
    except ValueError as error:
        raise PluginServerError(
            f"failed decoding plugin info: [{server.name}] {_reason(error)}; "
            f"'{server.query_command}' must print JSON and nothing else on standard output"
        ) from None
    if isinstance(dump, dict):
        protocol, plugins = dump.get("Protocol", PROTOCOLS[0]), dump.get("Plugins")
    else:
        protocol, plugins = PROTOCOLS[0], dump
    if protocol not in PROTOCOLS:
        raise PluginServerError(f"[{server.name}] unknown protocol implementation: {protocol}")
    if not isinstance(plugins, list) or not plugins or not isinstance(plugins[0], dict):
        raise PluginServerError(f"[{server.name}] the dump names no plugin; see what its query command prints")
    return _plugin(server, protocol, plugins[0])


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        at_end = error.pos >= len(error.doc.rstrip())
        token = "T_END" if at_end else "invalid token"
        return f"Expected value but found {token} at character {error.pos + 1}"
    return str(error)


def _plugin(server: PluginServer, protocol: str, dump: dict[str, Any]) -> PluginInfo | None:
    name = dump.get("Name")
    if not isinstance(name, str) or not name:
        raise PluginServerError(f"[{server.name}] the dump's first plugin has no Name")
    if not isinstance(dump.get("Phases"), list):
        raise PluginServerError(f"[{server.name}] plugin '{name}' has no Phases; the dump must list them")
    if "Priority" not in dump:
        return None
    return PluginInfo(
        name=name,
        priority=_priority(name, dump["Priority"]),
        version=_version(name, dump.get("Version")),
        phases=tuple(str(phase) for phase in dump["Phases"]),
        fields=_fields(name, dump.get("Schema")),
        protocol=protocol,
        server=server,
    )


def _refuse(name: str, text: str) -> PluginServerError:
    return PluginServerError(f"error loading plugin schemas: on plugin '{name}': {text}")


def _priority(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise _refuse(
            name,
            f'Plugin "{name}" cannot be loaded because its PRIORITY field is not a valid integer number, '
            f'got: "{value}"',
        )
    return int(value)


def _version(name: str, value: object) -> str:
    found = _VERSION.match(value) if isinstance(value, str) else None
    if found is None:
        raise _refuse(
            name,
            f'Plugin "{name}" cannot be loaded because its VERSION field does not follow the "x.y.z" format, '
            f'got: "{value}"',
        )
    return ".".join(part or "0" for part in found.groups())


def _fields(name: str, schema: object) -> tuple[dict[str, Any], ...]:
    config = _config_field(schema)
    if config is None:
        raise _refuse(name, "[off] schema violation (fields: expected a record field named 'config')")
    fields, faults = check_schema(config)
    # Kong checks a default only when a configuration uses it.
    faults = [fault for fault in faults if fault.path[-1:] != ("default",)]
    if faults:
        raise _refuse(name, f"[off] {format_errors(_errors(faults[0]))}")
    return fields


def _errors(fault: Fault) -> dict[str | int, Any]:
    """Kong's table of errors for a fault: the way to it through the schema, lists counted from 1."""
    errors: Any = fault.message
    for step in reversed(fault.path):
        errors = {step + 1 if isinstance(step, int) else step: errors}
    return {"fields": {1: {"config": {"fields": errors}}}}


def _config_field(schema: object) -> list[Any] | None:
    fields = schema.get("fields") if isinstance(schema, dict) else None
    for field in fields if isinstance(fields, list) else []:
        config = field.get("config") if isinstance(field, dict) else None
        if isinstance(config, dict):
            inner = config.get("fields")
            # an empty Lua table is an object to some JSON encoders
            return inner if isinstance(inner, list) else [] if not inner else None
    return None
