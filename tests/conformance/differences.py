"""The table of values that differ from run to run and are compared by shape, for both directions."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from conformance.recordings import FOLDER, node_id
from kong_pdk.gateway.entities import WORKSPACE_ID
from kong_pdk.wire.pdk_values.protobuf_results import RawBody

# Values under these names, at any depth.
NAMES = {
    "__seq__": "counts the configurations that were loaded",
    "created_at": "when the configuration was loaded",
    "updated_at": "when the configuration was loaded",
    "started_at": "time of the request",
    "date": "time of the response",
    "x-kong-request-id": "made for each request",
    "x-kong-proxy-latency": "measured",
    "x-kong-upstream-latency": "measured",
    "content-length": "the port's digits are part of what the upstream echoes",
    "size": "contains the port's digits and the latency headers",
    "latencies": "measured",
    "balancer_start": "time",
    "balancer_start_ns": "time",
    "balancer_latency": "measured",
    "balancer_latency_ns": "measured",
}

# Times must have the same number of digits: seconds are not milliseconds.
TIMES = {
    "created_at",
    "updated_at",
    "started_at",
    "balancer_start",
    "balancer_start_ns",
    "kong.nginx.req_start_time",
    "kong.request.get_start_time",
}

# Results of these functions are compared by shape as a whole.
RESULTS = {
    "kong.client.get_port": "the client's port",
    "kong.client.get_forwarded_port": "the client's port, unless there is none",
    "kong.nginx.req_start_time": "time",
    "kong.request.get_start_time": "time",
    "kong.node.get_hostname": "the machine's name",
    "kong.nginx.get_statistics": "counted",
}

# Results of these functions are compared by shape in part, by a method of Comparable.
PARTS = {
    "kong.node.get_memory_stats": (
        "memory",
        "Lua's memory; the embedded gateway has no shared dicts, and gives its own",
    ),
    "kong.request.get_raw_body": ("spooled", "the path of the file that holds a large body"),
    "kong.log.serialize": ("serialized", "a JSON text, in which names have no order"),
    "kong.service.response.get_raw_body": ("body", "the upstream's echo of headers, which have no order"),
    "kong.service.response.get_body": ("echo", "the same"),
}

# Headers of responses that the recordings leave out.
UNRECORDED = {
    "date",
    "server",
    "via",
    "connection",
    "transfer-encoding",
    "keep-alive",
    "x-kong-request-id",
    "x-kong-proxy-latency",
    "x-kong-upstream-latency",
    "x-kong-response-latency",
}

# Besides: ports of this run replace the recorded ones. Kong and our gateway generate ids differently, unless the
# configuration or the node's settings give them; 32 hexadecimal digits under "id" and "request_id" are a request's
# id. Instance ids, event ids, message ids and sequence numbers are mapped (run_ids.py). Names in maps have no
# order.

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
    """Give the compared part of a value under one of these names."""
    if name in TIMES and isinstance(value, (int, float)):
        return f"<a time of {len(str(int(value)))} digits>"
    return shape(value)


@cache
def _given_ids() -> frozenset[str]:
    texts = [path.read_text("utf-8") for path in FOLDER.glob("kong*.yml")]
    return frozenset([node_id(), WORKSPACE_ID, *(id for text in texts for id in _ID.findall(text))])


class Comparable:
    """Makes values of two runs comparable. ``ports`` maps this run's ports to the recorded ones."""

    def __init__(self, ports: dict[int, int]) -> None:
        self._ports = ports
        self._texts = {f":{port}": f":{recorded}" for port, recorded in ports.items()}

    def result(self, method: str, value: Any) -> Any:
        """A result of a PDK call."""
        if method in RESULTS and value:
            return _mask(method, value)
        part, _ = PARTS.get(method, (None, ""))
        return self.value(value) if part is None or not value else getattr(self, part)(value)

    def memory(self, value: dict[str, Any]) -> Any:
        """Lua's memory and shared dicts: this gateway has neither, and gives its own memory."""
        return {"workers_lua_vms": shape(value["workers_lua_vms"])}

    def spooled(self, value: Any) -> Any:
        """A body, or the path of its file."""
        if isinstance(value, RawBody) and value.path:
            return RawBody(path="<the file that holds the body>")
        return value

    def serialized(self, value: str) -> Any:
        """A serialized log."""
        return self.value(json.loads(value))

    def value(self, value: Any, name: str | None = None) -> Any:
        """A value of any depth."""
        if name is not None and (name in NAMES or (name == "id" and _is_request_id(value))):
            return _mask(name, value)
        if isinstance(value, dict):
            return {key: self.value(item, str(key).lower()) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return self._ports.get(value, value)
        return self.text(value) if isinstance(value, str) else value

    def text(self, value: str) -> str:
        """A text with this run's ports replaced and generated ids removed."""
        value = _ID.sub(lambda id: id[0] if id[0] in _given_ids() else "<id>", value)
        if value.isdigit() and int(value) in self._ports:
            return str(self._ports[int(value)])
        for port, recorded in self._texts.items():
            value = value.replace(port, recorded)
        return value

    def headers(self, headers: list[list[str]]) -> list[tuple[str, str]]:
        """Headers in the order of their names; the values of one name keep their order."""
        pairs = [(name.lower(), "<text>" if name.lower() in NAMES else self.text(value)) for name, value in headers]
        return sorted(pairs, key=lambda pair: pair[0])

    def body(self, body: bytes) -> Any:
        """A response's body: the upstream's echo, one of Kong's errors, or bytes."""
        try:
            content = json.loads(body)
        except ValueError:
            return body
        if isinstance(content, dict) and "body_hex" in content:
            return self.echo(content)
        return _REQUEST_ID.sub(r'\1<text>"', body.decode())

    def echo(self, content: dict[str, Any]) -> dict[str, Any]:
        """The request as the upstream received it. The body's length is taken from the recording."""
        lengths = [pair for pair in content["headers"] if pair[0] == "content-length"]
        return {**content, "headers": self.headers(content["headers"]), "lengths": lengths}


def _is_request_id(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value) is not None
