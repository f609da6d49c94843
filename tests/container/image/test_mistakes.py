"""A broken plugin keeps Kong from starting, with a message that has the place and a hint.

Each mistake ends the container with exit code 78 (EX_CONFIG).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from container import log_lines
from container.product import PLUGINS, PY_HELLO, Launcher, declarative

EX_CONFIG = 78
WORKS = "class Plugin:\n    def __init__(self, config):\n        pass\n\n    def access(self, kong):\n        pass\n"

# The folder's files, the place in the message, and words of the message.
MISTAKES: dict[str, tuple[Mapping[str, str], str, tuple[str, ...]]] = {
    "syntax error": (
        {"broken.py": "class Plugin:\n    def access(self, kong)\n        pass\n"},
        "broken.py:2",
        ("syntax error", "fix this line"),
    ),
    "missing module": (
        {"broken.py": f"import os\nimport no_such_package_anywhere\n\n{WORKS}"},
        "broken.py:2",
        ("no_such_package_anywhere", "not installed", f"add no_such_package_anywhere to {PLUGINS}/requirements.txt"),
    ),
    "Schema is not a list": (
        {"broken.py": f"Schema = 'message'\n\n{WORKS}"},
        "broken.py:1",
        ("Schema", "not a list or a tuple", "write it"),
    ),
    "field of Schema with two keys": (
        {"broken.py": f"Schema = (\n    {{'a': {{'type': 'string'}}, 'b': {{'type': 'string'}}}},\n)\n\n{WORKS}"},
        "broken.py:2",
        ("Schema", "one"),
    ),
    "unknown type in Schema": (
        {"broken.py": f"Schema = [\n  {{'a': {{'type': 'string'}}}},\n  {{'b': {{'type': 'strnig'}}}},\n]\n{WORKS}"},
        "broken.py:3",
        ("strnig", 'did you mean "string"'),
    ),
    "unknown attribute in Schema": (
        {"broken.py": f"Schema = ({{'a': {{'type': 'string', 'requird': True}}}},)\n\n{WORKS}"},
        "broken.py:1",
        ("requird", 'did you mean "required"'),
    ),
    "priority is not an integer": (
        {"broken.py": f"version = '1.0.0'\npriority = 1.5\n\n{WORKS}"},
        "broken.py:2",
        ("priority", "1.5", "integer", "write priority = "),
    ),
    "version is not x.y.z": (
        {"broken.py": f"version = '1.0'\n\n{WORKS}"},
        "broken.py:1",
        ("version", "'1.0'", "x.y.z", "write version = "),
    ),
    "no phase": (
        {"broken.py": "class Plugin:\n    def __init__(self, config):\n        pass\n"},
        "broken.py:1",
        ("no phase", "access"),
    ),
    "misspelt phase": (
        {"broken.py": WORKS.replace("access", "acces")},
        "broken.py:5",
        ("acces", 'did you mean "access"?'),
    ),
    "name of a bundled plugin": (
        {"rate-limiting.py": WORKS},
        "rate-limiting.py",
        ("rate-limiting", "bundled", "rename it"),
    ),
    "name with characters that Kong cannot have": (
        {"My Plugin.py": WORKS},
        "My Plugin.py",
        ("My Plugin", "a-z", "rename it"),
    ),
    "error at import": (
        {"broken.py": f"{WORKS}\nraise RuntimeError('no database')\n"},
        "broken.py:8",
        ("RuntimeError", "no database"),
    ),
}


def start_failures(kong: Launcher, folder: Path, env: Mapping[str, str] | None = None) -> list[str]:
    """Start Kong with a folder; give the messages with which the start fails."""
    done = kong.run(plugins=folder, config=declarative(), env=env)
    assert done.exit_code == EX_CONFIG, done.output
    lines = log_lines.parse(done.output)
    assert {line.program for line in lines} == {"kong-python"}, "Kong was started"
    *messages, last = [line.text for line in log_lines.trouble(lines)]
    assert "Kong is not started" in last
    assert "Traceback" not in done.output
    return messages


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message_with_file_line_and_hint(kong: Launcher, mistake: str) -> None:
    """Kong does not start, exit code 78, and one message has the file, the line, the mistake and the hint."""
    files, place, words = MISTAKES[mistake]

    [message] = start_failures(kong, kong.folder(files))

    assert message.startswith(f"{PLUGINS}/{place}: "), message
    assert all(word in message for word in words), message


def test_names_that_collide(kong: Launcher) -> None:
    """Two plugins whose names are equal in Kong's keys are both named, each with the other."""
    messages = start_failures(kong, kong.folder({"my-plugin.py": WORKS, "my_plugin.py": WORKS, "other.py": WORKS}))

    assert len(messages) == 2
    for message in messages:
        assert "my-plugin.py" in message and "my_plugin.py" in message and "collides" in message
        assert "rename one of them" in message


def test_a_folder_that_cannot_be_read(kong: Launcher) -> None:
    """A plugin folder without permissions is named, with the hint."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    folder.chmod(0o000)
    try:
        [message] = start_failures(kong, folder)
    finally:
        folder.chmod(0o755)

    assert message.startswith(f"{PLUGINS}: ") and "cannot be read" in message and "chmod" in message


def test_a_file_that_cannot_be_read(kong: Launcher) -> None:
    """A plugin's file without permissions is named, with the hint."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    (folder / "py-hello.py").chmod(0o000)

    [message] = start_failures(kong, folder)

    assert message.startswith(f"{PLUGINS}/py-hello.py: ") and "cannot be read" in message and "chmod" in message


def test_a_folder_that_does_not_exist(kong: Launcher) -> None:
    """If the folder of KONG_PYTHON_PLUGINS_DIR does not exist, it is named, with the hint."""
    [message] = start_failures(kong, kong.folder({}), {"KONG_PYTHON_PLUGINS_DIR": "/nowhere"})

    assert message.startswith("/nowhere: ") and "does not exist" in message and "mount" in message


def test_all_mistakes_are_listed_at_once(kong: Launcher) -> None:
    """One start shows all mistakes, so that one edit can fix them."""
    files = {"py-hello.py": PY_HELLO.read_text("utf-8")}
    for number, (mistake, _, _) in enumerate(MISTAKES.values()):
        for name, content in mistake.items():
            files[name.replace("broken", f"broken-{number:02}")] = content

    messages = start_failures(kong, kong.folder(files))

    named = {re.match(rf"{PLUGINS}/([^:]+\.py)", message)[1] for message in messages}  # type: ignore[index]
    assert named == set(files) - {"py-hello.py"}


def test_two_mistakes_in_one_file(kong: Launcher) -> None:
    """Each mistake of a file has its own message."""
    text = "version = 1\npriority = 'high'\n\n" + WORKS

    messages = start_failures(kong, kong.folder({"broken.py": text}))

    assert [message.split(" ")[0] for message in messages] == [
        f"{PLUGINS}/broken.py:1:",
        f"{PLUGINS}/broken.py:2:",
    ]


def test_an_invalid_value_of_a_variable(kong: Launcher) -> None:
    """An invalid value of a KONG_PYTHON_ variable is a mistake, too, and the choices are named."""
    done = kong.run(plugins=kong.folder({}), env={"KONG_PYTHON_PROTOCOL": "grpc"})

    assert done.exit_code == EX_CONFIG
    [line] = log_lines.trouble(log_lines.parse(done.output))
    assert all(word in line.text for word in ("KONG_PYTHON_PROTOCOL", "grpc", "protobuf", "msgpack"))


def test_an_unknown_variable(kong: Launcher) -> None:
    """An unknown KONG_PYTHON_ variable is named, with the variable that was probably meant."""
    done = kong.run(plugins=kong.folder({}), env={"KONG_PYTHON_PLUGIN_DIR": "/srv"})

    assert done.exit_code == EX_CONFIG
    [line] = log_lines.parse(done.output)
    assert (line.level, line.program) == ("error", "kong-python")
    assert line.text == "there is no setting KONG_PYTHON_PLUGIN_DIR; did you mean KONG_PYTHON_PLUGINS_DIR?"


def test_a_variable_that_kubernetes_sets(kong: Launcher) -> None:
    """A Service called kong-python gives variables of that prefix to every container beside it; they are ignored."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    env = {"KONG_PYTHON_SERVICE_HOST": "10.0.0.1", "KONG_PYTHON_PORT_8000_TCP_ADDR": "10.0.0.1"}
    container = kong.start(plugins=folder, config=declarative("py-hello"), env=env)

    assert "x-hello-from-python" in container.wait_until_serving().headers
