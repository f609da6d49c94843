"""The node that the tests of the base image start: its configuration and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from container.containers import TrackedContainer, run_once

STATUS = 8100
# One route, to the node's own status listener: an upstream that exists in every container.
CONFIGURATION = {
    "_format_version": "3.0",
    "services": [
        {
            "name": "status",
            "url": f"http://127.0.0.1:{STATUS}/status",
            "routes": [{"name": "status", "paths": ["/through"]}],
        }
    ],
}
ENVIRONMENT = {
    "KONG_DATABASE": "off",
    "KONG_STATUS_LISTEN": f"0.0.0.0:{STATUS}",
    "KONG_NGINX_WORKER_PROCESSES": "1",
    "KONG_DECLARATIVE_CONFIG_STRING": json.dumps(CONFIGURATION),
}


class StartNode(Protocol):
    def __call__(
        self, *command: str, env: Mapping[str, str] | None = None, options: Sequence[str] = (), wait: bool = True
    ) -> TrackedContainer: ...


def plugin_server(name: str, **dump: object) -> dict[str, str]:
    """Give the settings for a plugin server that Kong does not start; its query command prints this changed dump."""
    plugin = {
        "Name": name,
        "Version": "1.0.0",
        "Priority": 1000,
        "Phases": ["access"],
        "Schema": {"name": name, "fields": [{"config": {"type": "record", "fields": []}}]},
        **dump,
    }
    text = json.dumps({"Protocol": "ProtoBuf:1", "Plugins": [plugin]})
    key = f"KONG_PLUGINSERVER_{name.upper().replace('-', '_')}"
    return {
        "KONG_PLUGINS": f"bundled,{name}",
        "KONG_PLUGINSERVER_NAMES": name,
        f"{key}_SOCKET": f"/tmp/{name}.sock",
        f"{key}_QUERY_CMD": f"echo '{text}'",
    }


def kong_env(node: TrackedContainer, prefix: str = "/usr/local/kong") -> list[str]:
    """Give the lines of ``.kong_env``: the configuration of the running node."""
    return node.exec("cat", f"{prefix}/.kong_env").stdout.splitlines()


def environment_of_kong(image: str, env: Mapping[str, str] | None = None, options: Sequence[str] = ()) -> list[str]:
    """Give ``NAME=VALUE`` for each variable that the entrypoint passes to `kong`: a test program prints them.

    /proc does not show them for a running node: nginx overwrites them with the titles of its processes.
    """
    script = (
        "mkdir /tmp/bin && printf '#!/bin/sh\nexec env\n' >/tmp/bin/kong && chmod +x /tmp/bin/kong && "
        "PATH=/tmp/bin:$PATH exec /docker-entrypoint.sh kong show"
    )
    done = run_once(image, "bash", "-c", script, env=env, options=options)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()
