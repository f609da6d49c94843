"""The supervised program that serves the container's metrics. Kong runs on if it fails."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType

from kong_pdk.exit_status import CONFIGURATION_STATUS, StartError
from kong_pdk.image.ping import ping_all, read_servers
from kong_pdk.image.run_directory import RunDirectory, locate
from kong_pdk.logs import NOTICE, configure
from kong_pdk.metrics.collector import PluginCollector
from kong_pdk.metrics.metrics_server import MetricsServer
from kong_pdk.settings import METRICS_LISTEN, Address, SettingError

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 5.0
_PING_SECONDS = 1.0


def main() -> int:
    """Serve until SIGTERM, SIGQUIT or SIGINT.

    :return: the exit status.
    """
    configure("metrics")
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        address = METRICS_LISTEN.read(os.environ)
    except SettingError as error:
        _log.error("%s", error)
        return CONFIGURATION_STATUS
    if address is None:
        _log.error("%s is off: no metrics are served", METRICS_LISTEN.name)
        return CONFIGURATION_STATUS
    run = locate(os.environ)
    server = _listen(address, PluginCollector(run.metrics, lambda: _server_states(run)))
    _log.log(NOTICE, "metrics are at http://%s:%d/metrics", _bracketed(address.host), address.port)
    server.serve_forever()
    return 0


def _listen(address: Address, collector: PluginCollector) -> MetricsServer:
    """Listen; try again while the port is taken or the address does not exist yet."""
    server, reported = _try_to_listen(address, collector), ""
    while isinstance(server, str):
        if server != reported:
            _log.error(
                "no metrics yet, cannot listen on %s:%d: %s; trying every %d s; free it, or set %s to another address",
                _bracketed(address.host), address.port, server, _RETRY_SECONDS, METRICS_LISTEN.name,
            )  # fmt: skip
        reported = server
        time.sleep(_RETRY_SECONDS)
        server = _try_to_listen(address, collector)
    return server


def _try_to_listen(address: Address, collector: PluginCollector) -> MetricsServer | str:
    """Listen, or give the reason for the failure."""
    try:
        return MetricsServer(address, collector)
    except (OSError, UnicodeError) as error:  # the host may be no valid name
        return getattr(error, "strerror", None) or str(error)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _server_states(run: RunDirectory) -> Mapping[str, bool]:
    try:
        servers = read_servers(run)
    except StartError as error:
        _log.error("%s", error)
        return {}
    silent = ping_all(servers, _PING_SECONDS)
    return {server.name: server.name not in silent for server in servers}


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
