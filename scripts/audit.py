#!/usr/bin/env python3
"""Checks the Python packages of an image against known advisories: scripts/audit.py [IMAGE or FILE] [OPTION]...

The packages are those of the image's bill of materials, or of a file of CycloneDX. pip-audit, in an environment of its
own, asks PyPI, and OSV where PyPI has no answer; OPTIONs are for pip-audit, such as ``--ignore-vuln ID``, or
``--vulnerability-service osv --osv-url URL`` for a mirror. Nothing here takes longer than its limit.

Exit status: 0 no advisory is known, 1 some are, 75 no database answers for all packages, 2 anything else.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-audit"
TOOL = "pip-audit>=2.10,<3"
SBOM = "/usr/local/share/sbom/kong-python.cdx.json"
OURS = "kong-python"
INSTALL_SECONDS, IMAGE_SECONDS, AUDIT_SECONDS, SOCKET_SECONDS = 60, 30, 30, 10
MOST_CHARACTERS = 160
NONE, SOME, FAULT, UNKNOWN = 0, 1, 2, 75


class Ended(Exception):
    """The check ends without a result; has the exit status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def run(command: Sequence[str | Path], seconds: float) -> subprocess.CompletedProcess[str] | None:
    """Run a program; None where it does not end in time."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    except FileNotFoundError as error:
        raise Ended(FAULT, f"{error.filename} is not installed") from None


def bill_of_materials(place: str) -> Any:
    """Read the bill of materials of an image, or a file."""
    if Path(place).is_file():
        text = Path(place).read_text(encoding="utf-8", errors="replace")
    else:
        done = run(["docker", "run", "--rm", "--network=none", "--entrypoint=cat", place, SBOM], IMAGE_SECONDS)
        if done is None or done.returncode:
            reason = done.stderr.strip() if done else f"docker does not answer within {IMAGE_SECONDS} s"
            raise Ended(FAULT, f"{place}: {SBOM} cannot be read: {reason}")
        text = done.stdout
    try:
        return json.loads(text)
    except ValueError as error:
        raise Ended(FAULT, f"{place}: this is no bill of materials: {error}") from None


def packages(sbom: Any) -> list[str]:
    """Give ``NAME==VERSION`` for each package but our own, which nobody else has published."""
    try:
        purls = [unquote(each["purl"].removeprefix("pkg:pypi/").partition("?")[0]) for each in sbom["components"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise Ended(FAULT, f"this is no bill of materials of Python packages: {error!r}") from None
    return sorted(purl.replace("@", "==") for purl in purls if not purl.startswith(f"{OURS}@"))


def install() -> Path:
    """Install pip-audit where it is not installed yet; give the program. Another process may be at the same."""
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _install()
    finally:
        os.close(lock)


def _install() -> Path:
    program, stamp = ENVIRONMENT / "bin" / "pip-audit", ENVIRONMENT / ".installed"
    if program.exists() and stamp.exists() and stamp.read_text() == TOOL:
        return program
    venv.create(ENVIRONMENT, clear=True, with_pip=True)
    quiet = ("--quiet", "--disable-pip-version-check")
    done = run([ENVIRONMENT / "bin" / "python", "-m", "pip", "install", *quiet, TOOL], INSTALL_SECONDS)
    if done is None or done.returncode:
        lines = done.stderr.strip().splitlines() if done else []
        raise Ended(UNKNOWN, f"pip-audit cannot be installed: {lines[-1] if lines else 'the index does not answer'}")
    stamp.write_text(TOOL)
    return program


def audit(program: Path, wanted: Sequence[str], options: Sequence[str]) -> Any:
    """Ask a database; give what pip-audit reports for each package.

    :raises Ended: the database gives no answer, for one package at least.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements, report = Path(folder, "requirements.txt"), Path(folder, "report.json")
        requirements.write_text("".join(f"{each}\n" for each in wanted))
        command = [program, "--disable-pip", "--no-deps", "--requirement", requirements, "--progress-spinner=off"]
        command += [f"--timeout={SOCKET_SECONDS}", f"--cache-dir={folder}/cache", "--format=json", f"--output={report}"]
        done = run([*command, *options], AUDIT_SECONDS)
        if done is None:
            raise Ended(UNKNOWN, f"the database does not answer within {AUDIT_SECONDS} s")
        if not report.exists():
            raise Ended(
                UNKNOWN, (done.stderr.strip().splitlines() or ["pip-audit wrote nothing"])[-1][:MOST_CHARACTERS]
            )
        found = json.loads(report.read_text())["dependencies"]
    if skipped := [f"{each['name']}: {each['skip_reason']}" for each in found if "skip_reason" in each]:
        raise Ended(UNKNOWN, f"{len(skipped)} of {len(wanted)} packages are unknown there ({skipped[0]})")
    return found


def answer(program: Path, wanted: Sequence[str], options: Sequence[str]) -> Any:
    """Ask the database that the options name, or PyPI and then OSV."""
    if any(option.startswith(("-s", "--vulnerability-service")) for option in options):
        return audit(program, wanted, options)
    try:
        return audit(program, wanted, ["--vulnerability-service=pypi", *options])
    except Ended as first:
        try:
            return audit(program, wanted, ["--vulnerability-service=osv", *options])
        except Ended as second:
            raise Ended(UNKNOWN, f"PyPI: {first}; OSV: {second}") from None


def main(place: str, *options: str) -> int:
    try:
        wanted = packages(bill_of_materials(place))
        found = answer(install(), wanted, options)
    except Ended as ended:
        print(f"scripts/audit.py: {'not checked: ' if ended.status == UNKNOWN else ''}{ended}", file=sys.stderr)
        return ended.status
    for each in found:
        for known in each["vulns"]:
            names = ", ".join([known["id"], *known["aliases"]])
            fixed = f"fixed in {', '.join(known['fix_versions'])}" if known["fix_versions"] else "without a fix"
            print(f"{each['name']} {each['version']}: {names}; {fixed}")
    count = sum(len(each["vulns"]) for each in found)
    print(f"{len(found)} packages, {count or 'no'} known {'advisory' if count == 1 else 'advisories'}", file=sys.stderr)
    return SOME if count else NONE


if __name__ == "__main__":
    named = sys.argv[1:] or [os.environ.get("KONG_PYTHON_IMAGE", "kong-python")]
    sys.exit(main(*named))
