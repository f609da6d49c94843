"""The interface files of the Kongs that were recorded, and the one that our image makes."""

from __future__ import annotations

from pathlib import Path

from conformance.codec import extension
from conformance.recordings import Recording
from kong_pdk.wire.interface import extend, rpc_name
from kong_pdk.wire.pdk_functions import METHODS

STOCK_FILE = Path(__file__).parents[2] / "docker/embedded/files/usr/local/kong/include/kong/pluginsocket.proto"


def ours(extended: bool) -> str:
    """The file that a plugin server of ours is to find: Kong's, or what our image makes of it."""
    text = STOCK_FILE.read_text("utf-8")
    return extend(text) if extended else text


def of(recording: Recording) -> str:
    """The file of the Kong that was recorded: with the lines that were appended to it.

    Methods that it answered, and that the recordings' schema does not name, are those of our extension.
    """
    text = STOCK_FILE.read_text("utf-8")
    if not recording.extended:
        return text
    lines = [_line(row["rpc"], row["wire_name"], row["input"], row["output"]) for row in extension()]
    named = {row["wire_name"] for row in extension()}
    for name in sorted(recording.answered_methods - named):
        if name in METHODS and METHODS[name].extended:
            method = METHODS[name]
            lines.append(_line(rpc_name(method), name, _full(method.input), _full(method.output)))
    end = text.rindex("}")
    return text[:end] + "".join(f"    {line}\n" for line in lines) + text[end:]


def _line(rpc: str, name: str, input: str, output: str) -> str:
    head = f"rpc {rpc}({_own(input)}) returns ({_own(output)})"
    return f'{head} {{ option (MethodName) = "{name}"; }}' if "/" in name else f"{head};"


def _own(message: str) -> str:
    return message.removeprefix("kong_plugin_protocol.")


def _full(message: str) -> str:
    return f"google.protobuf.{message}" if message in ("Empty", "Value", "ListValue", "Struct") else message
