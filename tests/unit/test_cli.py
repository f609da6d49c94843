"""``kong-python``: its commands, and what other packages may import."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys

import kong_pdk
import pytest
from kong_pdk import cli
from programs import KONG_PYTHON

COMMANDS = ["dev", "plugins", "env", "settings", "check", "upstream", "extend-interface"]


def test_the_public_names_are_these():
    assert sorted(kong_pdk.__all__) == ["PDKError", "PhaseError", "UnknownFunctionError", "__version__"]
    assert sorted(cli.__all__) == ["main", "pluginserver_main", "start_dedicated_server", "start_server"]


def test_without_a_command_it_lists_them(capsys):
    assert cli.main([]) == 2
    said = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in said


def test_help_is_no_mistake(capsys):
    assert cli.main(["--help"]) == 0
    assert "usage: kong-python" in capsys.readouterr().out


def test_the_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"kong-python {kong_pdk.__version__}\n"


def test_an_unknown_command_is_refused_by_name(capsys):
    assert cli.main(["nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"kong-python {command}" in capsys.readouterr().out


@pytest.mark.parametrize(("target", "text"), cli._COMMANDS.values())
def test_each_command_has_a_function(target, text):
    module, _, function = target.partition(":")
    assert callable(getattr(importlib.import_module(module), function)) and text


def test_the_health_check_imports_little():
    """It runs every ten seconds: neither the gateway nor supervisor nor protobuf has a place in it."""
    code = (
        "import sys; from kong_pdk.image import health; "
        "print([name for name in ('uvicorn', 'supervisor', 'google.protobuf', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_file_names_that_are_no_text_are_shown(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / os.fsdecode(b"caf\xe9.py")).write_text("class Plugin:\n    pass\n")
    environ = {**os.environ, "KONG_PYTHON_PLUGINS_DIR": str(tmp_path / "plugins"), "PYTHONIOENCODING": "utf-8:strict"}
    command = [KONG_PYTHON, "plugins"]
    done = subprocess.run(command, check=False, capture_output=True, env=environ, timeout=60)
    assert b"Traceback" not in done.stderr
    assert rb"caf\udce9" in done.stdout


# Tells itself to stop as soon as the entrypoint begins to import what it needs.
_STOPPED_EARLY = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *rest):
        if name == "kong_pdk.image.entrypoint":
            os.kill(os.getpid(), int(sys.argv.pop()))

sys.meta_path.insert(0, Finder())
from kong_pdk.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_container_that_is_stopped_while_its_entrypoint_is_imported_ends_in_silence(number: int) -> None:
    command = [sys.executable, "-c", _STOPPED_EARLY, "entrypoint", str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


_PLUGIN = """
from kong_pdk.cli import start_dedicated_server
class Plugin:
    def __init__(self, config): pass
    def access(self, kong): pass
start_dedicated_server("mine", Plugin, "1.0.0")
"""
_FOLDER_SERVER = "import sys; from kong_pdk.cli import pluginserver_main; sys.exit(pluginserver_main())"


@pytest.mark.parametrize(("code", "program"), [(_FOLDER_SERVER, "kong-python-pluginserver"), (_PLUGIN, "mine")])
def test_a_plugin_server_refuses_a_wrong_value_in_one_line(code: str, program: str) -> None:
    environ = {**os.environ, "KONG_PYTHON_LOG_FORMAT": "yaml"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environ, timeout=60
    )
    assert done.returncode == 78
    assert done.stderr == f"{program}: KONG_PYTHON_LOG_FORMAT is 'yaml'; set it to text or json\n"


def test_a_plugin_server_by_hand_writes_json_too(tmp_path) -> None:
    environ = {**os.environ, "KONG_PYTHON_LOG_FORMAT": "json"}
    command = [sys.executable, "-c", _FOLDER_SERVER, "-d", str(tmp_path / "none")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ, timeout=60)
    assert done.returncode == 1
    objects = [json.loads(line) for line in done.stderr.splitlines()]
    assert {(found["level"], found["program"]) for found in objects} == {("error", "pluginserver")}


def test_a_command_refuses_a_wrong_value_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv("KONG_PYTHON_LOG_FORMAT", "yaml")
    assert cli.main(["upstream", "--port", "0"]) == 78
    assert capsys.readouterr().err == "kong-python: KONG_PYTHON_LOG_FORMAT is 'yaml'; set it to text or json\n"


def test_dev_without_its_extra_names_it(tmp_path) -> None:
    """The packages of the embedded gateway are an extra: where one is missing, the message says what to install."""
    code = "import sys; sys.modules['httpcore'] = None; from kong_pdk.cli import main; sys.exit(main(['dev']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("kong-python dev: the package httpcore, which the embedded gateway uses, is not inst")
    assert "pip install 'kong-python[dev]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_check_needs_no_extra() -> None:
    """`kong-python check` is a command of the image, which is without the embedded gateway's packages."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['cryptography', 'httpcore', 'uvicorn', 'h11', 'sniffio']));"
        "from kong_pdk.cli import main; sys.exit(main(['check', '/dev/null']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
