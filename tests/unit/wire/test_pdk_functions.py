"""The table of phases."""

from __future__ import annotations

import pytest
from kong_pdk.wire.pdk_functions import allowed, depends_on_subsystem, phases_of


@pytest.mark.parametrize(
    ("method", "phase", "verdict"),
    [
        ("kong.request.get_header", "access", True),
        ("kong.request.get_header", "log", True),
        ("kong.request.get_header", "preread", False),
        ("kong.request.get_header", "certificate", False),
        ("kong.request.get_method", "log", False),
        ("kong.request.get_method", "certificate", None),
        ("kong.nosuch.function", "access", None),
        ("kong.request.get_header", "nosuch", None),
    ],
)
def test_the_table_has_the_measured_results(method, phase, verdict):
    assert allowed(method, phase) is verdict


def test_the_log_of_a_stream_has_its_own_results():
    assert allowed("kong.client.get_protocol", "log", "http") is False
    assert allowed("kong.client.get_protocol", "log", "stream") is True
    assert depends_on_subsystem("kong.client.get_protocol")
    assert not depends_on_subsystem("kong.ctx.shared.get")


def test_the_phases_of_a_call():
    assert phases_of("kong.response.exit") == ("rewrite", "access", "response", "preread")
