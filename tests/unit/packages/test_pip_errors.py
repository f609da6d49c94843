"""One sentence of what pip writes, as recorded from the versions that Ubuntu 22.04, Ubuntu 24.04 and the index have."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from kong_pdk.packages.pip import Outcome
from kong_pdk.packages.pip_errors import explain
from kong_pdk.packages.requirements import Line

RECORDED = Path(__file__).parent / "recorded"
VERSIONS = sorted(file.stem for file in RECORDED.glob("*.txt"))
FILE = "/plugins/requirements.txt"

WHEEL = "alpha @ https://files.invalid/alpha-1.0-py3-none-any.whl"

# What the requirements file has, the line that is named, and what the message and the hint say.
REASONS: dict[str, tuple[str, int | None, str, str]] = {
    "no-such-package": ("alpha\nnowhere\n", 2, r"the index has no nowhere for Python 3\.\d+", "fix the name"),
    "no-such-version": ("alpha==9\n", 1, r"no alpha==9 for .*; the last ones that it has are 1\.0, 2\.0$", "those"),
    "no-such-dependency": ("alpha\n\ndeep\n", 3, r"the index has no nosuch>=3, which deep needs, for", "fix"),
    "conflict": ("beta\ngamma\n", 2, r"fit together: beta 1\.0 depends on alpha<2, gamma 1\.0 depends on", "versions"),
    "constraint": ("\nold-msgpack\n", 2, r"depends on msgpack<1, kong-python itself, .* needs msgpack", "versions"),
    "other-python": ("newer\n", 1, r"^newer needs Python >=3\.99, and this is 3\.", "version that can use this"),
    "invalid": ("alpha\nalpha=1\n", 2, r"^'alpha=1' is no requirement$", "write == in place of ="),
    "option": ("alpha\n--nonsense\n", 2, r"^pip does not know the option --nonsense$", "remove it"),
    "path": ("alpha\n./nowhere\n", 2, r"^there is no file or folder \./nowhere$", "begins in the folder"),
    "hash": ("alpha==1.0 --hash=sha256:0\n", 1, r"has of alpha==1\.0 has not the hash", "before you change"),
    "hash-missing": ("alpha==1.0 --hash=sha256:0\ngamma\n", 2, r"and gamma has none$", "pin it with =="),
    "no-git": ("git+https://127.0.0.1:9/x.git\n", None, r"^there is no git here$", "install git"),
    "git": (
        "git+https://127.0.0.1:9/x.git\n",
        None,
        r"^git cannot fetch https:\S+ \(fatal: unable to access",
        "address",
    ),
    "compiler": ("native\n", 1, r"^native has no wheel for this Python, and .* there is no some-cc here$", "compiler"),
    "build": ("sound\n", 1, r"^sound cannot be built \(RuntimeError: needs libfoo\)$", "that has a wheel"),
    "refused": ("nowhere\n", None, r"^cannot reach the index 127\.0\.0\.1:9 \(Connection refused\)$", "PIP_INDEX_URL"),
    "forbidden": ("nowhere\n", None, r"^the index 127\.0\.0\.1:8941 .* \(403 Client Error: Forbidden\)$", "network"),
    "certificate": ("nowhere\n", None, r"^the certificate of localhost:8942 is not trusted$", "PIP_CERT"),
    "no-host": (
        "--index-url https://me:pw@index.invalid/simple\nnowhere\n",
        1,
        r"^cannot reach the index index\.invalid \(Name or service not known\)$",
        "HTTPS_PROXY",
    ),
    "url-no-host": (f"beta\n{WHEEL}\n", 2, r"^cannot reach files\.invalid \(Name or service not known\)$", "network"),
    "url-refused": (
        "\nalpha @ https://127.0.0.1:9/alpha-1.0-py3-none-any.whl\n",
        2,
        r"^cannot reach 127\.0\.0\.1(:9)? \(Connection refused\)$",
        "--index-url",
    ),
    "url-proxy": (f"{WHEEL}\n", 1, r"^cannot reach files\.invalid \(the proxy: Connection refused\)$", "HTTPS_PROXY"),
    "included-url": (
        "beta\n\n-r https://files.invalid/more.txt\n",
        3,
        r"^cannot reach files\.invalid \(Name or service not known\)$",
        "network",
    ),
    "no-certificates": ("nowhere\n", None, r"^there are no certificates in /nowhere/ca\.crt$", "PIP_CERT"),
    "only-source": (
        "\nnative\n",
        2,
        r"^the index has no wheel of native for Python 3\.\S+ on \w+; it has the source of native 1\.0$",
        "KONG_PYTHON_INSTALL=on",
    ),
    "only-source-dependency": (
        "deep\n",
        1,
        r"no wheel of native>=1, which deep needs, for .* source of",
        "has a wheel",
    ),
    "build-refused": (
        "alpha\ndirect\n",
        2,
        r"^/src/native(, which direct needs,)? has to be built from source$",
        "KONG_PYTHON_INSTALL=on",
    ),
    "disk-full": ("big\n", None, r"^there is no room left on the disk$", "KONG_PYTHON_DATA_DIR"),
}


def recorded(version: str, name: str) -> Outcome:
    """Give what pip wrote."""
    cases = (RECORDED / f"{version}.txt").read_text().split("##### ")
    [case] = [case for case in cases if case.startswith(f"{name}\n")]
    output, _, log = case.partition("\n")[2].partition("=== log\n")
    return Outcome(1, output, log, building=not name.startswith(("only-source", "build-refused")))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", REASONS)
def test_pips_words_become_one_sentence(name: str, version: str, tmp_path: Path) -> None:
    text, line, message, hint = REASONS[name]
    file = tmp_path / "requirements.txt"
    file.write_text(text)
    if (name, version) == ("build-refused", "pip-22.0.2"):
        line = None  # it does not say which package needs the directory
    outcome = recorded(version, name)
    urls = [Line(file, number, line) for number, line in enumerate(text.splitlines(), 1) if "://" in line]
    reason = explain(replace(outcome, output=outcome.output.replace(FILE, str(file))), file, urls)
    assert re.search(message, reason.message), reason
    assert (reason.line, hint in reason.hint) == (line, True), reason


PYPI = """  Skipping link: No sources permitted for alpha: https://index.invalid/alpha-1.0.tar.gz#sha256=0 (from x)
  Skipping link: No sources permitted for alpha: https://index.invalid/alpha-2.0.zip (from x)
"""


@pytest.mark.parametrize(
    ("asked", "wheels", "message"),
    [
        ("alpha==9", "1.0, 2.0", r"^the index has no alpha==9 for .*; the last ones that it has are 1\.0, 2\.0$"),
        ("alpha==2.0", "1.0", r"^the index has no wheel of alpha==2\.0 for .*; it has the source of alpha 2\.0$"),
        ("alpha>1", "1.0", r"^the index has no wheel of alpha>1 for .*; it has the source of alpha 2\.0$"),
        ("alpha", "none", r"it has the source of alpha 1\.0, 2\.0$"),
        ("alpha==9", "none", r"^the index has no alpha==9 for"),
    ],
)
def test_a_version_that_is_not_there_at_all_is_no_matter_of_wheels(
    asked: str, wheels: str, message: str, tmp_path: Path
) -> None:
    words = f"ERROR: Could not find a version that satisfies the requirement {asked} (from versions: {wheels})\n"
    reason = explain(Outcome(1, words, PYPI, building=False), tmp_path / "requirements.txt")
    assert re.search(message, reason.message), reason


def test_pips_own_setting_is_named_where_builds_are_allowed(tmp_path: Path) -> None:
    reason = explain(recorded(VERSIONS[0], "only-source"), tmp_path / "requirements.txt")
    assert "KONG_PYTHON_INSTALL=on" in reason.hint
    outcome = replace(recorded(VERSIONS[0], "only-source"), building=True)
    assert "unset PIP_ONLY_BINARY" in explain(outcome, tmp_path / "requirements.txt").hint


def test_words_that_are_not_known_are_given_as_they_are(tmp_path: Path) -> None:
    outcome = Outcome(2, "Something\nERROR: Exception: a new kind\n  of trouble\n", "")
    reason = explain(outcome, tmp_path / "requirements.txt")
    assert reason.message == "pip says: Exception: a new kind"
    assert "in the log" in reason.hint


@pytest.mark.parametrize("output", ["", "\n\n", "x" * 10_000, "ERROR: \x1b[31m\n" * 99])
def test_anything_becomes_a_sentence(output: str, tmp_path: Path) -> None:
    reason = explain(Outcome(1, output, ""), tmp_path / "requirements.txt")
    assert reason.message.startswith("pip says: ")
    assert len(reason.message) < 400


def test_no_pip(tmp_path: Path) -> None:
    reason = explain(Outcome(1, "/usr/bin/python3: No module named pip\n", ""), tmp_path / "requirements.txt")
    assert reason.message == "there is no pip"
    assert "ensurepip" in reason.hint


@pytest.mark.parametrize(
    "output",
    [
        "ERROR: Could not install packages due to an OSError: HTTPSConnectionPool(host='files.invalid', port=443): "
        "Read timed out.\n",
        "error: connection-timeout\n\n\u00d7 Unable to fetch https://me:pw@files.invalid/more.txt\n"
        "\u2570\u2500> Connection timed out\n",
    ],
)
def test_a_host_that_is_too_slow_is_named_with_the_line_of_an_included_file(output: str, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    reason = explain(Outcome(1, output, ""), tmp_path / "requirements.txt", [Line(more, 7, WHEEL)])
    assert (reason.message, reason.line, reason.file) == ("cannot reach files.invalid (timed out)", 7, more)
