"""The probe that took its orders from the request's header when the recordings were made, as a plugin of ours."""

from __future__ import annotations

import json
from typing import Any

from kong_pdk import PhaseError
from kong_pdk.wire.errors import ArgumentError


class Probe:
    """Makes the calls that the header x-probe orders for a phase."""

    def __init__(self, config: dict[str, Any]) -> None:
        pass

    def _run(self, kong: Any, phase: str) -> None:
        header, _ = kong.request.get_header("x-probe")
        for method, args in json.loads(header or "{}").get(phase, []):
            function = kong
            for name in method.split(".")[1:]:
                function = getattr(function, name)
            try:
                function(*(_plain(arg) for arg in args))
            except (PhaseError, ArgumentError):
                return

    def rewrite(self, kong: Any) -> None:
        self._run(kong, "rewrite")

    def access(self, kong: Any) -> None:
        self._run(kong, "access")

    def response(self, kong: Any) -> None:
        self._run(kong, "response")

    def log(self, kong: Any) -> None:
        self._run(kong, "log")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return (
            bytes.fromhex(value["$bytes"]) if "$bytes" in value else {key: _plain(each) for key, each in value.items()}
        )
    return [_plain(each) for each in value] if isinstance(value, list) else value
