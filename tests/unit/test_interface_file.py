"""``kong-python extend-interface``: the methods it appends, the text it keeps, the files it refuses."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from kong_pdk import cli, interface_file
from kong_pdk.wire.interface import EXTENDED, STOCK, extend, read
from waiting import DEADLINE

FILES = Path(__file__).parents[2] / "docker" / "embedded" / "files"
TEXT = (FILES / interface_file.PATH.relative_to("/")).read_text()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Kong's interface file, alone in a folder."""
    path = tmp_path / "kong" / "pluginsocket.proto"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


def original(file: Path) -> Path:
    return file.with_name("pluginsocket.proto.orig")


def run(*arguments: object) -> int:
    return cli.main(["extend-interface", *map(str, arguments)])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The message of a command that fails."""
    assert run(*arguments) == 78
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("kong-python: ")
    assert output.err.count("\n") == 1
    return output.err


def test_methods_are_appended_and_the_original_is_beside_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(TEXT) == STOCK
    assert run(file) == 0
    assert read(file.read_text()) == EXTENDED
    assert original(file).read_text() == TEXT
    assert capsys.readouterr().out == f"{file} has all of our methods; the original is {original(file)}\n"
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, original(file).name]


def test_the_text_of_kong_is_not_changed(file: Path) -> None:
    """The new text is one block at the end of the service."""
    run(file)
    text = file.read_text()
    head = TEXT.rstrip().removesuffix("}").rstrip()
    assert text.startswith(head)
    assert text.removeprefix(head).rstrip().endswith("}")


def test_a_second_time_changes_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(file)
    before = (file.read_bytes(), file.stat().st_ino, original(file).stat().st_ino)
    capsys.readouterr()
    assert run(file) == 0
    assert capsys.readouterr().out == f"{file} has all of our methods already\n"
    assert (file.read_bytes(), file.stat().st_ino, original(file).stat().st_ino) == before


def test_the_original_can_be_restored(file: Path) -> None:
    run(file)
    original(file).replace(file)
    assert file.read_text() == TEXT
    assert run(file) == 0
    assert original(file).read_text() == TEXT


def test_a_newer_file_of_kong_becomes_the_original(file: Path) -> None:
    run(file)
    newer = TEXT.replace("syntax", "// newer\nsyntax", 1)
    file.write_text(newer)
    run(file)
    assert original(file).read_text() == newer


def test_a_file_that_an_older_version_extended_does_not_become_the_original(file: Path) -> None:
    run(file)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "Vault_Get(" not in line))
    assert run(file) == 0
    assert read(file.read_text()) == EXTENDED
    assert original(file).read_text() == TEXT


def test_owner_and_mode_stay(file: Path) -> None:
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 4711, 4712)
    owner = (file.stat().st_uid, file.stat().st_gid)
    run(file)
    for path in (file, original(file)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert (path.stat().st_uid, path.stat().st_gid) == owner


def test_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.proto"
    link.symlink_to(file)
    run(link)
    assert link.is_symlink()
    assert read(file.read_text()) == EXTENDED
    assert original(file).exists()


def test_several_processes_extend_it_once(file: Path) -> None:
    code = f"from kong_pdk.cli import main; raise SystemExit(main(['extend-interface', {str(file)!r}]))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(DEADLINE) for process in running] == [0] * 4
    assert file.read_text() == extend(TEXT)
    assert original(file).read_text() == TEXT
    assert len(list(file.parent.iterdir())) == 2


def test_check_tells_an_extended_file_from_another(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = len(EXTENDED) - len(STOCK)
    assert f"{file} lacks {missing} of our methods" in refusal(capsys, "--check", file)
    assert file.read_text() == TEXT
    run(file)
    assert run("--check", file) == 0


@pytest.mark.parametrize("option", [[], ["--check"]])
def test_a_file_that_is_not_there_is_named_with_the_base_that_has_it(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, *option, tmp_path / "no.proto")
    assert f"{tmp_path / 'no.proto'} does not exist; Kong 3.9 has it at {interface_file.PATH}" in message
    assert "such as kong:3.9" in message


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"service Other {}", b"service Kong {"])
def test_a_file_that_is_no_interface_file_is_not_changed(
    content: bytes, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(content)
    assert f"{file} is not the interface file of Kong 3.9: it" in refusal(capsys, file)
    assert file.read_bytes() == content
    assert not original(file).exists()


def test_a_file_with_other_messages_for_one_of_our_methods_is_not_changed(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = TEXT.rstrip().removesuffix("}") + "    rpc Vault_Get(String) returns (String);\n}\n"
    file.write_text(other)
    assert "kong.vault.get" in refusal(capsys, file)
    assert file.read_text() == other


def test_a_folder_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Is a directory" in refusal(capsys, tmp_path)


def test_a_folder_that_cannot_be_written_has_a_hint(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**where: object) -> None:
        raise PermissionError(13, "Permission denied", str(where["dir"]))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    assert f"{file} cannot be replaced (Permission denied); do it as root" in refusal(capsys, file)
    assert file.read_text() == TEXT


def test_a_full_disk_changes_nothing(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert "No space left on device" in refusal(capsys, file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_text() == TEXT


def test_without_a_name_it_is_kongs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(interface_file, "extend_file", lambda path: asked.append(path) or "done")
    assert run() == 0
    assert asked == [Path("/usr/local/kong/include/kong/pluginsocket.proto")]
