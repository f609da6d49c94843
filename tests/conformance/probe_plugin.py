"""The probe that made the calls when the recordings were made, as a plugin of ours.

Its orders are in its configuration's ``note`` (streams and handshakes) or in the request's header ``x-probe``. The
results are written to a file, one line a call, since the tests are another process.
"""

from __future__ import annotations

import json
import os
from functools import partialmethod
from operator import attrgetter
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

    class Probe:
        def __init__(self, config: dict[str, Any]) -> None:
            note = config.get("note") or ""
            self._orders = json.loads(note) if '"case":' in note else None

        def _run(self, kong: Any, phase: str) -> None:
            orders = self._orders
            if orders is None:
                header, _ = kong.request.get_header("x-probe")
                orders = json.loads(header or "{}")
            for number, (method, args) in enumerate(orders.get(phase, [])):
                about = {"case": orders["case"], "phase": phase, "number": number}
                if not self._call(kong, method.replace("/", "."), [_argument(arg) for arg in args], about):
                    return

        def _call(self, kong: Any, function: str, args: list[Any], about: dict[str, Any]) -> bool:
            """Make one call; whether the next call may follow."""
            try:
                value, error = attrgetter(function.partition(".")[2])(kong)(*args)
            except Exception as error:
                _note(**about, what=_REFUSALS.get(type(error), RAISED), text=f"{type(error).__name__}: {error}")
                return False
            except BaseException:  # Kong does not answer any more; the exception unwinds the handler.
                _note(**about, what=ENDED)
                raise
            _note(**about, what=VALUE, value=typed(value), error=error)
            return True

        certificate = partialmethod(_run, phase="certificate")
        rewrite = partialmethod(_run, phase="rewrite")
        access = partialmethod(_run, phase="access")
        response = partialmethod(_run, phase="response")
        preread = partialmethod(_run, phase="preread")
        log = partialmethod(_run, phase="log")

    def _note(**fields: Any) -> None:
        os.write(file, (json.dumps(fields) + "\n").encode())

    return Probe


def _argument(value: Any) -> Any:
    if isinstance(value, dict):
        if "$bytes" in value:
            return bytes.fromhex(value["$bytes"])
        return {key: _argument(each) for key, each in value.items()}
    return [_argument(each) for each in value] if isinstance(value, list) else value


def typed(value: Any) -> Any:
    """Give a value with its types as JSON, for comparison."""
    if isinstance(value, dict):
        items = [[typed(key), typed(item)] for key, item in value.items()]
        return {"dict": sorted(items, key=lambda item: json.dumps(item[0]))}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [typed(item) for item in value]}
    if value is None or isinstance(value, bool):
        return value
    return {type(value).__name__: value.hex() if isinstance(value, (bytes, float)) else value}
