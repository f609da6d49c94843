"""A plugin that cannot work keeps Kong from starting, with a sentence that says where and what to do.

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

# What is in the folder, where the sentence points to, and words that it has.
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
    "Schema is no list": (
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
    "priority is no integer": (
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


def complaints(kong: Launcher, folder: Path, env: Mapping[str, str] | None = None) -> list[str]:
    """Start Kong with a folder; the sentences that it refuses to start with."""
    done = kong.run(plugins=folder, config=declarative(), env=env)
    assert done.exit_code == EX_CONFIG, done.output
    lines = log_lines.parse(done.output)
    assert {line.program for line in lines} == {"kong-python"}, "Kong was started"
    *sentences, last = [line.text for line in log_lines.trouble(lines)]
    assert "Kong is not started" in last
    assert "Traceback" not in done.output
    return sentences


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_with_file_line_and_hint(kong: Launcher, mistake: str) -> None:
    """Kong does not start, exit code 78, and one sentence names the file, the line, what is wrong and the hint."""
    files, place, words = MISTAKES[mistake]

    [sentence] = complaints(kong, kong.folder(files))

    assert sentence.startswith(f"{PLUGINS}/{place}: "), sentence
    assert all(word in sentence for word in words), sentence


def test_names_that_collide(kong: Launcher) -> None:
    """Two plugins whose names Kong's keys cannot tell apart are both named, each with the other."""
    sentences = complaints(kong, kong.folder({"my-plugin.py": WORKS, "my_plugin.py": WORKS, "other.py": WORKS}))

    assert len(sentences) == 2
    for sentence in sentences:
        assert "my-plugin.py" in sentence and "my_plugin.py" in sentence and "collides" in sentence
        assert "rename one of them" in sentence


def test_a_folder_that_cannot_be_read(kong: Launcher) -> None:
    """A plugin folder without permissions is named, with the hint."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    folder.chmod(0o000)
    try:
        [sentence] = complaints(kong, folder)
    finally:
        folder.chmod(0o755)

    assert sentence.startswith(f"{PLUGINS}: ") and "cannot be read" in sentence and "chmod" in sentence


def test_a_file_that_cannot_be_read(kong: Launcher) -> None:
    """A plugin's file without permissions is named, with the hint."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    (folder / "py-hello.py").chmod(0o000)

    [sentence] = complaints(kong, folder)

    assert sentence.startswith(f"{PLUGINS}/py-hello.py: ") and "cannot be read" in sentence and "chmod" in sentence


def test_a_folder_that_does_not_exist(kong: Launcher) -> None:
    """A KONG_PYTHON_PLUGINS_DIR that is not there is named, with the hint."""
    [sentence] = complaints(kong, kong.folder({}), {"KONG_PYTHON_PLUGINS_DIR": "/nowhere"})

    assert sentence.startswith("/nowhere: ") and "does not exist" in sentence and "mount" in sentence


def test_all_mistakes_are_listed_at_once(kong: Launcher) -> None:
    """One start shows everything that is wrong, so that one edit can mend it."""
    files = {"py-hello.py": PY_HELLO.read_text("utf-8")}
    for number, (mistake, _, _) in enumerate(MISTAKES.values()):
        for name, content in mistake.items():
            files[name.replace("broken", f"broken-{number:02}")] = content

    sentences = complaints(kong, kong.folder(files))

    named = {re.match(rf"{PLUGINS}/([^:]+\.py)", sentence)[1] for sentence in sentences}  # type: ignore[index]
    assert named == set(files) - {"py-hello.py"}


def test_two_mistakes_in_one_file(kong: Launcher) -> None:
    """Each mistake of a file has a sentence of its own."""
    text = "version = 1\npriority = 'high'\n\n" + WORKS

    sentences = complaints(kong, kong.folder({"broken.py": text}))

    assert [sentence.split(" ")[0] for sentence in sentences] == [
        f"{PLUGINS}/broken.py:1:",
        f"{PLUGINS}/broken.py:2:",
    ]


def test_a_variable_that_means_nothing(kong: Launcher) -> None:
    """A KONG_PYTHON_ variable with a value that is none of its own is a mistake, too, and the choices are named."""
    done = kong.run(plugins=kong.folder({}), env={"KONG_PYTHON_PROTOCOL": "grpc"})

    assert done.exit_code == EX_CONFIG
    [line] = log_lines.trouble(log_lines.parse(done.output))
    assert all(word in line.text for word in ("KONG_PYTHON_PROTOCOL", "grpc", "protobuf", "msgpack"))


def test_a_variable_that_nobody_knows(kong: Launcher) -> None:
    """A KONG_PYTHON_ variable that there is none of is a slip of the pen: it is named, with what was meant."""
    done = kong.run(plugins=kong.folder({}), env={"KONG_PYTHON_PLUGIN_DIR": "/srv"})

    assert done.exit_code == EX_CONFIG
    [line] = log_lines.parse(done.output)
    assert (line.level, line.program) == ("error", "kong-python")
    assert line.text == "there is no setting KONG_PYTHON_PLUGIN_DIR; did you mean KONG_PYTHON_PLUGINS_DIR?"


def test_a_variable_that_kubernetes_sets(kong: Launcher) -> None:
    """A Service called kong-python gives variables of that prefix to every container beside it; they mean nothing."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    env = {"KONG_PYTHON_SERVICE_HOST": "10.0.0.1", "KONG_PYTHON_PORT_8000_TCP_ADDR": "10.0.0.1"}
    container = kong.start(plugins=folder, config=declarative("py-hello"), env=env)

    assert "x-hello-from-python" in container.wait_until_serving().headers
