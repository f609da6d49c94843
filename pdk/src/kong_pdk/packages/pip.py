"""Runs pip: into a given directory, without questions, with few environment variables, and with a time limit.

Its constraints are the versions of packages that the PDK needs.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TARGET = "environment"

# The user's settings must not change where pip installs to and how much it writes.
_NOT_HONOURED = frozenset(
    {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_DRY_RUN", "PIP_QUIET", "PIP_PYTHON"}
    | {"PIP_REQUIRE_VIRTUALENV", "PIP_LOG"}
)
# pip reads these besides PIP_*. It gets no others: the environment holds passwords that packages must not see.
_FOR_PIP = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "OPENSSL_CONF"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"}
    | {"XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"}
    | {"DBUS_SESSION_BUS_ADDRESS", "PYTHON_KEYRING_BACKEND"}
)
# Builds of packages, and git, read these.
_FOR_BUILDS = frozenset(
    {"CC", "CXX", "CPP", "FC", "F77", "LD", "AR", "NM", "RANLIB", "STRIP", "LDSHARED", "MAKE", "MAKEFLAGS", "MAX_JOBS"}
    | {"CFLAGS", "CXXFLAGS", "CPPFLAGS", "FFLAGS", "FCFLAGS", "LDFLAGS", "ARFLAGS", "ARCHFLAGS", "SOURCE_DATE_EPOCH"}
    | {"CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH"}
    | {"PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "PKG_CONFIG_SYSROOT_DIR"}
    | {"CARGO", "CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "CARGO_BUILD_JOBS", "CARGO_NET_OFFLINE"}
    | {"RUSTC", "RUSTFLAGS", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"}
    | {"CMAKE_ARGS", "CMAKE_GENERATOR", "CMAKE_PREFIX_PATH", "CMAKE_BUILD_PARALLEL_LEVEL", "CMAKE_TOOLCHAIN_FILE"}
    | {"SETUPTOOLS_USE_DISTUTILS", "SETUPTOOLS_SCM_PRETEND_VERSION"}
    | {"GIT_ASKPASS", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_CONFIG_GLOBAL"}
    | {"SSH_AUTH_SOCK"}
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
_DISTRIBUTION = "kong-python"

IMPORTED = frozenset({"gevent", "greenlet", "msgpack", "protobuf"})
"""The dependencies of the PDK that a plugin server imports. A plugin may have any version of the others."""

# Without the extras: a constraint has none.
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*([^;]*)(;.*)?")


@dataclass(frozen=True)
class Outcome:
    """The end of a run of pip, its output, and its log, which has more than the output.

    ``status`` is None if pip was killed at the time limit. ``building`` says whether it was allowed to build packages
    from source.
    """

    status: int | None
    output: str
    log: str
    building: bool = True

    @property
    def build(self) -> str:
        """The name and the output of the program that failed, if one did: builds of packages write only to the log."""
        for part in self.log.split("Running command ")[1:]:
            if end := _FAILED.search(part):
                return part[: end.start()]
        return ""


def install(file: Path, work: Path, environ: Mapping[str, str], seconds: float, building: bool) -> Outcome:
    """Install the packages of a requirements file, with all dependencies.

    pip runs in the folder of the file. All processes that it started have ended when this returns, or raises.

    :param work: a directory for temporary files; the packages are in ``TARGET`` in it afterwards.
    :param environ: the environment of pip, see :func:`environment`.
    :param seconds: the time limit.
    :param building: build packages from source; otherwise only wheels are installed, and no code of a package runs.
    """
    target, limits, log = work / TARGET, work / "constraints.txt", work / "pip.log"
    limits.write_text(constraints(), encoding="utf-8")
    target.mkdir()
    target.chmod(0o755)
    command = [*_PIP, "install"] if building else [*_PIP_THAT_RUNS_NO_PYTHON, "install", "--only-binary", ":all:"]
    command += ["--no-user", "--target", str(target), "--log", str(log)]
    command += ["--requirement", str(file), "--constraint", str(limits)]
    status, output = _run(command, file.parent, _settled(environ, work), seconds)
    text = ""
    with contextlib.suppress(OSError):
        text = _STAMP.sub("", log.read_bytes()[-_MOST_LOG:].decode("utf-8", "replace"))
        log.unlink()
    return Outcome(status, output, text, building)


BUILD_REFUSED = "kong-python: a package would be built from source"
"""The error message of pip where a build was about to begin and only wheels are allowed."""

# -I: pip must not import modules of the folder of plugins, in which it runs.
_PIP = (sys.executable, "-I", "-B", "-m", "pip")

# --only-binary does not apply to directories, repositories and archives that the metadata of a wheel names. pip starts
# a Python for a build, and for nothing else.
_NO_PYTHON = f"""
import os, runpy, sys
try:
    from pip._internal.exceptions import InstallationError as Refused
except ImportError:
    Refused = RuntimeError
def refuse(event, arguments):
    if event == "subprocess.Popen" and os.fsdecode(arguments[0]) == sys.executable:
        raise Refused({BUILD_REFUSED!r})
sys.addaudithook(refuse)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_PIP_THAT_RUNS_NO_PYTHON = (sys.executable, "-I", "-B", "-c", _NO_PYTHON)


def _run(command: list[str], folder: Path, environ: Mapping[str, str], seconds: float) -> tuple[int | None, str]:
    with subprocess.Popen(
        command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, umask=0o022,
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
    """Kill pip and its children: a compiler must not outlive it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")


def environment(environ: Mapping[str, str], building: bool, more: Collection[str] = ()) -> dict[str, str]:
    """Select the environment variables that pip gets, and those that builds read if builds are allowed.

    :param more: names of further variables.
    """
    names = {*_FOR_PIP, *more, *(_FOR_BUILDS if building else ())}
    refused = _NOT_HONOURED if building else {*_NOT_HONOURED, "PIP_NO_BINARY"}

    def is_given(name: str) -> bool:
        return name not in refused and (name in names or name.startswith(("LC_", "PIP_")))

    return {name: value for name, value in environ.items() if is_given(name)}


def _settled(environ: Mapping[str, str], work: Path) -> dict[str, str]:
    """Add the settings of temporary files, output, cache and certificates."""
    kept = dict(environ)
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
    # pip's default is in the home directory, which may not exist.
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
    """Whether a pip.conf names certificates: a variable would override them."""
    try:
        listed = subprocess.run(
            [*_PIP, "config", "list"], env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=_CONFIG_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return re.search(r"^\S+\.cert=", listed.stdout, re.MULTILINE) is not None


@cache
def constraints() -> str:
    """Give the lines of a constraints file: the versions of ``IMPORTED`` and its dependencies that the PDK needs."""
    lines = {line for name, line in _requirements(_DISTRIBUTION) if name in IMPORTED}
    pending = sorted(IMPORTED)
    seen = set(pending)
    while pending:
        for name, line in _requirements(pending.pop()):
            lines.add(line)
            if name not in seen:
                seen.add(name)
                pending.append(name)
    return "".join(f"{line}\n" for line in sorted(lines))


def normalized(name: str) -> str:
    """Give the form in which names of packages are compared: ``Foo_Bar`` and ``foo.bar`` are the same."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(distribution: str) -> Iterator[tuple[str, str]]:
    """Give the name and the constraint of each requirement of an installed distribution, without those of extras."""
    from importlib import metadata

    try:
        requirements = metadata.requires(distribution) or ()
    except metadata.PackageNotFoundError:
        return
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found and not re.search(r"\bextra\s*==", found[3] or ""):
            name, versions, marker = found[1], found[2].strip().strip("()"), found[3] or ""
            yield normalized(name), f"{name}{versions}{marker}"
