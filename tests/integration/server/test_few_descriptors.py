"""Processes whose descriptors are all in use."""

from __future__ import annotations

import pytest
from fake_kong import ProtobufKong
from server_process import ONE, Connect, Serve

PLUGIN = """
import os

lua_style = False
kept = []

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        try:
            while True:
                kept.append(open("/dev/null"))
        except OSError as error:
            kong.response.exit(403, str(error))

    def certificate(self, kong):
        os._exit(3)

    def log(self, kong):
        pass
"""


def limit(count: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({count}, {count}))"


@pytest.mark.parametrize("mode", ONE)
def test_a_worker_whose_plugin_keeps_all_descriptors_is_replaced(serve: Serve, connect: Connect) -> None:
    """New connections wait for the next worker."""
    served = serve(PLUGIN, before=limit(200))
    pid = served.pid_of_a_worker()
    kong = connect(served)
    instance = kong.start("probe", {})
    assert not kong.event(instance, "access")
    assert kong.made[-1][:1] == ("kong.response.exit",)
    for _ in range(5):  # more than what has become free meanwhile
        assert connect(served).event(instance, "log")
    assert served.pid_of_a_worker() != pid
    assert "cannot accept connections (Too many open files), although it has only" in served.said()
    assert served.stop() == 0


@pytest.mark.parametrize("mode", ["loop"])
def test_a_worker_is_started_again_where_the_master_has_more_connections_than_it_can_hold(serve: Serve) -> None:
    served = serve(PLUGIN, before=limit(100))
    kongs = [ProtobufKong(served.socket) for _ in range(60)]
    instance = kongs[0].start("probe", {})
    for kong in kongs:
        assert kong.event(instance, "log")
    served.wait_for_log("Kong has more than 36 connections")
    assert not kongs[0].event(instance, "certificate")
    new = ProtobufKong(served.socket)
    assert new.event(new.start("probe", {}), "log")
    assert kongs[1].event(instance, "log")
    for kong in [*kongs, new]:
        kong.close()
