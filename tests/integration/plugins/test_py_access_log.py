"""``py-access-log``: every request's entry arrives at the collector, without its secrets."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from collector import CLOSE, Collector, serving
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from integration.plugins.conftest import Gateway, Snippet
from integration.plugins.nodes import PLUGINS, UPSTREAM_URL
from kong_pdk.plugin import Source, load
from kong_pdk.schema.config_values import validate_config
from waiting import wait_for

NAME = "py-access-log"
PAGE = f"docs/plugins/{NAME}.md"

RECORD: dict[str, Any] = {
    "request": {
        "method": "GET",
        "uri": "/a?token=s3cret&b=1&access%5Ftoken=s3cret#id_token=s3cret",
        "url": "http://h:8000/a?token=s3cret&b=1",
        "querystring": {"token": "s3cret", "Api_Key": ["s3cret"], "b": "1"},
        "headers": {
            "Authorization": "Basic s3cret",
            "cookie": ["s3cret", "s3cret"],
            "referer": "http://x/?token=s3cret",
        },
    },
    "response": {"status": 200, "headers": {"set-cookie": "s3cret", "location": "/cb#access_token=s3cret&state=1"}},
    "upstream_uri": "/base?TOKEN=s3cret",
    "latencies": {"proxy": 3},
}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    with serving(collector) as url:
        yield collector, url


@pytest.fixture
def collector(served: tuple[Collector, str]) -> Collector:
    """Give a collector without entries of earlier tests, also of those that are sent late."""
    wait_for(lambda: senders() == [])
    served[0].begin()
    return served[0]


@pytest.fixture
def url(served: tuple[Collector, str], collector: Collector) -> str:
    return served[1]


def senders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def config(url: str, **more: Any) -> str:
    plugin = {"name": NAME, "config": {"endpoint": url, "flush_seconds": 0.05, **more}}
    service = {"name": "shop", "url": UPSTREAM_URL, "routes": [{"name": "shop", "paths": ["/"]}]}
    return json.dumps({"_format_version": "3.0", "services": [service], "plugins": [plugin]})


class Kong:
    """Kong's API that the log handler uses."""

    def __init__(self, record: Mapping[str, Any] | str) -> None:
        self.log = self
        self._record = record if isinstance(record, str) else json.dumps(record)

    def serialize(self) -> str:
        return self._record


@pytest.fixture(scope="module")
def plugin() -> Callable[..., Any]:
    """Make an instance, whose configuration has the defaults of the schema."""
    loaded = load(Source(NAME, PLUGINS / NAME / "plugin.py"))

    def make(url: str, **given: Any) -> Any:
        full, errors = validate_config(loaded.schema, {"endpoint": url, "flush_seconds": 0.05, **given})
        assert not errors
        return loaded.cls(full)

    return make


def log(instance: Any, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        instance.log(Kong({"number": number}))


def numbers(collector: Collector) -> list[int]:
    return [entry["number"] for entry in collector.entries]


def test_the_page(default_gateway: Gateway, snippet: Snippet, collector: Collector, url: str) -> None:
    shown = snippet(PAGE, NAME)
    endpoint = "http://collector:9880/logs"
    assert endpoint in shown
    node = default_gateway(NAME, configuration=shown.replace(endpoint, url))
    node.request("GET", "/path?token=1&a=2", [("User-Agent", "ua"), ("Authorization", "Bearer s3cret")])
    wait_for(lambda: collector.entries)

    [entry] = collector.entries
    assert entry["request"]["method"] == "GET"
    assert entry["request"]["uri"] == "/path?token=REDACTED&a=2"
    assert entry["request"]["headers"] == {"user-agent": "ua"}
    assert entry["response"] == {"status": 200}
    assert entry["environment"] == "production"
    assert collector.batches[0].path == "/logs"
    assert collector.batches[0].headers["authorization"] == "Bearer a-token"
    assert collector.batches[0].headers["content-type"] == "application/x-ndjson"
    assert node.trouble() == []


def test_every_request_has_one_entry(gateway: Gateway, collector: Collector, url: str) -> None:
    node = gateway(NAME, configuration=config(url, batch_size=10))
    for number in range(53):
        node.request("GET", f"/{number}")
    wait_for(lambda: len(collector.entries) >= 53)

    assert sorted(int(entry["request"]["uri"][1:]) for entry in collector.entries) == list(range(53))
    assert all(len(batch.entries) <= 10 for batch in collector.batches)
    assert node.trouble() == []


def test_the_whole_record(gateway: Gateway, collector: Collector, url: str) -> None:
    node = gateway(NAME, configuration=config(url, batch_size=10))
    node.request("POST", "/a?b=1", [("X-Bytes", b"caf\xe9"), ("Cookie", "s3cret"), ("X-Api-Key", "s3cret")], b"body")
    wait_for(lambda: collector.entries)

    [entry] = collector.entries
    assert {"request", "response", "latencies", "client_ip", "started_at", "service", "route"} <= set(entry)
    assert entry["request"]["headers"]["x-bytes"] == "caf\ufffd"
    assert "s3cret" not in json.dumps(collector.entries)


def test_requests_do_not_wait_for_the_collector(gateway: Gateway, collector: Collector, url: str) -> None:
    node = gateway(NAME, configuration=config(url, batch_size=10))
    collector.answers.clear()
    for number in range(25):
        assert node.request("GET", f"/{number}").status == 200
    assert collector.entries == []
    collector.answers.set()
    wait_for(lambda: len(collector.entries) == 25)


@pytest.mark.parametrize(
    ("engine", "workers", "protocol"),
    [
        ("threads", "1", "protobuf"),
        ("threads", "2", "msgpack"),
        ("gevent", "1", "msgpack"),
        ("gevent", "2", "protobuf"),
    ],
)
def test_waiting_entries_are_sent_when_the_server_ends(
    gateway: Gateway, collector: Collector, url: str, engine: str, workers: str
) -> None:
    environment = {"KONG_PYTHON_ENGINE": engine, "KONG_PYTHON_WORKERS": workers}
    node = gateway(NAME, configuration=config(url, flush_seconds=3600, batch_size=20), environment=environment)
    for number in range(50):
        node.request("GET", f"/{number}")
    assert len(collector.entries) <= 40

    assert node.stop() == 0
    assert sorted(int(entry["request"]["uri"][1:]) for entry in collector.entries) == list(range(50))


def test_a_server_ends_without_its_collector(default_gateway: Gateway, collector: Collector, url: str) -> None:
    node = default_gateway(NAME, configuration=config(url, flush_seconds=3600, timeout_seconds=30))
    collector.answers.clear()
    for number in range(3):
        node.request("GET", f"/{number}")

    assert node.stop() == 0
    assert "3 entries are lost" in node.wait_for_line("the plugin server ended before they were known to have arrived")


@pytest.mark.parametrize("statuses", [[503, 500], [CLOSE], [CLOSE, 429, 408]])
def test_a_batch_is_sent_until_it_is_accepted(
    plugin: Callable[..., Any], collector: Collector, url: str, statuses: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    collector.statuses.extend(statuses)
    instance = plugin(url)
    log(instance, 5)
    wait_for(lambda: senders() == [])

    assert numbers(collector) == [0, 1, 2, 3, 4]
    [fails, over] = caplog.messages
    assert fails.startswith(f"{url} takes no entries (")
    assert fails.endswith("trying again, 5 wait")
    assert over == f"{url} takes entries again"


def test_a_collector_that_comes_back(plugin: Callable[..., Any], collector: Collector) -> None:
    with serving(collector) as url:
        port = int(url.split(":")[2].split("/")[0])
    instance = plugin(url)
    log(instance, 3)
    with serving(collector, port):
        wait_for(lambda: len(collector.entries) == 3)
    log(instance, 2, first=3)  # The collector has closed the connection that the plugin kept.
    with serving(collector, port):
        wait_for(lambda: numbers(collector) == [0, 1, 2, 3, 4])


def test_retry_after(plugin: Callable[..., Any], collector: Collector, url: str) -> None:
    collector.statuses.append(429)
    collector.answer_headers["Retry-After"] = "1"
    began = time.monotonic()
    log(plugin(url), 1)
    wait_for(lambda: collector.entries)

    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("status", [400, 401, 404, 301])
def test_a_batch_that_is_refused_does_not_stop_the_others(
    plugin: Callable[..., Any], collector: Collector, url: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    collector.statuses.append(status)
    instance = plugin(url, batch_size=2)
    log(instance, 2)
    wait_for(lambda: senders() == [])
    log(instance, 2, first=2)
    wait_for(lambda: collector.entries)

    assert numbers(collector) == [2, 3]
    assert caplog.messages == [f"2 entries are lost that {url} was to get: they were refused with status {status}"]


def test_a_batch_that_is_too_large_is_halved(plugin: Callable[..., Any], collector: Collector, url: str) -> None:
    collector.most_entries = 2
    log(plugin(url, batch_size=7), 7)
    wait_for(lambda: senders() == [])

    assert numbers(collector) == list(range(7))


def test_one_entry_that_is_too_large(
    plugin: Callable[..., Any], collector: Collector, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    collector.most_entries = 0
    log(plugin(url), 2)
    wait_for(lambda: senders() == [])

    assert numbers(collector) == []
    assert all("status 413" in message for message in caplog.messages)


@pytest.mark.parametrize("limit", [{"queue_size": 4}, {"queue_bytes": 1024}])
def test_a_full_queue_loses_the_oldest(
    plugin: Callable[..., Any], collector: Collector, url: str, limit: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    collector.answers.clear()
    instance = plugin(url, batch_size=1, **limit)
    instance.log(Kong({"number": 0, "text": "a" * 200}))
    wait_for(lambda: instance._sender._in_hand)
    for number in range(1, 20):
        instance.log(Kong({"number": number, "text": "a" * 200}))
    collector.answers.set()
    wait_for(lambda: senders() == [])
    instance._sender.join()

    assert numbers(collector) == [0, 16, 17, 18, 19]
    assert sum(int(message.split()[0]) for message in caplog.messages) == 15
    assert all(message.endswith("the queue was full") for message in caplog.messages)


def test_batches_have_a_size_in_bytes(plugin: Callable[..., Any], collector: Collector, url: str) -> None:
    instance = plugin(url, batch_bytes=1024)
    for number in range(9):
        instance.log(Kong({"number": number, "text": "a" * 300}))
    instance.log(Kong({"number": 9, "text": "a" * 2000}))
    wait_for(lambda: senders() == [])

    assert numbers(collector) == list(range(10))
    assert max(len(batch.entries) for batch in collector.batches) == 3


def test_a_thread_runs_only_while_entries_wait(plugin: Callable[..., Any], collector: Collector, url: str) -> None:
    instances = [plugin(url) for _ in range(5)]
    assert senders() == []
    for instance in instances:
        log(instance, 10)
    assert len(senders()) <= 5
    wait_for(lambda: senders() == [])
    assert len(collector.entries) == 50


def test_entries_of_many_threads(plugin: Callable[..., Any], collector: Collector, url: str) -> None:
    instance = plugin(url, batch_size=7)
    threads = [threading.Thread(target=log, args=(instance, 50, 50 * at)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: senders() == [])

    assert sorted(numbers(collector)) == list(range(400))


def test_a_dropped_instance_sends_its_entries(plugin: Callable[..., Any], collector: Collector, url: str) -> None:
    log(plugin(url, flush_seconds=0.3), 3)
    wait_for(lambda: numbers(collector) == [0, 1, 2])


def test_secrets(plugin: Callable[..., Any], collector: Collector, url: str) -> None:
    plugin(url).log(Kong(RECORD))
    wait_for(lambda: collector.entries)

    [entry] = collector.entries
    assert "s3cret" not in json.dumps(entry)
    assert entry["request"]["uri"] == "/a?token=REDACTED&b=1&access%5Ftoken=REDACTED#id_token=REDACTED"
    assert entry["request"]["querystring"] == {"token": "REDACTED", "Api_Key": "REDACTED", "b": "1"}
    assert entry["response"]["headers"]["location"] == "/cb#access_token=REDACTED&state=1"
    assert entry["latencies"] == {"proxy": 3}


def test_secret_names_can_be_configured(plugin: Callable[..., Any], collector: Collector, url: str) -> None:
    plugin(url, redact_headers=["Referer"], redact_parameters=["B"]).log(Kong(RECORD))
    wait_for(lambda: collector.entries)

    [entry] = collector.entries
    assert entry["request"]["headers"]["Authorization"] == "Basic s3cret"
    assert entry["request"]["headers"]["referer"] == "REDACTED"
    assert entry["request"]["url"] == "http://h:8000/a?token=s3cret&b=REDACTED"


@pytest.mark.parametrize("record", [{}, {"request": None, "response": [], "upstream_uri": 5}])
def test_a_small_record(plugin: Callable[..., Any], collector: Collector, url: str, record: dict[str, Any]) -> None:
    """The record of a TCP connection has neither request nor response."""
    plugin(url).log(Kong(record))
    wait_for(lambda: collector.entries)

    assert collector.entries == [record]


def test_fields_labels_and_gzip(plugin: Callable[..., Any], collector: Collector, url: str) -> None:
    fields = ["request.method", "response.status", "latencies", "request.headers.x", "nothing.here"]
    plugin(url, fields=fields, labels={"node": "a"}, gzip=True).log(Kong(RECORD))
    wait_for(lambda: collector.entries)

    assert collector.entries == [
        {"request": {"method": "GET"}, "response": {"status": 200}, "latencies": {"proxy": 3}, "node": "a"}
    ]
    assert collector.batches[0].headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"endpoint": "http://"}, "names no host"),
        ({"headers": {"x": "a\r\nb: c"}}, "the value of the header x has control characters"),
        ({"ca_file": "/nowhere.pem"}, "there is no file /nowhere.pem"),
    ],
)
def test_an_invalid_configuration(plugin: Callable[..., Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plugin(given.pop("endpoint", "http://127.0.0.1/"), **given)


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate of 127.0.0.1, and the TLS side of a server that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    return certificate_file, context


def test_tls(plugin: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A collector with an untrusted certificate gets no entries, unless the configuration allows it."""
    certificate, context = self_signed(tmp_path)
    collector = Collector()
    with serving(collector, tls=context) as url:
        refusing = plugin(url)
        log(refusing, 1)
        wait_for(lambda: caplog.messages)
        assert "certificate verify failed" in caplog.messages[0]
        assert collector.batches == []

        log(plugin(url, ca_file=str(certificate)), 1, first=1)
        log(plugin(url, tls_verify=False), 1, first=2)
        wait_for(lambda: sorted(numbers(collector)) == [1, 2])
        refusing._sender.hurry(0)
        wait_for(lambda: senders() == [])
