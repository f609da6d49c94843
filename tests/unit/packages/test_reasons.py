"""One sentence of what pip writes, as recorded from the versions that Ubuntu 22.04, Ubuntu 24.04 and the index have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kong_pdk.packages.pip import Outcome
from kong_pdk.packages.reasons import explain

RECORDED = Path(__file__).parent / "recorded"
VERSIONS = sorted(file.stem for file in RECORDED.glob("*.txt"))
FILE = "/plugins/requirements.txt"

# What the requirements file has, the line that is named, and what the message and the cure say.
REASONS: dict[str, tuple[str, int | None, str, str]] = {
    "no-such-package": ("alpha\nnowhere\n", 2, r"the index has no nowhere for Python 3\.\d+", "mend the name"),
    "no-such-version": ("alpha==9\n", 1, r"no alpha==9 for .*; the last ones that it has are 1\.0, 2\.0$", "those"),
    "no-such-dependency": ("alpha\n\ndeep\n", 3, r"the index has no nosuch>=3, which deep needs, for", "mend"),
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
    "refused": ("nowhere\n", None, r"^the index 127\.0\.0\.1:9 .* \(Connection refused\)$", "PIP_INDEX_URL"),
    "forbidden": ("nowhere\n", None, r"^the index 127\.0\.0\.1:8941 .* \(403 Client Error: Forbidden\)$", "network"),
    "certificate": ("nowhere\n", None, r"^the certificate of localhost:8942 is not trusted$", "PIP_CERT"),
    "no-host": ("nowhere\n", None, r"^the index index\.invalid .* \(Name or service not known\)$", "HTTPS_PROXY"),
    "no-certificates": ("nowhere\n", None, r"^there are no certificates in /nowhere/ca\.crt$", "PIP_CERT"),
    "disk-full": ("big\n", None, r"^there is no room left on the disk$", "KONG_PYTHON_DATA_DIR"),
}


def recorded(version: str, name: str) -> Outcome:
    """Give what pip wrote."""
    cases = (RECORDED / f"{version}.txt").read_text().split("##### ")
    [case] = [case for case in cases if case.startswith(f"{name}\n")]
    output, _, log = case.partition("\n")[2].partition("=== log\n")
    return Outcome(1, output, log)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", REASONS)
def test_pips_words_become_one_sentence(name: str, version: str, tmp_path: Path) -> None:
    text, line, message, cure = REASONS[name]
    file = tmp_path / "requirements.txt"
    file.write_text(text)
    outcome = recorded(version, name)
    reason = explain(Outcome(1, outcome.output.replace(FILE, str(file)), outcome.log), file)
    assert re.search(message, reason.message), reason
    assert (reason.line, cure in reason.cure) == (line, True), reason


def test_words_that_are_not_known_are_given_as_they_are(tmp_path: Path) -> None:
    outcome = Outcome(2, "Something\nERROR: Exception: a new kind\n  of trouble\n", "")
    reason = explain(outcome, tmp_path / "requirements.txt")
    assert reason.message == "pip says: Exception: a new kind"
    assert "in the log" in reason.cure


@pytest.mark.parametrize("output", ["", "\n\n", "x" * 10_000, "ERROR: \x1b[31m\n" * 99])
def test_anything_becomes_a_sentence(output: str, tmp_path: Path) -> None:
    reason = explain(Outcome(1, output, ""), tmp_path / "requirements.txt")
    assert reason.message.startswith("pip says: ")
    assert len(reason.message) < 400


def test_no_pip(tmp_path: Path) -> None:
    reason = explain(Outcome(1, "/usr/bin/python3: No module named pip\n", ""), tmp_path / "requirements.txt")
    assert reason.message == "there is no pip"
    assert "ensurepip" in reason.cure
