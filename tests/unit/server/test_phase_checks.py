"""Calls that Kong refuses in a phase fail in the plugin server and never reach Kong."""

from __future__ import annotations

from typing import Any

import pytest
from kong_pdk import PhaseError
from kong_pdk.pdk.kong import absent
from kong_pdk.plugin import PHASES
from kong_pdk.wire.pdk_functions import allowed, functions, phases_of

SUBSYSTEM = "kong.nginx.get_subsystem"
EVENTS = [(phase, "stream" if phase == "preread" else "http") for phase in PHASES] + [("log", "stream")]


def _refused(phase: str, subsystem: str) -> list[str]:
    return [function for function in functions() if allowed(function, phase, subsystem) is False]


def _call(kong: Any, path: str) -> None:
    for name in path.split(".")[1:]:
        kong = getattr(kong, name)
    kong()


class Calls:
    """A plugin that makes all calls that Kong refuses in a phase of a subsystem, and goes on after each."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.subsystem = config["subsystem"]

    def _call_all(self, kong: Any, phase: str) -> None:
        for path in _refused(phase, self.subsystem):
            with pytest.raises(PhaseError, match=rf"^{path} cannot be called in the {phase} phase; "):
                _call(kong, path)


for _phase in PHASES:
    setattr(Calls, _phase, lambda self, kong, phase=_phase: self._call_all(kong, phase))


@pytest.mark.parametrize(("phase", "subsystem"), EVENTS)
def test_no_refused_call_leaves_the_server(serve, connect, phase, subsystem, caplog):
    assert _refused(phase, subsystem)
    kong = connect(serve(Calls))
    instance = kong.start("probe", {"subsystem": subsystem})
    assert kong.event(instance, phase, {SUBSYSTEM: subsystem})
    assert {method for method, _ in kong.made} <= {SUBSYSTEM}
    assert "handler raised" not in caplog.text


@pytest.mark.parametrize(
    ("phase", "path"),
    [
        ("log", "kong.request.get_method"),
        ("access", "kong.response.get_raw_body"),
        ("preread", "kong.request.get_header"),
    ],
)
def test_the_log_names_function_phase_and_allowed_phases(serve, connect, caplog, phase, path):
    class Plugin:
        def __init__(self, config):
            pass

    setattr(Plugin, phase, lambda self, kong: _call(kong, path))
    kong = connect(serve(Plugin))
    kong.event(kong.start("probe"), phase)
    works = f"it works in {', '.join(phases_of(path))}"
    if not phases_of(path):
        works = f"no phase of a plugin server can call it; {absent.REFUSED[path]}"
    said = f"probe: the {phase} handler raised PhaseError: {path} cannot be called in the {phase} phase; {works} ("
    assert said in caplog.text
    assert path not in [method for method, _ in kong.made]
