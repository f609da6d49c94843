"""``kong-python dev``: plugins behind the embedded gateway, as a person runs it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kong_pdk.cli import main
from kong_pdk.wire.interface import STOCK, as_text

DEADLINE = 60
PY_HELLO = Path(__file__).parents[3] / "plugins" / "py-hello.py"
SERVING = re.compile(r"serving \S+ on (https?)://127\.0\.0\.1:(\d+)")


@dataclass
class Dev:
    """A running ``kong-python dev``."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    def get(self, path: str = "/", scheme: str = "http", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        port = self.ports[scheme]
        if scheme == "https":
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=DEADLINE, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


Start = Callable[..., Dev]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Run ``kong-python dev`` on free ports until it serves, or ends."""
    running: list[tuple[Dev, threading.Thread]] = []

    def begin(*arguments: str, **variables: str) -> Dev:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KONG_")}
        process = subprocess.Popen(
            [sys.executable, "-c", "import sys; from kong_pdk.cli import main; sys.exit(main())", "dev",
             "--port", "0", "--tls-port", "0", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="backslashreplace",
            env={**environment, **variables},
        )  # fmt: skip
        dev = Dev(process)
        serving = threading.Event()

        def read() -> None:
            for line in process.stdout:
                dev.lines.append(line)
                if found := SERVING.search(line):
                    dev.ports[found[1]] = int(found[2])
                if len(dev.ports) == 2:
                    serving.set()
            serving.set()

        reader = threading.Thread(target=read)
        reader.start()
        running.append((dev, reader))
        assert serving.wait(DEADLINE), dev.lines
        return dev

    yield begin
    for dev, reader in running:
        if dev.process.poll() is None:
            dev.stop()
        reader.join(DEADLINE)
        dev.process.stdout.close()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run ``kong-python dev``, in this process, where it does not start to serve; gives the lines that it writes."""
    for name in [name for name in os.environ if name.startswith("KONG_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, **variables: str) -> list[str]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert main(["dev", "--port", "0", "--tls-port", "0", *arguments]) == 78
        written = capfd.readouterr()
        lines = [*written.out.splitlines(), *written.err.splitlines()]
        assert not any(map(SERVING.search, lines))
        return lines

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "plugins"
    made.mkdir()
    (made / "py-hello.py").write_bytes(PY_HELLO.read_bytes())
    return made


@pytest.mark.parametrize("protocol", ["protobuf", "msgpack"])
def test_py_hello_answers(start, folder, protocol):
    dev = start(str(folder), KONG_PYTHON_PROTOCOL=protocol)
    for scheme in ("http", "https"):
        status, headers, body = dev.get("/x?a=1", scheme, host="example.test")
        assert status == 200
        assert headers["x-hello-from-python"] == "Python says hello to example.test"
        assert json.loads(body)["path"] == "/x?a=1"
    assert dev.stop() == 0
    assert not any(level in line for line in dev.lines for level in ("[error]", "[crit]", "Traceback"))


@pytest.mark.parametrize("protocol", ["protobuf", "msgpack"])
def test_names_with_capitals(start, folder, protocol):
    text = "class Plugin:\n    def __init__(self, config): pass\n    def access(self, kong):\n        "
    for name in ("AI-Powered", "authChecker"):
        (folder / f"{name}.py").write_text(f"{text}kong.response.set_header('x-{name}', 'yes')\n")
    dev = start(str(folder), KONG_PYTHON_PROTOCOL=protocol)
    headers = dev.get("/")[1]
    assert (headers["x-ai-powered"], headers["x-authchecker"]) == ("yes", "yes")
    assert any("pluginserver ai-powered;" in line for line in dev.lines)
    assert dev.stop() == 0


@pytest.mark.parametrize("protocol", ["protobuf", "msgpack"])
def test_a_handler_that_raises_is_kong_s_500_and_the_next_request_is_fine(start, folder, protocol):
    (folder / "raises.py").write_text(
        "class Plugin:\n"
        "    def __init__(self, config): pass\n"
        "    def access(self, kong):\n"
        "        value, _ = kong.request.get_query_arg('raise')\n"
        "        if value:\n"
        "            raise RuntimeError('on purpose')\n"
    )
    dev = start(str(folder), KONG_PYTHON_PROTOCOL=protocol)
    status, headers, body = dev.get("/?raise")
    assert status == 500
    assert headers["content-type"] == "application/json; charset=utf-8"
    error = json.loads(body)
    assert error == {"message": "An unexpected error occurred", "request_id": headers["x-kong-request-id"]}
    assert dev.get("/")[0] == 200
    assert dev.stop() == 0
    assert any("RuntimeError: on purpose" in line and "raises.py:6" in line for line in dev.lines)


def test_run_again_after_an_edit_it_serves_the_edit(start, folder):
    first = start(str(folder))
    assert first.get()[1]["x-hello-from-python"].startswith("Python says")
    assert first.stop() == 0
    file = folder / "py-hello.py"
    file.write_text(file.read_text().replace("Python says", "Edited Python says"))
    assert start(str(folder)).get()[1]["x-hello-from-python"].startswith("Edited Python says")


def test_a_kong_yml_of_the_user(start, folder, tmp_path):
    file = tmp_path / "kong.yml"
    file.write_text(
        '_format_version: "3.0"\nservices:\n- name: a\n  url: http://127.0.0.1:1\n  routes:\n  - name: r\n'
        "    paths: [/only-here]\n"
    )
    dev = start(str(folder), "-c", str(file))
    status, _, body = dev.get("/elsewhere")
    assert (status, json.loads(body)["message"]) == (404, "no Route matched with those values")


def test_a_plugin_that_needs_configuration_is_left_off_the_demo_route_and_named(start, folder):
    (folder / "needs.py").write_text(
        'Schema = ({"key": {"type": "string", "required": True}},)\n'
        "class Plugin:\n    def __init__(self, config): pass\n    def access(self, kong): kong.response.exit(418)\n"
    )
    dev = start(str(folder))
    assert dev.get()[0] == 200
    assert any("needs is not on the demo route" in line and "config.key: required field missing" in line
               for line in dev.lines)  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_it_ends_with_0_and_leaves_nothing_behind(start, folder, number):
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("the tests run with this signal ignored, as under nohup")
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:  # short enough for sockets
        dev = start(str(folder), TMPDIR=temporary)
        assert dev.get()[0] == 200
        assert list(Path(temporary).iterdir())
        assert dev.stop(number) == 0
        assert list(Path(temporary).iterdir()) == []


def test_a_long_directory_for_temporary_files_is_no_obstacle(start, folder, tmp_path):
    temporary = tmp_path / ("x" * 100)
    temporary.mkdir()
    assert start(str(folder), TMPDIR=str(temporary)).get()[0] == 200


def test_mistakes_are_listed_and_nothing_is_served(refused, folder):
    (folder / "one.py").write_text("class Plugin:\n    def acces(self, kong): pass\n")
    (folder / "two.py").write_text("import nosuchmodule\nclass Plugin: pass\n")
    lines = refused(str(folder))
    said = "\n".join(lines)
    assert "one.py:2" in said
    assert "two.py:1" in said
    assert "Traceback" not in said


def test_wrong_settings_are_named_with_their_values(refused, folder):
    lines = refused(str(folder), KONG_PYTHON_PROTOCOL="grpc", KONG_PYTHON_NOSUCH="1")
    assert len(lines) == 2
    assert "there is no setting KONG_PYTHON_NOSUCH" in lines[0]
    assert "KONG_PYTHON_PROTOCOL is 'grpc'; set it to protobuf or msgpack" in lines[1]


def test_its_log_is_text_whatever_the_image_s_is_to_be(start, folder):
    dev = start(str(folder), KONG_PYTHON_LOG_FORMAT="json")
    assert dev.get()[0] == 200
    assert dev.stop() == 0
    assert any("py-hello: listening on" in line for line in dev.lines)
    assert not any(line.startswith("{") for line in dev.lines)


def test_an_invalid_configuration_is_refused_with_its_line(refused, folder, tmp_path):
    file = tmp_path / "kong.yml"
    file.write_text('_format_version: "3.0"\nplugins:\n- name: py-hello\n  config: {message: 5}\n')
    lines = refused(str(folder), "-c", str(file))
    said = "\n".join(lines)
    assert "kong.yml:4" in said
    assert "expected a string" in said
    assert "Traceback" not in said


def test_a_server_that_dies_is_started_again(start, folder):
    dev = start(str(folder))
    pid = int(dev.get()[1]["x-python-pid"])
    master = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(master), signal.SIGKILL)
    answers = []
    while not answers or answers[-1] in (500, pid):  # its worker may have a last answer to give
        status, headers, _ = dev.get()
        answers.append(int(headers["x-python-pid"]) if status == 200 else status)
        assert len(answers) < 10000
    assert any("py-hello ended" in line for line in dev.lines)


EXTENDED_PLUGIN = """
lua_style = False

class Plugin:
    def __init__(self, config): pass
    def access(self, kong):
        kong.response.exit(200, {"body": kong.request.get_body(), "flag": kong.request.get_query_arg("flag")})
"""


def test_plugins_reach_the_whole_pdk_as_in_the_image(start, folder):
    (folder / "reaches.py").write_text(EXTENDED_PLUGIN)
    dev = start(str(folder), KONG_PYTHON_PROTOCOL="protobuf")
    status, _, body = dev.get("/?flag")
    assert (status, json.loads(body)) == (200, {"body": None, "flag": True})
    assert dev.stop() == 0


def test_the_interface_file_of_another_kong_is_taken(start, folder, tmp_path):
    """What that Kong does not name raises, as it will there."""
    (folder / "reaches.py").write_text(EXTENDED_PLUGIN)
    file = tmp_path / "pluginsocket.proto"
    file.write_text(as_text(STOCK))
    dev = start(str(folder), KONG_PYTHON_PROTOCOL="protobuf", KONG_PYTHON_INTERFACE_FILE=str(file))
    assert dev.get("/?flag")[0] == 500
    assert dev.stop() == 0
    assert any("kong.request.get_body is not among the methods" in line for line in dev.lines)


USERS = """_format_version: "3.0"
vaults: [{name: env, prefix: lab, config: {prefix: LAB_}}]
services:
- name: a
  url: http://127.0.0.1:1
  routes:
  - {name: r, paths: [/], plugins: [{name: shows, config: {secret: "{vault://lab/pw}", plain: "{vault://lab/pw}"}}]}
  - {name: g, paths: [/hello.Greeter/], protocols: [grpc, grpcs]}
plugins:
- name: prometheus
- {name: file-log, config: {path: /dev/stdout}}
consumers:
- {username: a, acls: [{group: g}], jwt_secrets: [{key: k}]}
- {username: b, hmacauth_credentials: [{username: b}]}
_info: {select_tags: [team]}
"""
SHOWS = """
lua_style = False
Schema = [{"secret": {"type": "string", "referenceable": True}}, {"plain": {"type": "string"}}]


class Plugin:
    def __init__(self, config): self.config = config
    def rewrite(self, kong): pass
    def access(self, kong):
        kong.response.exit(200, {"secret": self.config["secret"], "plain": self.config["plain"]})
"""


def test_what_it_skips_and_what_kong_never_runs_is_said_and_the_rest_is_served(start, folder, tmp_path):
    (folder / "shows.py").write_text(SHOWS)
    file = tmp_path / "kong.yml"
    file.write_text(USERS)
    dev = start(str(folder), "-c", str(file), LAB_PW="s3cr3t")
    status, _, body = dev.get("/")
    assert (status, json.loads(body)) == (200, {"secret": "s3cr3t", "plain": "{vault://lab/pw}"})
    assert dev.get("/hello.Greeter/Say")[0] == 415
    assert dev.stop() == 0

    def said(level: str, words: str) -> int:
        return sum(f"[{level}] " in line and words in line for line in dev.lines)

    assert said("warn", "gateway skips Kong's bundled plugins prometheus (line 10), file-log (line 11): it has") == 1
    for protocol in ("grpc", "grpcs"):
        words = f"{file}:8: routes for {protocol} are not served: the embedded gateway has neither gRPC nor HTTP/2"
        assert said("warn", words) == 1
    assert said("warn", f"{file}:13: acls, hmacauth_credentials and jwt_secrets of consumers are skipped: the") == 1
    assert said("warn", f"{file}:7: plugin shows on route r: Kong never calls its rewrite, which runs for global") == 1
    assert said("notice", f"{file}:15: _info is for decK and Kong Enterprise: the open-source Kong refuses") == 1
    assert said("warn", "") == 7  # and of two plugin servers that no start command starts


def test_strict_refuses_what_it_would_skip(refused, folder, tmp_path):
    file = tmp_path / "kong.yml"
    file.write_text('_format_version: "3.0"\nplugins:\n- name: py-hello\n- name: cors\n- name: jwt\n')
    lines = refused(str(folder), "-c", str(file), "--strict")
    (said,) = [line for line in lines if "[error]" in line]
    assert f"{file}: the embedded gateway skips Kong's bundled plugins cors (line 4), jwt (line 5): it has" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("services: [{name: g, host: h, protocol: grpc}]", ":3: services for grpc are not served: the embedded"),
        ("routes: [{name: g, paths: [/], protocols: [grpc]}]", ":3: routes for grpc are not served: the embedded"),
        ("routes: [{name: u, sources: [{port: 1}], protocols: [udp]}]", ":3: routes for udp are not served: the"),
        ("consumers: [{username: a, jwt_secrets: [{key: k}]}]", ":3: jwt_secrets of consumers are skipped: the"),
        ("keys: [{name: k, kid: k}]", ":3: keys are skipped: the embedded gateway does not have them"),
    ],
)
def test_strict_refuses_whatever_is_not_served(refused, folder, tmp_path, text, words):
    file = tmp_path / "kong.yml"
    file.write_text(f'_format_version: "3.0"\n_info: {{select_tags: [a]}}\n{text}\n')
    lines = refused(str(folder), "-c", str(file), "--strict")
    (said,) = [line for line in lines if "[error]" in line]
    assert f"{file}{words}" in said
