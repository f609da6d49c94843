"""Runs pip, so that it writes where it is told, asks nobody, and ends when it should."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kong_pdk.packages.constraints import constraints

# Where it installs to, and how much it says, is not for the user's settings to decide here.
_NOT_HONOURED = frozenset(
    {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_DRY_RUN", "PIP_QUIET", "PIP_PYTHON"}
    | {"PIP_REQUIRE_VIRTUALENV", "PIP_LOG"}
)
_CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_CERTIFICATES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
)
_CONFIG_SECONDS = 30
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:,]+ ", re.MULTILINE)
_FAILED = re.compile(r"^\s*(?:ERROR: |error: subprocess-exited|.*: finished with status 'error')", re.MULTILINE)
_MOST_LOG = 1024 * 1024


@dataclass(frozen=True)
class Outcome:
    """How a run of pip ended: what it wrote, and its log, which says more.

    ``status`` is None where it was killed since it took too long.
    """

    status: int | None
    output: str
    log: str

    @property
    def build(self) -> str:
        """What the program wrote that failed, if one did: builds of packages write to the log alone."""
        for part in self.log.split("Running command ")[1:]:
            if end := _FAILED.search(part):
                return part[: end.start()]
        return ""


def install(file: Path, target: Path, work: Path, environ: Mapping[str, str], seconds: float) -> Outcome:
    """Install what a requirements file asks for, without what is installed elsewhere, into a directory.

    It runs in the file's folder. What it started is gone when this returns, or raises.

    :param work: a directory for its temporary files.
    :param seconds: how long it may take.
    """
    limits, log = work / "constraints.txt", work / "pip.log"
    limits.write_text(constraints(), encoding="utf-8")
    target.mkdir()
    target.chmod(0o775)
    command = [*_PIP, "install", "--no-user", "--target", str(target), "--log", str(log)]
    command += ["--requirement", str(file), "--constraint", str(limits)]
    status, output = _run(command, file.parent, _environment(environ, work), seconds)
    text = ""
    with contextlib.suppress(OSError):
        text = _STAMP.sub("", log.read_bytes()[-_MOST_LOG:].decode("utf-8", "replace"))
        log.unlink()
    return Outcome(status, output, text)


# -I: the folder that it runs in holds plugins, not modules for pip.
_PIP = (sys.executable, "-I", "-B", "-m", "pip")


def _run(command: list[str], folder: Path, environ: Mapping[str, str], seconds: float) -> tuple[int | None, str]:
    with subprocess.Popen(
        command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, umask=0o002,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=seconds)
            return process.returncode, _text(output)
        except subprocess.TimeoutExpired:
            _kill(process)
            return None, _text(process.communicate()[0])
        finally:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill pip and all that it started: a compiler must not outlive it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")


def _environment(environ: Mapping[str, str], work: Path) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name not in _NOT_HONOURED}
    temporary = work / "tmp"
    temporary.mkdir(exist_ok=True)
    kept.update(
        TMPDIR=str(temporary),
        PIP_NO_INPUT="1",
        PIP_NO_COLOR="1",
        PIP_PROGRESS_BAR="off",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_ROOT_USER_ACTION="ignore",
    )
    # Its own place for downloads is in the home directory, which may not be there.
    if not kept.get("PIP_CACHE_DIR"):
        kept["PIP_CACHE_DIR"] = str(work / "cache")
    if not any(kept.get(name) for name in _CERTIFICATES):
        if kept.get("SSL_CERT_FILE"):
            kept["PIP_CERT"] = kept["SSL_CERT_FILE"]
        elif (bundle := _system_certificates()) and not _has_certificates(kept):
            kept["PIP_CERT"] = str(bundle)
    return kept


def _system_certificates() -> Path | None:
    return next((bundle for bundle in _SYSTEM_CERTIFICATES if bundle.is_file()), None)


def _has_certificates(environ: Mapping[str, str]) -> bool:
    """Whether a pip.conf names certificates: a variable would override that."""
    try:
        listed = subprocess.run(
            [*_PIP, "config", "list"], env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=_CONFIG_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return re.search(r"^\S+\.cert=", listed.stdout, re.MULTILINE) is not None
