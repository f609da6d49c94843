"""Messages from pip's output, as recorded from the pip of Ubuntu 22.04, of Ubuntu 24.04 and of the index."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from kong_pdk.packages.pip import Outcome
from kong_pdk.packages.pip_errors import explain, without_traceback
from kong_pdk.packages.requirements import Line

RECORDED = Path(__file__).parent / "recorded"
VERSIONS = sorted(file.stem for file in RECORDED.glob("*.txt"))
FILE = Path("/plugins/requirements.txt")

WHEEL = "alpha @ https://files.invalid/alpha-1.0-py3-none-any.whl"

# The requirements file, the named line, and parts of the message and the hint.
REASONS: dict[str, tuple[str, int | None, str, str]] = {
    "no-such-package": ("alpha\nnowhere\n", 2, r"^Could not find a version .* nowhere \(from versions: none\)$", "fix"),
    "no-such-version": ("alpha==9\n", 1, r"^Could not find .* alpha==9 \(from versions: 1\.0, 2\.0\)$", "Python 3."),
    "no-such-dependency": ("alpha\n\ndeep\n", 3, r"^Could not find .* nosuch>=3 \(from deep\) \(from", "fix the name"),
    "conflict": ("beta\ngamma\n", 2, r"caused by: beta 1\.0 depends on alpha<2, gamma 1\.0 depends on", "versions"),
    "constraint": ("\nold-msgpack\n", 2, r"depends on msgpack<1, The user .*\(constraint\) msgpack", "kong-python's"),
    "other-python": ("newer\n", 1, r"^Package 'newer' requires a different Python: 3\.11\.7 not in '>=3\.99'$", "log"),
    "invalid": ("alpha\nalpha=1\n", 2, r"^Invalid requirement: 'alpha=1'.*: Hint: .* Did you mean == \?$", "log"),
    "option": ("alpha\n--nonsense\n", 2, r"no such option: --nonsense$", "log"),
    "path": ("alpha\n./nowhere\n", 2, r"^Invalid requirement: '\./nowhere'.*: Hint: It looks like a path\.", "log"),
    "hash": ("alpha==1.0 --hash=sha256:0\n", 1, r"alpha==1\.0 from .*: Expected sha256 0+: Got 93fe", "before you"),
    "hash-missing": ("alpha==1.0 --hash=sha256:0\ngamma\n", 2, r"These do not: gamma from", "give its hash"),
    "no-git": ("git+https://127.0.0.1:9/x.git\n", 1, r"^Cannot find command 'git' - do you have 'git'", "an archive"),
    "git": ("git+https://127.0.0.1:9/x.git\n", 1, r"x\.git: git clone .*: fatal: unable to access", "network"),
    "compiler": ("native\n", 1, r" for native.*: error: .*some-cc'", "that has a wheel"),
    "build": ("sound\n", 1, r"^Processing \S+/sound-1\.0\.tar\.gz: .*: RuntimeError: needs libfoo$", "a compiler"),
    "refused": ("nowhere\n", 1, r"^Could not fetch URL http://\S+/nowhere/: .*Connection refused", "PIP_INDEX_URL"),
    "forbidden": ("nowhere\n", 1, r"^Could not fetch URL http://\S+: 403 Client Error: Forbidden", "network"),
    "certificate": ("nowhere\n", 1, r"^Could not fetch URL https://localhost:8942/.*self-signed", "PIP_CERT"),
    "no-host": (
        "--index-url https://me:pw@index.invalid/simple\nnowhere\n",
        1,
        r"^Could not fetch URL https://index\.invalid/.*Name or service not known",
        "HTTPS_PROXY",
    ),
    "url-no-host": (f"beta\n{WHEEL}\n", 2, r"files\.invalid.*Name or service not known", "network"),
    "url-refused": (
        "\nalpha @ https://127.0.0.1:9/alpha-1.0-py3-none-any.whl\n",
        2,
        r"127\.0\.0\.1.*Connection refused",
        "--index-url",
    ),
    "url-proxy": (f"{WHEEL}\n", 1, r"(?i)proxy.*Connection refused", "HTTPS_PROXY"),
    "included-url": (
        "beta\n\n-r https://files.invalid/more.txt\n",
        3,
        r"files\.invalid.*Name or service not known",
        "network",
    ),
    "no-certificates": ("nowhere\n", 1, r"TLS CA certificate bundle, invalid path: /nowhere/ca\.crt$", "PIP_CERT"),
    "only-source": ("\nnative\n", 2, r"^Could not find a version .* native \(", "only its source: ask for a version"),
    "only-source-dependency": ("deep\n", 1, r"native>=1 \(from deep\)", "KONG_PYTHON_INSTALL=on"),
    "build-refused": (
        "alpha\ndirect\n",
        2,
        r"^Processing /src/native( \(from direct\))?: .*: kong-python: a package would be built from source$",
        "KONG_PYTHON_INSTALL=on",
    ),
    "disk-full": ("big\n", None, r"\[Errno 28\] No space left on device$", "KONG_PYTHON_DATA_DIR"),
}
# This pip does not name the line for a file or directory.
WITHOUT_LINE = {("build-refused", "pip-22.0.2"), ("build", "pip-22.0.2")}


def recorded(version: str, name: str) -> Outcome:
    cases = (RECORDED / f"{version}.txt").read_text().split("##### ")
    [case] = [case for case in cases if case.startswith(f"{name}\n")]
    output, _, log = case.partition("\n")[2].partition("=== log\n")
    return Outcome(1, output, log, building=not name.startswith(("only-source", "build-refused")))


def lines(text: str, file: Path = FILE) -> list[Line]:
    return [Line(file, number, line) for number, line in enumerate(text.splitlines(), 1) if line]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", REASONS)
def test_pips_output_becomes_one_message(name: str, version: str) -> None:
    text, line, message, hint = REASONS[name]
    line = None if (name, version) in WITHOUT_LINE else line
    reason = explain(recorded(version, name), lines(text))
    assert re.search(message, reason.message), reason
    assert (reason.line, hint in reason.hint) == (line, True), reason
    assert reason.file == (FILE if line else None)
    assert not re.search(r"\n|from -r|object at", reason.message)


SKIPPED = """  Skipping link: No sources permitted for alpha: https://index.invalid/alpha-1.0.tar.gz#sha256=0 (from x)
  Skipping link: No sources permitted for alpha: https://index.invalid/alpha-2.0.zip (from x)
  Skipping link: No sources permitted for alpha: file:///wheels/alphabet-9.tar.gz
"""


@pytest.mark.parametrize(
    ("asked", "wheels", "only_source"),
    [
        ("alpha", "none", True),
        ("alpha>1", "none", True),
        ("alpha==2.0", "1.0", True),
        ("alpha[extra]==2.0", "1.0", True),
        ("alpha==9", "1.0, 2.0", False),
        ("alpha==9", "none", False),
        ("alpha>2", "1.0, 2.0", False),
        ("beta", "none", False),
    ],
)
def test_only_the_source_of_the_requested_version_counts(asked: str, wheels: str, only_source: bool) -> None:
    output = f"ERROR: Could not find a version that satisfies the requirement {asked} (from versions: {wheels})\n"
    reason = explain(Outcome(1, output, SKIPPED, building=False))
    assert ("the index has only its source" in reason.hint) is only_source
    assert ("fix the name or the version" in reason.hint) is not only_source


def test_a_long_list_of_versions_ends_with_the_last_five() -> None:
    versions = ", ".join(f"1.{minor}" for minor in range(100))
    output = f"ERROR: Could not find a version that satisfies the requirement alpha==2 (from versions: {versions})\n"
    assert explain(Outcome(1, output, "")).message.endswith("(from versions: ..., 1.95, 1.96, 1.97, 1.98, 1.99)")


def test_pips_own_setting_is_named_where_builds_are_allowed() -> None:
    outcome = recorded(VERSIONS[0], "only-source")
    assert "KONG_PYTHON_INSTALL=on" in explain(outcome).hint
    assert "unset PIP_ONLY_BINARY" in explain(replace(outcome, building=True)).hint


def test_unknown_output_is_quoted() -> None:
    reason = explain(Outcome(2, "Something\nERROR: Exception: a new kind\n  of trouble\nmore\n", ""))
    assert reason == ("Exception: a new kind: of trouble", "the log has the whole output of pip", None, None)


@pytest.mark.parametrize("output", ["", "\n\n", "x" * 10_000, "ERROR: \x1b[31m\n" * 99, "ERROR: x\n y\n" * 999])
def test_any_output_becomes_a_message(output: str) -> None:
    message = explain(Outcome(1, output, "")).message
    assert message
    assert "\n" not in message


def test_no_pip() -> None:
    reason = explain(Outcome(1, "/usr/bin/python3: No module named pip\n", ""))
    assert reason.message == "/usr/bin/python3: No module named pip"
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
def test_a_line_of_an_included_file_is_named_with_its_file(output: str) -> None:
    more = Path("/plugins/more.txt")
    reason = explain(Outcome(1, output, ""), [*lines("beta\n"), *lines(f"\n\n{WHEEL}", more)])
    assert (reason.file, reason.line) == (more, 3)
    assert "timed out" in reason.message
    assert "network" in reason.hint


def test_the_file_that_pip_names_counts() -> None:
    output = "ERROR: Invalid requirement: 'alpha=1' (from line 3 of /plugins/my files/more.txt)\n"
    reason = explain(Outcome(1, output, ""), lines("alpha\n"))
    assert (reason.message, reason.line) == ("Invalid requirement: 'alpha=1'", 3)
    assert reason.file == Path("/plugins/my files/more.txt")


def test_a_missing_repository_has_the_hint_to_fix_its_address() -> None:
    outcome = recorded("pip-24.0", "git")
    log = outcome.log.replace("Failed to connect", "repository not found")
    assert "fix the address" in explain(replace(outcome, log=log)).hint


CRASH = """Looking in indexes: https://bob:****@index.invalid/simple
ERROR: Exception:
Traceback (most recent call last):
  File "/lib/one.py", line 1, in one
    first("s3c/r@t")
KeyError: 's3c'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/lib/two.py", line 2, in two
    second()
{}
"""


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (
            "ValueError: Port could not be cast to integer value as 's3c'",
            "ValueError: Port could not be cast to integer value as ****",
        ),
        ("pip._vendor.requests.exceptions.InvalidURL: Failed to parse: bob:s3c", "InvalidURL: a URL cannot be parsed"),
        ("lib.Error: no 'simple' at 's3c'", "Error: no 'simple' at ****"),
        ("lib.Error: several lines\n  s3c\ns3c", "Error: several lines"),
        ("AssertionError", "AssertionError"),
    ],
)
def test_a_traceback_becomes_one_line_without_a_password(raised: str, expected: str) -> None:
    output = without_traceback(CRASH.format(raised), ["s3c/r@t"])
    assert output.splitlines() == [CRASH.splitlines()[0], f"ERROR: pip crashed: {expected}"]
    reason = explain(Outcome(2, output, ""), lines("alpha\n"))
    assert reason.message == f"pip crashed: {expected}"
    assert "pip install -r by hand" in reason.hint


def test_errors_after_the_traceback_of_a_program_stay() -> None:
    output = CRASH.format("KeyError: 'x'").replace("ERROR: Exception:\n", "") + "ERROR: No matching distribution\n"
    assert without_traceback(output, ()).splitlines()[1:] == [
        "ERROR: pip crashed: KeyError: 'x'",
        "ERROR: No matching distribution",
    ]
