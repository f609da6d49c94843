"""``kong-python settings``, and the table of the same in the documentation."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from kong_pdk.commands.list_settings import main, markdown
from kong_pdk.settings import PREFIX, VARIABLES

OPERATOR = Path(__file__).parents[3] / "docs" / "operator.md"


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def test_the_table_has_each_variable_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in printed.out.splitlines() if line.startswith(PREFIX)}
    assert list(rows) == [variable.name for variable in VARIABLES]
    assert rows["KONG_PYTHON_DRAIN_SECONDS"][1:3] == ["7", "7"]
    assert "*" not in printed.out
    assert printed.err == ""


def test_a_value_that_is_not_the_default_is_marked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONG_PYTHON_DRAIN_SECONDS", "60")
    monkeypatch.setenv("KONG_PYTHON_PROTOCOL", "ProtoBuf")
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.startswith(PREFIX)}
    assert rows["KONG_PYTHON_DRAIN_SECONDS"][1:4] == ["60", "*", "7"]
    assert rows["KONG_PYTHON_PROTOCOL"][1:3] == ["ProtoBuf", "protobuf"]
    assert lines[-1] == "* not the default"


def test_json_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KONG_PYTHON_DRAIN_SECONDS", "60")
    assert main(["--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(entries) == [variable.name for variable in VARIABLES]
    drain = entries["KONG_PYTHON_DRAIN_SECONDS"]
    assert (drain["value"], drain["default"], drain["is_default"]) == ("60", "7", False)
    assert drain["set_it_to"] == "a number of seconds, at most 86400"


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_wrong_settings_are_listed_beside_the_table(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONG_PYTHON_PROTOCOL", "grpc")
    monkeypatch.setenv("KONG_PYTHON_NOSUCH", "1")
    assert main(arguments) == 78
    printed = capsys.readouterr()
    assert "grpc" in printed.out
    assert printed.err.splitlines() == [
        "kong-python: there is no setting KONG_PYTHON_NOSUCH; unset it; kong-python settings lists all settings",
        "kong-python: KONG_PYTHON_PROTOCOL is 'grpc'; set it to protobuf or msgpack",
    ]


def test_the_documentation_has_the_same_table() -> None:
    """If it fails, paste the output of ``kong-python settings --markdown`` into docs/operator.md."""
    text = OPERATOR.read_text("utf-8")
    section = text[text.index("\n## Settings\n") :]
    start = section.index("| variable |")
    assert section[start : section.index("\n\n", start)] == markdown()


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_password_in_a_value_is_not_shown(
    form: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONG_PYTHON_INTERFACE_FILE", "https://me:se/cret@host/file")
    main(form)
    printed = capsys.readouterr()
    assert "https://****@host/file" in printed.out
    assert "cret" not in printed.out + printed.err
