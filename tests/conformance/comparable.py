"""The table of values that differ from run to run and are compared by shape, for both directions."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from conformance.recordings import FOLDER, node_id
from kong_pdk.gateway.entities import WORKSPACE_ID
from kong_pdk.wire.pdk_values.protobuf_results import RawBody

# Values under these names, wherever they are, and results of these functions. Of times the number of digits is
# compared: seconds are no milliseconds.
TIMES = {
    "created_at", "updated_at", "started_at", "balancer_start", "balancer_start_ns", "kong.nginx.req_start_time",
    "kong.request.get_start_time",
}  # fmt: skip
MASKED = TIMES | {
    # made or measured for each request
    "date", "x-kong-request-id", "x-kong-proxy-latency", "x-kong-upstream-latency", "latencies", "balancer_latency",
    "balancer_latency_ns", "kong.client.get_port", "kong.client.get_forwarded_port",
    # contain the digits of a port or of a latency
    "content-length", "size",
    # of the configuration, the machine and its Kong
    "__seq__", "kong.node.get_hostname", "kong.nginx.get_statistics",
}  # fmt: skip

# Headers of responses that the recordings leave out.
UNRECORDED = {
    "date", "server", "via", "connection", "transfer-encoding", "keep-alive", "x-kong-request-id",
    "x-kong-proxy-latency", "x-kong-upstream-latency", "x-kong-response-latency",
}  # fmt: skip

# Besides:
# - The ports of this run are replaced by the recorded ones.
# - A UUID that neither the configuration nor a setting of the node gives is generated; "<id>" stands for it.
# - 32 hexadecimal digits under "id" or "request_id" are the generated id of a request; "<text>" stands for them.
# - Ids of instances, events and messages, and sequence numbers, are mapped (replay.py).
# - The names of a map have no order.

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_REQUEST_ID = re.compile(r'("request_id":"|"id":")[0-9a-f]{32}"')


def shape(value: Any) -> Any:
    """Give a value's types, lists and names, without the contents."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return "<number>" if isinstance(value, (int, float)) else "<text>"


def _mask(name: str, value: Any) -> Any:
    is_time = name in TIMES and isinstance(value, (int, float))
    return f"<a time of {len(str(int(value)))} digits>" if is_time else shape(value)


@cache
def _given_ids() -> frozenset[str]:
    texts = [path.read_text("utf-8") for path in FOLDER.glob("kong*.yml")]
    return frozenset([node_id(), WORKSPACE_ID, *(id for text in texts for id in _ID.findall(text))])


class Comparable:
    """Makes values of two runs comparable. ``ports`` maps this run's ports to the recorded ones."""

    def __init__(self, ports: dict[int, int]) -> None:
        self._ports = ports

    def result(self, function: str, value: Any) -> Any:
        """A result of a PDK call."""
        if not value:
            return self.value(value)
        if function in MASKED:
            return _mask(function, value)
        if function == "kong.node.get_memory_stats":
            # The embedded gateway has no shared dicts, and gives its own memory in place of Lua's.
            return {"workers_lua_vms": shape(value["workers_lua_vms"])}
        if function.startswith("kong.service.response.get_") and function.endswith("body"):
            return self._echo(value) if isinstance(value, dict) else self.body(value)
        if function == "kong.request.get_raw_body" and isinstance(value, RawBody) and value.path:
            value = RawBody(path="<the file that holds the body>")
        return self.value(json.loads(value) if function == "kong.log.serialize" else value)

    def value(self, value: Any, name: str = "") -> Any:
        """A value of any depth."""
        is_request_id = name == "id" and isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value)
        if name in MASKED or is_request_id:
            return _mask(name, value)
        if isinstance(value, dict):
            return {key: self.value(item, str(key).lower()) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return self._ports.get(value, value)
        return self._text(value) if isinstance(value, str) else value

    def headers(self, headers: list[list[str]]) -> list[tuple[str, str]]:
        """Headers in the order of their names; the values of one name keep their order."""
        pairs = [(name.lower(), "<text>" if name.lower() in MASKED else self._text(value)) for name, value in headers]
        return sorted(pairs, key=lambda pair: pair[0])

    def body(self, body: bytes) -> Any:
        """A response's body: the upstream's echo, one of Kong's errors, or bytes."""
        try:
            content = json.loads(body)
        except ValueError:
            return body
        if isinstance(content, dict) and "body_hex" in content:
            return self._echo(content)
        return _REQUEST_ID.sub(r'\1<text>"', body.decode())

    def _echo(self, content: dict[str, Any]) -> dict[str, Any]:
        """What reached the upstream: headers have no order. A body's length there is that of the recording."""
        kept = [pair for pair in content["headers"] if pair[0] == "content-length"]
        return {**content, "headers": self.headers(content["headers"]), "lengths": kept}

    def _text(self, value: str) -> str:
        """A text with this run's ports replaced and generated ids removed."""
        value = _ID.sub(lambda id: id[0] if id[0] in _given_ids() else "<id>", value)
        if value.isdigit() and int(value) in self._ports:
            return str(self._ports[int(value)])
        for ours, recorded in self._ports.items():
            value = value.replace(f":{ours}", f":{recorded}")
        return value
