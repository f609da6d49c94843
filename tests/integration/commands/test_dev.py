"""``kong-python dev``: plugins behind the embedded gateway, as a person runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest
from kong_pdk.cli import main
from kong_pdk.wire.interface import STOCK, as_text
from process_states import is_alive
from running_dev import SERVING, Dev
from waiting import DEADLINE, wait_for

PY_HELLO = Path(__file__).parents[3] / "plugins" / "py-hello.py"

Start = Callable[..., Dev]
STOPS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``kong-python dev``, with variables; it ends after the test."""
    started: list[Dev] = []

    def start_dev(*arguments: str, **variables: str) -> Dev:
        started.append(Dev(*arguments, environment=variables))
        return started[-1]

    yield start_dev
    for dev in started:
        dev.close()


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


SETS_A_HEADER = """
class Plugin:
    def __init__(self, config): pass
    def access(self, kong):
        kong.response.set_header("x-ai-powered", "yes")
"""
RAISES = """
class Plugin:
    def __init__(self, config): pass
    def access(self, kong):
        value, _ = kong.request.get_query_arg("raise")
        if value:
            raise RuntimeError("on purpose")
        kong.response.set_header("x-authchecker", "yes")
"""
NEEDS_CONFIGURATION = """
Schema = ({"key": {"type": "string", "required": True}},)
class Plugin:
    def __init__(self, config): pass
    def access(self, kong): kong.response.exit(418)
"""
WHOLE_PDK = """
lua_style = False
class Plugin:
    def __init__(self, config): pass
    def access(self, kong):
        if flag := kong.request.get_query_arg("flag"):
            kong.response.exit(200, {"body": kong.request.get_body(), "flag": flag})
"""


@pytest.fixture(scope="module", params=["protobuf", "msgpack"])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A folder of plugins on the demo route.

    The environment has the image's log format and a directory for temporary files whose path is too long for sockets.
    """
    plugins = tmp_path_factory.mktemp("plugins")
    (plugins / "py-hello.py").write_bytes(PY_HELLO.read_bytes())
    written = {"AI-Powered": SETS_A_HEADER, "authChecker": RAISES, "needs": NEEDS_CONFIGURATION, "whole": WHOLE_PDK}
    for name, text in written.items():
        (plugins / f"{name}.py").write_text(text)
    temporary = tmp_path_factory.mktemp("x" * 100)
    variables = {"KONG_PYTHON_LOG_FORMAT": "json", "TMPDIR": str(temporary)}
    dev = Dev(str(plugins), environment={"KONG_PYTHON_PROTOCOL": request.param, **variables})
    try:
        yield dev
        begin = len(dev.lines)
        assert dev.stop() == 0
        end = dev.lines[begin:]
        assert sum(": stopped" in line for line in end) == len([*plugins.glob("*.py")]), end
        assert errors(end) == []
    finally:
        dev.close()


def errors(lines: list[str]) -> list[str]:
    return [line for line in lines if any(word in line for word in ("[error]", "[crit]", "Traceback"))]


def test_py_hello_answers(demo):
    for scheme in ("http", "https"):
        reply = demo.get("/x?a=1", scheme, host="example.test")
        assert reply.status == 200
        assert reply.value("x-hello-from-python") == "Python says hello to example.test"
        assert reply.json()["path"] == "/x?a=1"


def test_a_start_and_a_request_log_no_error(demo):
    begin = len(demo.lines)
    assert demo.get("/no-error").status == 200
    demo.wait_for_line("GET /no-error")
    assert errors([*demo.lines_of_start, *demo.lines[begin:]]) == []


def test_names_with_capitals(demo):
    reply = demo.get()
    assert (reply.value("x-ai-powered"), reply.value("x-authchecker")) == ("yes", "yes")
    assert any("pluginserver ai-powered;" in line for line in demo.lines_of_start)


def test_a_handler_that_raises_is_kong_s_500_and_the_next_request_succeeds(demo):
    reply = demo.get("/?raise")
    assert reply.status == 500
    assert reply.value("content-type") == "application/json; charset=utf-8"
    request_id = reply.value("x-kong-request-id")
    assert reply.json() == {"message": "An unexpected error occurred", "request_id": request_id}
    assert demo.get().status == 200
    demo.wait_for_line("RuntimeError: on purpose", "authChecker.py:7")


def test_a_plugin_that_needs_configuration_is_left_off_the_demo_route_and_named(demo):
    assert demo.get().status == 200
    demo.wait_for_line("needs is not on the demo route", "config.key: required field missing")


def test_the_log_is_text_whatever_the_format_of_the_image(demo):
    assert demo.get().status == 200
    demo.wait_for_line("py-hello: listening on")
    assert not any(line.startswith("{") for line in demo.lines)


def test_plugins_reach_the_whole_pdk_as_in_the_image(demo):
    reply = demo.get("/?flag")
    assert (reply.status, reply.json()) == (200, {"body": None, "flag": True})


def test_each_signal_ends_it_with_0_and_leaves_nothing_behind_and_the_next_run_serves_an_edit(start, folder):
    file = folder / "py-hello.py"
    text = file.read_text()
    for number in STOPS:
        if signal.getsignal(number) == signal.SIG_IGN:
            continue  # as under nohup
        file.write_text(text.replace("Python says", f"{number.name} says"))
        with tempfile.TemporaryDirectory(dir="/tmp") as temporary:  # short enough for sockets
            dev = start(str(folder), TMPDIR=temporary)
            assert dev.get().value("x-hello-from-python").startswith(f"{number.name} says")
            assert list(Path(temporary).iterdir())
            assert dev.stop(number) == 0
            assert list(Path(temporary).iterdir()) == []


def test_mistakes_are_listed_and_nothing_is_served(refused, folder):
    (folder / "one.py").write_text("class Plugin:\n    def acces(self, kong): pass\n")
    (folder / "two.py").write_text("import nosuchmodule\nclass Plugin: pass\n")
    lines = refused(str(folder))
    output = "\n".join(lines)
    assert "one.py:2" in output
    assert "two.py:1" in output
    assert "Traceback" not in output


def test_wrong_settings_are_named_with_their_values(refused, folder):
    lines = refused(str(folder), KONG_PYTHON_PROTOCOL="grpc", KONG_PYTHON_NOSUCH="1")
    assert len(lines) == 2
    assert "there is no setting KONG_PYTHON_NOSUCH" in lines[0]
    assert "KONG_PYTHON_PROTOCOL is 'grpc'; set it to protobuf or msgpack" in lines[1]


def test_an_invalid_configuration_is_refused_with_its_line(refused, folder, tmp_path):
    file = tmp_path / "kong.yml"
    file.write_text('_format_version: "3.0"\nplugins:\n- name: py-hello\n  config: {message: 5}\n')
    lines = refused(str(folder), "-c", str(file))
    output = "\n".join(lines)
    assert "kong.yml:4" in output
    assert "expected a string" in output
    assert "Traceback" not in output


FROZEN = """
import os
import re

lua_style = False
URL = re.compile(r"^([a-z0-9]+[-.]?)+$")

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        if kong.request.get_header("x-freeze"):
            URL.match("a" * 60 + "!")
        kong.response.set_header("x-worker", str(os.getpid()))
"""


@pytest.fixture
def nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_hang_up_is_ignored_under_nohup_and_its_end_is_that_of_its_servers(start, folder, nohup):
    dev = start(str(folder))
    dev.process.send_signal(signal.SIGHUP)
    pid = int(dev.get().value("x-python-pid"))
    assert dev.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_for(lambda: not is_alive(pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_frozen_worker_ends_with_it(start, folder, number):
    """A regular expression holds Python's lock for good: no thread of the worker runs any more."""
    (folder / "frozen.py").write_text(FROZEN)
    dev = start(str(folder), KONG_PYTHON_TIMEOUT="0")
    pid = int(dev.get().value("x-worker"))
    with ThreadPoolExecutor(1) as threads:
        frozen = threads.submit(dev.get, **{"x-freeze": "yes"})
        wait_for(lambda: is_computing(pid))
        assert dev.stop(number) == (0 if number == signal.SIGINT else -signal.SIGKILL)
        wait_for(lambda: not is_alive(pid))
        with contextlib.suppress(OSError, HTTPException):
            assert frozen.result(DEADLINE).status == 500


def is_computing(pid: int) -> bool:
    """Whether a process has computed for a second since it was started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) > os.sysconf("SC_CLK_TCK")


def test_a_server_that_dies_is_restarted(start, folder):
    dev = start(str(folder))
    pid = int(dev.get().value("x-python-pid"))
    master = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(master), signal.SIGKILL)
    dev.wait_for_line("py-hello ended")

    def another_worker_answers() -> bool:
        reply = dev.get()  # the worker of the dead master may still answer
        return reply.status == 200 and int(reply.value("x-python-pid")) != pid

    wait_for(another_worker_answers, lambda: dev.lines)


def test_the_interface_file_of_another_kong_is_taken(start, folder, tmp_path):
    """A function that its Kong does not have raises, as it does there."""
    (folder / "whole.py").write_text(WHOLE_PDK)
    file = tmp_path / "pluginsocket.proto"
    file.write_text(as_text(STOCK))
    dev = start(str(folder), KONG_PYTHON_PROTOCOL="protobuf", KONG_PYTHON_INTERFACE_FILE=str(file))
    assert dev.get("/?flag").status == 500
    assert dev.stop() == 0
    assert any("kong.request.get_body is not among the methods" in line for line in dev.lines)


USERS = """_format_version: "3.0"
vaults: [{name: env, prefix: lab, config: {prefix: LAB_}}]
services:
- name: a
  url: http://127.0.0.1:1
  routes:
  - {name: r, paths: [/here], plugins: [{name: shows, config: {secret: "{vault://lab/pw}", plain: "{vault://lab/pw}"}}]}
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


def test_a_kong_yml_is_served_and_its_skipped_parts_are_logged(start, folder, tmp_path):
    (folder / "shows.py").write_text(SHOWS)
    file = tmp_path / "kong.yml"
    file.write_text(USERS)
    dev = start(str(folder), "-c", str(file), LAB_PW="s3cr3t")
    reply = dev.get("/elsewhere")
    assert (reply.status, reply.json()["message"]) == (404, "no Route matched with those values")
    reply = dev.get("/here")
    assert (reply.status, reply.json()) == (200, {"secret": "s3cr3t", "plain": "{vault://lab/pw}"})
    assert dev.get("/hello.Greeter/Say").status == 415
    assert dev.stop() == 0

    def logged(level: str, words: str) -> int:
        return sum(f"[{level}] " in line and words in line for line in dev.lines)

    assert logged("warn", "gateway skips Kong's bundled plugins prometheus (line 10), file-log (line 11): it has") == 1
    for protocol in ("grpc", "grpcs"):
        words = f"{file}:8: routes for {protocol} are not served: the embedded gateway has neither gRPC nor HTTP/2"
        assert logged("warn", words) == 1
    assert logged("warn", f"{file}:13: acls, hmacauth_credentials and jwt_secrets of consumers are skipped: the") == 1
    assert (
        logged("warn", f"{file}:7: plugin shows on route r: Kong never calls its rewrite, which runs for global") == 1
    )
    assert logged("notice", f"{file}:15: _info is for decK and Kong Enterprise: the open-source Kong refuses") == 1
    assert logged("warn", "") == 7  # and two: no start command for a plugin server


def test_strict_refuses_what_it_would_skip(refused, folder, tmp_path):
    file = tmp_path / "kong.yml"
    file.write_text('_format_version: "3.0"\nplugins:\n- name: py-hello\n- name: cors\n- name: jwt\n')
    lines = refused(str(folder), "-c", str(file), "--strict")
    (error,) = [line for line in lines if "[error]" in line]
    assert f"{file}: the embedded gateway skips Kong's bundled plugins cors (line 4), jwt (line 5): it has" in error


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
    (error,) = [line for line in lines if "[error]" in line]
    assert f"{file}{words}" in error
