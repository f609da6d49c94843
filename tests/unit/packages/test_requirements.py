"""The content of requirements files, and their digest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from kong_pdk.packages import requirements
from kong_pdk.plugin import PluginError
from unit.packages.conftest import Write


def digest(folder: Path) -> str:
    read = requirements.read(folder / "requirements.txt", None)
    assert read is not None
    return read.digest


REFERENCES = [
    ("-r more.txt\n", "more.txt"),
    ("--requirement=more.txt\n", "more.txt"),
    ("-rmore.txt # others\n", "more.txt"),
    ("alpha\n-c limits.txt\n", "limits.txt"),
    ("alpha\n--constraint limits.txt\n", "limits.txt"),
    ("-r inner/a.txt\n", "inner/b.txt"),
    ("./lib\n", "lib/lib.py"),
    ("-e ./lib\n", "lib/lib.py"),
    ("./lib[extra] ; python_version > '3'\n", "lib/lib.py"),
    ("wheels/alpha-1.0-py3-none-any.whl\n", "wheels/alpha-1.0-py3-none-any.whl"),
    ("alpha \\\n  --hash=sha256:0\n-f \\\nwheels\n", "wheels/alpha-1.0-py3-none-any.whl"),
    ("alpha\n--find-links=./wheels\n", "wheels/alpha-1.0-py3-none-any.whl"),
]


@pytest.mark.parametrize(("text", "edited"), REFERENCES)
def test_an_edit_of_an_included_file_changes_the_digest(text: str, edited: str, folder: Path, write: Write) -> None:
    write("more.txt", "alpha\n")
    write("limits.txt", "alpha<2\n")
    write("inner/a.txt", "-r b.txt\n-r ../requirements.txt\n")
    write("inner/b.txt", "alpha\n")
    write("lib/lib.py", "")
    write("wheels/alpha-1.0-py3-none-any.whl", "")
    write("requirements.txt", text)
    before = digest(folder)
    assert digest(folder) == before
    write("other.txt", "an edit that is nothing to it")
    assert digest(folder) == before
    write(edited, "beta # an edit\n")
    assert digest(folder) != before


LIBRARY = {"lib/setup.py": "", "lib-1.0.tar.gz": "", "lib-1.0-py3-none-any.whl": ""}


@pytest.mark.parametrize(
    ("line", "built"),
    [
        ("alpha", False),
        ("alpha @ https://index.invalid/alpha-1.0-py3-none-any.whl", False),
        ("https://index.invalid/alpha-1.0-py3-none-any.whl#sha256=0", False),
        ("https://index.invalid/alpha.zip?token=x#egg=alpha", True),
        ("alpha @ https://index.invalid/alpha-1.0.tar.gz", True),
        ("alpha@https://index.invalid/alpha-1.0.tar.gz ; python_version > '3'", True),
        ("git+https://host.invalid/alpha.git@v1", True),
        ("alpha @ git+ssh://git@host.invalid/alpha.git", True),
        ("./lib", True),
        ("lib @ file://{folder}/lib", True),
        ("./lib[extra] ; python_version > '3'", True),
        ("./lib-1.0.tar.gz", True),
        ("lib-1.0-py3-none-any.whl", False),
        ("lib @ file://{folder}/lib-1.0-py3-none-any.whl", False),
        ("-e ./lib", True),
        ("--editable=git+https://host.invalid/alpha.git", True),
        ("--no-binary alpha", True),
        ("--no-binary=:all:", True),
        ("--no-binary :none:", False),
        ("--only-binary :all:", False),
    ],
)
def test_lines_that_need_a_build(line: str, built: bool, folder: Path, write: Write) -> None:
    for name, text in LIBRARY.items():
        write(name, text)
    write("requirements.txt", f"beta==1\n{line.format(folder=folder)}\n")
    read = requirements.read(folder / "requirements.txt", None)
    assert read is not None
    assert [each.number for each in read.to_build] == ([2] if built else [])


@pytest.mark.parametrize(
    ("line", "pinned"),
    [
        ("alpha==1.0", True),
        ("alpha === 1.0 ; python_version > '3'", True),
        ("alpha[extra]>=1,==1.5", True),
        ("alpha (==1.0)", True),
        ("alpha==1.*", False),
        ("alpha~=1.0", False),
        ("alpha>=1,<2", False),
        ("alpha", False),
        ("alpha ; python_version == '3.11'", False),
        ("alpha --hash=sha256:0", True),
        ("alpha @ https://index.invalid/alpha-1.0-py3-none-any.whl#sha256=0", True),
        ("alpha @ https://index.invalid/alpha-1.0-py3-none-any.whl", False),
        ("git+https://host.invalid/alpha.git@v1.0", False),
        ("git+https://host.invalid/alpha.git@0123456789abcdef0123456789abcdef01234567#egg=alpha", True),
        ("-e git+https://host.invalid/alpha.git", False),
        ("-e ./lib", True),
        ("./lib-1.0-py3-none-any.whl", True),
        ("Gamma.One>=1", True),
        ("delta", False),
    ],
)
def test_pinned_lines(line: str, pinned: bool, folder: Path, write: Write) -> None:
    for name, text in LIBRARY.items():
        write(name, text)
    write("limits.txt", "-r more-limits.txt\ndelta<2\n")
    write("more-limits.txt", "gamma-one==1.5\n")
    write("requirements.txt", f"{line}\n-c limits.txt\n")
    read = requirements.read(folder / "requirements.txt", None)
    assert read is not None
    assert [each.number for each in read.unpinned] == ([] if pinned else [1])


def test_constraints_alone_install_nothing(folder: Path, write: Write) -> None:
    write("limits.txt", "alpha==1.0\n")
    assert requirements.read(write("requirements.txt", "-c limits.txt\n"), None) is None
    assert requirements.read(write("requirements.txt", "-c limits.txt\n-r limits.txt\n"), None) is not None


def test_variables_and_urls_of_a_file(folder: Path, write: Write) -> None:
    line = "--index-url https://me:${TOKEN_1}@index.invalid/simple"
    read = requirements.read(write("requirements.txt", f"{line}\nalpha==1 # ${{NOT_THIS}} $NOR_THIS\n"), None)
    assert read is not None
    assert (read.variables, read.urls) == ({"TOKEN_1"}, [(folder / "requirements.txt", 1, line)])


def test_the_path_of_the_folder_does_not_change_the_digest(folder: Path, write: Write) -> None:
    write("requirements.txt", "-r more.txt\n./lib\n")
    write("more.txt", "alpha\n")
    write("lib/setup.py", "")
    before = digest(folder)
    assert digest(folder.rename(folder.with_name("elsewhere"))) == before


def test_products_of_a_build_do_not_change_the_digest(folder: Path, write: Write) -> None:
    write("requirements.txt", "./lib\n")
    write("lib/setup.py", "")
    before = digest(folder)
    for name in ("lib/lib.egg-info/PKG-INFO", "lib/build/lib/lib.py", "lib/__pycache__/lib.pyc", "lib/.git/HEAD"):
        write(name, "made")
    assert digest(folder) == before


@pytest.mark.parametrize("name", ["kong_pdk.packages.requirements.constraints", "sysconfig.get_platform"])
def test_python_and_pdk_change_the_digest(
    name: str, folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("requirements.txt", "alpha\n")
    before = digest(folder)
    monkeypatch.setattr(name, lambda: "another")
    assert digest(folder) != before


@pytest.mark.parametrize("text", ["", "# alpha\n", "\n  \n", "--index-url https://index.invalid\n", "\ufeff# alpha\n"])
def test_empty_requirements(text: str, folder: Path, write: Write) -> None:
    assert requirements.read(write("requirements.txt", text), None) is None


def test_no_file(folder: Path) -> None:
    assert requirements.read(folder / "requirements.txt", None) is None
    assert requirements.read(folder / "one.py" / "requirements.txt", "one") is None


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    (folder / "requirements.txt").mkdir()
    with pytest.raises(PluginError, match=r"requirements\.txt: cannot be read \(Is a directory\)"):
        requirements.read(folder / "requirements.txt", None)


@pytest.mark.parametrize("line", [f"./{'x' * 300}", f"-r {'x' * 300}.txt"])
def test_a_path_that_cannot_be_examined(line: str, folder: Path) -> None:
    (folder / "requirements.txt").write_text(f"alpha\n{line}\n")
    try:
        requirements.read(folder / "requirements.txt", None)
    except PluginError as error:  # Newer Pythons treat such a name as one of a missing file.
        assert re.search(r"requirements\.txt:2: (the path here cannot be read|there is no file)", str(error))


@pytest.mark.parametrize(
    ("content", "line", "message", "hint"),
    [
        (b"alpha\n# caf\xe9\nbeta\n", 2, "is not UTF-8: byte 0xe9 at 11", "coding: latin-1"),
        (b"\xef\xbb\xbfalpha\n\xff\n", 2, "is not UTF-8: byte 0xff at 9", "save the file as UTF-8"),
        (b"\xff\xfe alpha \x00\n", 1, "is not UTF-16-LE", "byte order mark says UTF-16-LE"),
        (b"\xff\xfea\x00\n\x00b\x00\x00", 2, "is not UTF-16-LE", "save the file as UTF-8"),
        ("alpha\nbeta\n".encode("utf-16-le"), 1, "NUL byte", "save the file as UTF-8"),
        ("alpha\n".encode("utf-32"), 1, "NUL byte", "save the file as UTF-8"),
        (b"# coding: ascii\nalpha # \xe9\n", 2, "is not ASCII: byte 0xe9", "correct its coding line"),
        (b"alpha\n# coding: nonsense\n", 1, "names nonsense, which Python does not know", "correct its coding line"),
        (b"# coding: rot13\nalpha\n", 1, "names rot13, which Python does not know", "correct its coding line"),
    ],
)
@pytest.mark.parametrize("included", [False, True])
def test_a_file_that_pip_cannot_decode(  # noqa: PLR0913, PLR0917
    content: bytes, line: int, message: str, hint: str, included: bool, folder: Path, write: Write
) -> None:
    write("requirements.txt", "-r more.txt\n")
    wrong = folder / ("more.txt" if included else "requirements.txt")
    wrong.write_bytes(content)
    with pytest.raises(PluginError) as caught:
        requirements.read(folder / "requirements.txt", None)
    [problem] = caught.value.problems
    assert (problem.file, problem.line) == (wrong, line)
    assert message in problem.message
    assert problem.hint and hint in problem.hint


ENCODED = [
    "alpha # café".encode(),
    "\ufeffalpha".encode(),
    "\ufeffalpha # é".encode("utf-16-le"),
    "\ufeffalpha # é".encode("utf-16-be"),
    "\ufeffalpha # é".encode("utf-32-be"),
    b"# -*- coding: latin-1 -*-\nalpha # \xe9",
    b"# first\n# vim: set fileencoding=cp1252 :\nalpha # \x80",
]
PIPS_DECODING = """
import sys
from pip._internal.req.req_file import parse_requirements
from pip._internal.network.session import PipSession
for name in sys.argv[1:]:
    for each in parse_requirements(name, session=PipSession()):
        print(each.requirement)
"""


@pytest.mark.parametrize("content", ENCODED)
def test_every_encoding_that_pip_accepts(content: bytes, folder: Path) -> None:
    (folder / "requirements.txt").write_bytes(content)
    read = requirements.read(folder / "requirements.txt", None)
    assert read is not None
    assert [line.text for line in read.unpinned] == ["alpha"]


def test_pip_accepts_these_encodings(folder: Path) -> None:
    files = [folder / f"{number}.txt" for number in range(len(ENCODED))]
    for file, content in zip(files, ENCODED, strict=True):
        file.write_bytes(content)
    pip = [sys.executable, "-c", PIPS_DECODING, *map(str, files)]
    assert subprocess.run(pip, capture_output=True, text=True, check=True).stdout.split() == ["alpha"] * len(files)


def test_the_encoding_of_the_locale_counts_where_a_file_is_not_utf_8(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda setlocale=True: "ISO-8859-1")
    (folder / "requirements.txt").write_bytes(b"alpha # caf\xe9\n")
    assert requirements.read(folder / "requirements.txt", None) is not None
