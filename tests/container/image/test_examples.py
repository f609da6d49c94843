"""The plugins of ./plugins behave as docker/kong.yml shows, with their packages installed at the start."""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from container.containers import TrackedContainer, started
from container.product import PACKAGES, REPOSITORY, Kong, Launcher, declarative

SECONDS = 300.0
"""The first start installs packages from an index."""

COLLECTOR = "http://collector:9880/logs"
COLLECTOR_PORT = 9880


@pytest.fixture(scope="module")
def packages(shared: Launcher) -> str:
    """The option that keeps packages between the containers of this module."""
    return f"--volume={shared.volume()}:{PACKAGES}"


@pytest.fixture(scope="module")
def examples(shared: Launcher, packages: str) -> Kong:
    config = (REPOSITORY / "docker" / "kong.yml").read_text(encoding="utf-8")
    container = shared.start(plugins=REPOSITORY / "plugins", config=config, index=True, options=[packages])
    container.wait_until_it_answers(seconds=SECONDS)
    return container


@pytest.fixture(scope="module")
def collector(image: str, network: str) -> Iterator[TrackedContainer]:
    script = REPOSITORY / "tests" / "collector.py"
    options = [f"--network={network}", "--network-alias=collector", "--no-healthcheck"]
    options.append(f"--volume={script}:/collector.py:ro")
    command = ("python3", "/collector.py", str(COLLECTOR_PORT))
    with started(image, *command, options=options, ports=(COLLECTOR_PORT,)) as container:
        container.wait_until_it_answers(port=COLLECTOR_PORT)
        yield container


def entries(collector: TrackedContainer) -> list[Any]:
    return list(collector.request(port=COLLECTOR_PORT).json())


def test_py_hello_greets_on_every_route(examples: Kong) -> None:
    """py-hello is on every route."""
    for path in ("/", "/rewrite"):
        assert (
            examples.request(path).headers["x-hello-from-python"].startswith("Python says hello from a Python plugin")
        )


def shown(route: str) -> str:
    """Give the command that docker/kong.yml shows for a route."""
    config = (REPOSITORY / "docker" / "kong.yml").read_text(encoding="utf-8")
    [command] = re.findall(rf"#\s+(curl .* http://127\.0\.0\.1:8000{route})\n", config)
    return str(command)


def test_py_json_schema_names_the_place_of_an_error(examples: Kong) -> None:
    """A body that does not fit is a 400 with a JSON Pointer; one that fits, also of 100 KiB, reaches the service."""
    [sent] = re.findall(r"-d '(.*?)'", shown("/validate"))
    headers = {"Content-Type": "application/json"}
    refused = examples.request("/validate", method="POST", headers=headers, body=sent.encode())
    assert (refused.status, refused.json()["message"]) == (400, "Request body does not fit the schema")
    assert refused.json()["errors"] == [{"path": "/count", "keyword": "minimum", "reason": 'must satisfy "minimum": 1'}]

    fits = json.dumps({**json.loads(sent), "count": 1, "note": "n" * 100 * 1024}).encode()
    passed = examples.request("/validate", method="POST", headers=headers, body=fits)
    assert (passed.status, passed.json()["body"]) == (200, fits.decode())


def test_py_bearer_token_sets_the_consumer(examples: Kong) -> None:
    """Without a valid token the answer is a 401 with a challenge; with one, Kong tells the service the consumer."""
    for without in ({}, {"Authorization": "Bearer x.y.z"}):
        refused = examples.request("/token", headers=without)
        assert (refused.status, refused.json()) == (401, {"message": "Unauthorized"})
        assert refused.headers["www-authenticate"].startswith('Bearer realm="kong"')

    [token] = re.findall(r"Bearer ([\w.-]+)", shown("/token"))
    headers = {"Authorization": f"Bearer {token}", "X-Authenticated-Subject": "root", "X-Consumer-Username": "root"}
    received = examples.request("/token", headers=headers).json()["headers"]
    assert received["x-authenticated-subject"] == "alice"
    assert received["x-consumer-username"] == "alice"
    assert "authorization" not in received


def test_py_response_rewrite_hides_credentials(examples: Kong) -> None:
    """A masked value does not reach the client; the rest of the response does, and its length is right."""
    credentials = base64.b64encode(b"ada:lovelace").decode()
    headers = {"Authorization": f"Basic {credentials}", "Accept-Encoding": "br, gzip"}
    answer = examples.request("/rewrite?a=1", headers=headers)

    received = answer.json()
    assert answer.status == 200
    assert received["headers"]["authorization"] == f"****{credentials[-4:]}"
    assert received["headers"]["accept-encoding"] == "gzip"
    assert "x-real-ip" not in received["headers"]
    assert (received["requested"], received["rewritten"]) == ("/rewrite?a=1", True)
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["cache-control"] == "no-store"


def test_py_response_rewrite_refuses_websocket_requests(examples: Kong) -> None:
    """Kong shows plugins no response to a WebSocket request, so the plugin refuses the request."""
    answer = examples.request("/rewrite", headers={"Connection": "Upgrade", "Upgrade": "websocket"})

    assert answer.status == 400


@pytest.mark.parametrize(
    "environment",
    [{}, {"KONG_PYTHON_PROTOCOL": "msgpack"}, {"KONG_PYTHON_ENGINE": "gevent", "KONG_PYTHON_WORKERS": "2"}],
    ids=["protobuf", "msgpack", "gevent-processes"],
)
def test_py_access_log_loses_nothing_at_a_stop(
    kong: Launcher, packages: str, collector: TrackedContainer, environment: dict[str, str]
) -> None:
    """The container is stopped right after 500 requests: the collector has an entry for each of them."""
    plugin = {"name": "py-access-log", "config": {"endpoint": COLLECTOR, "flush_seconds": 60}}
    folder = {f"py-access-log/{file.name}": file for file in (REPOSITORY / "plugins" / "py-access-log").glob("*.*")}
    container = kong.start(
        plugins=kong.folder(folder), config=declarative(plugin), index=True, options=[packages], env=environment
    )
    container.wait_until_it_answers("/not-counted", seconds=SECONDS)
    prefix = f"/{container.id[:12]}"
    with ThreadPoolExecutor(5) as threads:
        statuses = list(threads.map(lambda part: ask(container, f"{prefix}/{part}", 100), range(5)))
    assert statuses == [[200] * 100] * 5

    assert container.stop() == 0
    uris = [entry["request"]["uri"] for entry in entries(collector)]
    assert sorted(uri for uri in uris if uri.startswith(prefix)) == sorted(
        f"{prefix}/{part}/{number}" for part in range(5) for number in range(100)
    )


def ask(container: Kong, path: str, times: int) -> list[int]:
    """Make requests on one connection; return their statuses."""
    connection = http.client.HTTPConnection(*container.address(), timeout=60)
    try:
        statuses = []
        for number in range(times):
            connection.request("GET", f"{path}/{number}")
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        return statuses
    finally:
        connection.close()
