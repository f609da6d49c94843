"""The probe that took its orders from Kong when the recordings were made, as a plugin of ours.

Its orders are in its configuration's ``note`` (streams and handshakes) or in the request's header ``x-probe``. What
it gets is noted in a file, a line a call, since the harness is another process.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kong_pdk import PhaseError, UnknownFunctionError
from kong_pdk.wire.wire_errors import ArgumentError

VALUE = "value"
PHASE, ARGUMENT, UNKNOWN = "refused for its phase", "refused for an argument", "not in the interface"
ENDED = "ended by Kong"
RAISED = "raised"

_REFUSALS = {PhaseError: PHASE, ArgumentError: ARGUMENT, UnknownFunctionError: UNKNOWN}


def probe(notes: Path) -> type[Any]:
    """Make the plugin's class, which writes to this file."""
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    class Probe(_Probe):
        def note(self, **fields: Any) -> None:
            os.write(file, (json.dumps(fields) + "\n").encode())

    return Probe


class _Probe:
    def __init__(self, config: dict[str, Any]) -> None:
        try:
            orders = json.loads(config.get("note") or "{}")
        except ValueError:
            orders = {}
        self._orders = orders if isinstance(orders, dict) and "case" in orders else None

    def note(self, **fields: Any) -> None:
        raise NotImplementedError

    def _run(self, kong: Any, phase: str) -> None:
        orders = self._orders
        if orders is None:
            header, _ = kong.request.get_header("x-probe")
            orders = json.loads(header or "{}")
        for number, (method, args) in enumerate(orders.get(phase, [])):
            about = {"case": orders["case"], "phase": phase, "number": number}
            if not self._obey(kong, method.replace("/", "."), [_plain(arg) for arg in args], about):
                return

    def _obey(self, kong: Any, function: str, args: list[Any], about: dict[str, Any]) -> bool:
        """Make one call; whether the next one is to follow."""
        try:
            value, error = _call(kong, function, args)
        except Exception as error:
            self.note(**about, what=_REFUSALS.get(type(error), RAISED), text=f"{type(error).__name__}: {error}")
            return False
        except BaseException:  # Kong answers no more; what says so is to unwind the handler
            self.note(**about, what=ENDED)
            raise
        self.note(**about, what=VALUE, value=written(value), error=error)
        return True

    def certificate(self, kong: Any) -> None:
        self._run(kong, "certificate")

    def rewrite(self, kong: Any) -> None:
        self._run(kong, "rewrite")

    def access(self, kong: Any) -> None:
        self._run(kong, "access")

    def response(self, kong: Any) -> None:
        self._run(kong, "response")

    def preread(self, kong: Any) -> None:
        self._run(kong, "preread")

    def log(self, kong: Any) -> None:
        self._run(kong, "log")


def _call(kong: Any, name: str, args: list[Any]) -> Any:
    function = kong
    for part in name.split(".")[1:]:
        function = getattr(function, part)
    return function(*args)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return (
            bytes.fromhex(value["$bytes"]) if "$bytes" in value else {key: _plain(each) for key, each in value.items()}
        )
    return [_plain(each) for each in value] if isinstance(value, list) else value


def written(value: Any) -> Any:
    """A value with its types, as JSON can hold it: by this, values are compared."""
    if isinstance(value, dict):
        items = [[written(key), written(item)] for key, item in value.items()]
        return {"dict": sorted(items, key=lambda item: json.dumps(item[0]))}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [written(item) for item in value]}
    if value is None or isinstance(value, bool):
        return value
    return {type(value).__name__: value.hex() if isinstance(value, (bytes, float)) else value}
