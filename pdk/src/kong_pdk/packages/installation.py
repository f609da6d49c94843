"""Installs the packages of a folder of plugins that are not installed yet; ``kong-python install``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import FrameType

from kong_pdk.logs import NOTICE, configure
from kong_pdk.masking import ends_too_early, has_unparsable_url, masked, secrets_of
from kong_pdk.packages import pip
from kong_pdk.packages.environment_store import Store, StoreError
from kong_pdk.packages.pip import normalized
from kong_pdk.packages.pip_errors import BUILD_HINT, Reason, explain, without_traceback
from kong_pdk.packages.plugin_packages import Packages, locate
from kong_pdk.packages.requirements import Line, Requirements, expanded, name_of, variables_of
from kong_pdk.plugin import Problem
from kong_pdk.settings import INSTALL, INSTALL_SECONDS, INSTALL_VARIABLES, PLUGINS_DIR, SettingError

_MOST_LINES = 200  # of the output of a build: its end says why it failed
_MOST_NAMED = 10
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"})
_ESCAPES = "write %2F for /, %3F for ?, %23 for #, %40 for @ and %5B for [ in the user and the password"
_MOST_CHARACTERS = 500  # of a line: pip lists all versions of a package

_log = logging.getLogger(__name__)


def install(packages: Packages, environ: Mapping[str, str]) -> Packages:
    """Install missing packages, with one run of pip for each set of requirements.

    The output of a pip that fails goes to the log. A signal handler that raises in this process ends pip, too.

    :return: the packages after that, with a problem for each set that could not be installed.
    :raises SettingError: a variable ``KONG_PYTHON_INSTALL...`` is not valid.
    """
    settings = _Settings.read(environ)
    store, failed = packages.store, dict(packages.failed)
    if not packages.missing:
        return packages
    if not settings.building and environ.get("PIP_NO_BINARY"):
        _log.warning("PIP_NO_BINARY is ignored: it asks for builds, and KONG_PYTHON_INSTALL is not on")
    try:
        if refusal := store.refusal():
            raise refusal
        waiting = "another start installs into %s; waiting"
        with store.locked(settings.seconds, lambda: _log.log(NOTICE, waiting, store.path)):
            for requirements in packages.missing:
                if problem := _install(packages.store, requirements, settings):
                    failed[requirements.plugin] = problem
            kept = [path for each in packages.wanted.values() if (path := store.find(each))]
            store.remove_unused(kept)
    except StoreError as error:
        # The data directory fails for all sets alike.
        for requirements in packages.missing:
            failed.setdefault(requirements.plugin, _of_store(requirements, error))
    return replace(packages, failed=failed)


@dataclass(frozen=True)
class _Settings:
    """The settings of an installation, from the environment."""

    environ: Mapping[str, str]
    seconds: float
    building: bool
    named: tuple[str, ...]

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> _Settings:
        # With ``kong-python install``, "off" is a setting for later starts.
        building = INSTALL.read(environ) == "on"
        return cls(environ, INSTALL_SECONDS.read(environ), building, INSTALL_VARIABLES.read(environ))

    def environment(self, requirements: Requirements) -> dict[str, str]:
        """Give the environment of pip."""
        return pip.environment(self.environ, self.building, {*self.named, *requirements.variables})

    def secrets(self, requirements: Requirements) -> frozenset[str]:
        """Give the passwords that pip may write."""
        given = self.environment(requirements)
        return secrets_of([*given.values(), *(expanded(line.text, given) for line in requirements.urls)])


def _install(store: Store, requirements: Requirements, settings: _Settings) -> Problem | None:
    """Install one set of requirements; its directory gets its name when it is complete."""
    began = time.monotonic()
    if problem := _wrong_url(requirements, settings):
        return problem
    if requirements.to_build and not settings.building:
        return _needs_build(requirements)
    for refused in store.refused(requirements):
        _log.warning("%s; it is installed again", refused)
    _log.log(NOTICE, "installing the packages of %s (%s)", requirements.owner, requirements.file)
    secrets = settings.secrets(requirements)
    try:
        with store.workspace() as work:
            environ = settings.environment(requirements)
            outcome = pip.install(requirements.file, work, environ, settings.seconds, settings.building)
            if outcome.status == 0:
                made = store.accept(work / pip.TARGET, requirements)
    except StoreError as error:
        return _of_store(requirements, error)
    except OSError as error:
        return _of_store(requirements, store.not_writable(error))
    if outcome.status == 0:
        _log_installed(requirements, made, time.monotonic() - began)
        return None
    outcome = replace(outcome, output=without_traceback(outcome.output, secrets))
    for line in [*outcome.build.splitlines()[-_MOST_LINES:], *outcome.output.splitlines()]:
        _log.info("pip: %s", _cut(masked(line, secrets)))
    return _problem(requirements, _reason(outcome, requirements, settings), secrets)


def _wrong_url(requirements: Requirements, settings: _Settings) -> Problem | None:
    """Find the first URL that cannot be parsed: pip would crash, and quote a part of the password."""
    given = settings.environment(requirements)
    for line in requirements.urls:
        if has_unparsable_url(expanded(line.text, given)):
            unset = [name for name in variables_of(line.text) if not given.get(name)]
            hint = f"set {' and '.join(unset)}, or {_ESCAPES}" if unset else _ESCAPES
            message = "the URL here cannot be parsed: its host, its port, or an unescaped character in its password"
            return _problem(requirements, Reason(message, f"{hint}, and a port as a number", line.number, line.file))
    if names := [name for name, value in given.items() if name.startswith("PIP_") and has_unparsable_url(value)]:
        return _problem(requirements, _wrong_variables(names))
    return None


def _wrong_variables(names: Collection[str]) -> Reason:
    message = f"the user or the password in {' and '.join(names)} holds a character that ends it"
    return Reason(message, _ESCAPES)


def _log_installed(requirements: Requirements, made: Path, seconds: float) -> None:
    installed = metadata.distributions(path=[str(made)])
    versions = {normalized(each.name): each.version for each in installed}
    count = "1 package" if len(versions) == 1 else f"{len(versions)} packages"
    _log.log(NOTICE, "installed %s for %s in %.1f s", count, requirements.owner, seconds)
    if requirements.unpinned:
        _log.warning("%s", _unpinned(requirements, versions))


def _unpinned(requirements: Requirements, versions: Mapping[str, str]) -> str:
    """Warn of lines for which the next install may bring other versions, and give the pins."""
    lines = requirements.unpinned
    texts = [f"{masked(line.text.partition(';')[0].strip())} ({_place(line, requirements)})" for line in lines]
    pins = [f"{name}=={versions[name]}" for line in lines if (name := name_of(line.text)) and name in versions]
    ways = [f"{', '.join(pins[:_MOST_NAMED])}"] if pins else []
    if len(pins) < len(lines):
        ways.append("a commit, or the hash of a file (#sha256=...), for a URL")
    rest = f" and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return (
        f"{requirements.file}: the next install may bring other versions of {', '.join(texts[:_MOST_NAMED])}{rest}; "
        f"pin them: {', '.join(ways)}"
    )


def _place(line: Line, requirements: Requirements) -> str:
    return f"line {line.number}" if line.file == requirements.file else f"{line.file}:{line.number}"


def _needs_build(requirements: Requirements) -> Problem:
    """Give the problem of the first line that needs a build, where builds are not allowed."""
    line = requirements.to_build[0]
    need = "asks for a build" if line.text.startswith("--no-binary") else "has to be built from source"
    message = f"{line.text} {need}, and KONG_PYTHON_INSTALL=wheels builds nothing"
    return _problem(requirements, Reason(message, BUILD_HINT, line.number, line.file))


def _reason(outcome: pip.Outcome, requirements: Requirements, settings: _Settings) -> Reason:
    if outcome.status is None:
        hint = "check the network, or increase KONG_PYTHON_INSTALL_SECONDS"
        return Reason(f"pip did not end within {settings.seconds:g} s", hint)
    given = settings.environment(requirements)
    variables = {name: value for name, value in given.items() if name.startswith("PIP_") or name.upper() in _PROXIES}
    if names := [name for name, value in variables.items() if ends_too_early(value)]:
        return _wrong_variables(names)
    for line in requirements.urls:
        if ends_too_early(expanded(line.text, given), certain=True):
            message = "the user or the password in the URL here holds a character that ends it"
            return Reason(message, _ESCAPES, line.number, line.file)
    return explain(outcome, requirements.lines)


def _of_store(requirements: Requirements, error: StoreError) -> Problem:
    return _problem(requirements, Reason(str(error), error.hint))


def _problem(requirements: Requirements, reason: Reason, secrets: Collection[str] = ()) -> Problem:
    # Cut after the masking: half of a URL with a password is no URL.
    message = f"the packages of {requirements.owner} cannot be installed: {_cut(masked(reason.message, secrets))}"
    file = reason.file or requirements.file
    return Problem(file, reason.line, message, masked(reason.hint, secrets), requirements.plugin)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ..."


def main(argv: Sequence[str]) -> int:
    """Run ``kong-python install``.

    :return: 0, or 78 if a package cannot be installed.
    """
    options = _parser().parse_args(list(argv))
    configure("kong-python")
    for number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        folder = Path(options.folder).absolute() if options.folder else PLUGINS_DIR.read(os.environ)
        if not folder.is_dir():
            _log.error("%s: there is no such folder; name the folder of the plugins", folder)
            return os.EX_CONFIG
        packages = locate(folder, os.environ)
        missing = packages.missing
        packages = install(packages, os.environ)
    except SettingError as error:
        _log.error("%s", error)
        return os.EX_CONFIG
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    for problem in packages.failed.values():
        _log.error("%s", problem)
    if packages.failed:
        return os.EX_CONFIG
    if not missing:
        _log.log(NOTICE, "%s: %s", folder, "all packages are installed" if packages.wanted else "nothing to install")
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kong-python install",
        description="Install the packages of requirements.txt in the folder, and in the folders of its plugins.",
    )
    parser.add_argument(
        "folder", nargs="?", help="the folder of the plugins (default: KONG_PYTHON_PLUGINS_DIR, /opt/kong/plugins)"
    )
    return parser
