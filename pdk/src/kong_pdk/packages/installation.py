"""Installs what the requirements of a folder ask for, and is not there yet."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

_MOST_LINES = 200  # of what a build writes: its end says why it failed
_MOST_NAMED = 10
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"})
_ESCAPES = "write %2F for /, %3F for ?, %23 for #, %40 for @ and %5B for [ in the user and the password"
_LONGEST_LINE = 400  # characters: pip lists every version that a package ever had

_log = logging.getLogger(__name__)


def install(packages: Packages, environ: Mapping[str, str]) -> Packages:
    """Install what is missing, each set of requirements by a run of pip; without one where nothing is missing.

    What pip says goes to the log where it fails. A signal that raises in this process ends pip, too.

    :return: the packages as they are then, with a problem for each set that could not be installed.
    :raises SettingError: a variable ``KONG_PYTHON_INSTALL...`` has no meaning.
    """
    terms = _Terms.read(environ)
    store, failed = packages.store, dict(packages.failed)
    if not packages.missing:
        return packages
    if not terms.building and environ.get("PIP_NO_BINARY"):
        _log.warning("PIP_NO_BINARY is ignored: it asks for builds, and KONG_PYTHON_INSTALL is not on")
    try:
        if refusal := store.refusal():
            raise refusal
        waiting = "another start installs into %s; waiting"
        with store.locked(terms.seconds, lambda: _log.log(NOTICE, waiting, store.path)):
            for requirements in packages.missing:
                if problem := _install(packages.store, requirements, terms):
                    failed[requirements.plugin] = problem
            kept = [path for each in packages.wanted.values() if (path := store.find(each))]
            store.remove_unused(kept)
    except StoreError as error:
        # What could not even be tried is as wrong for one as for another.
        for requirements in packages.missing:
            failed.setdefault(requirements.plugin, _of_store(requirements, error))
    return replace(packages, failed=failed)


@dataclass(frozen=True)
class _Terms:
    """On which terms packages are installed, as the environment says."""

    environ: Mapping[str, str]
    seconds: float
    building: bool
    named: tuple[str, ...]

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> _Terms:
        # Where this comes by ``kong-python install``, "off" is about the starts to come.
        building = INSTALL.read(environ) == "on"
        return cls(environ, INSTALL_SECONDS.read(environ), building, INSTALL_VARIABLES.read(environ))

    def environment(self, requirements: Requirements) -> dict[str, str]:
        """Give all that pip sees of the environment."""
        return pip.environment(self.environ, self.building, {*self.named, *requirements.variables})

    def secrets(self, requirements: Requirements) -> frozenset[str]:
        """Give the passwords that pip may speak of."""
        given = self.environment(requirements)
        return secrets_of([*given.values(), *(expanded(line.text, given) for line in requirements.urls)])


def _install(store: Store, requirements: Requirements, terms: _Terms) -> Problem | None:
    """Install one set; the directory gets its name when it is whole."""
    began = time.monotonic()
    if problem := _wrong_url(requirements, terms):
        return problem
    if requirements.built and not terms.building:
        return _built(requirements)
    for refused in store.refused(requirements):
        _log.warning("%s; it is installed anew", refused)
    _log.log(NOTICE, "installing the packages of %s (%s)", requirements.whose, requirements.file)
    secrets = terms.secrets(requirements)
    try:
        with store.workspace() as work:
            environ = terms.environment(requirements)
            outcome = pip.install(requirements.file, work, environ, terms.seconds, terms.building)
            if outcome.status == 0:
                made = store.accept(work / pip.TARGET, requirements)
    except StoreError as error:
        return _of_store(requirements, error)
    except OSError as error:
        return _of_store(requirements, store.not_writable(error))
    if outcome.status == 0:
        _say_installed(requirements, made, time.monotonic() - began)
        return None
    outcome = replace(outcome, output=without_traceback(outcome.output, secrets))
    for line in [*outcome.build.splitlines()[-_MOST_LINES:], *outcome.output.splitlines()]:
        _log.info("pip: %s", _cut(masked(line, secrets)))
    return _problem(requirements, _reason(outcome, requirements, terms), secrets)


def _wrong_url(requirements: Requirements, terms: _Terms) -> Problem | None:
    """Name the first URL that cannot be parsed: pip would crash, and quote a part of the password."""
    given = terms.environment(requirements)
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


def _say_installed(requirements: Requirements, made: Path, seconds: float) -> None:
    versions = dict(sorted(_versions(made)))
    counted = "1 package" if len(versions) == 1 else f"{len(versions)} packages"
    _log.log(NOTICE, "installed %s for %s in %.1f s", counted, requirements.whose, seconds)
    if requirements.unpinned:
        _log.warning("%s", _unpinned(requirements, versions))


def _versions(environment: Path) -> Iterator[tuple[str, str]]:
    for about in environment.glob("*.dist-info"):
        name, _, version = about.name.removesuffix(".dist-info").partition("-")
        yield normalized(name), version


def _unpinned(requirements: Requirements, versions: Mapping[str, str]) -> str:
    """Say which lines may be met by other versions at the next install, and what pins them."""
    lines = requirements.unpinned
    texts = [f"{masked(line.text.partition(';')[0].strip())} ({_place(line, requirements)})" for line in lines]
    pins = [f"{name}=={versions[name]}" for line in lines if (name := name_of(line.text)) and name in versions]
    ways = [f"{', '.join(pins[:_MOST_NAMED])}"] if pins else []
    if len(pins) < len(lines):
        ways.append("a commit, or the hash of a file (#sha256=...), for what a URL names")
    rest = f" and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return (
        f"{requirements.file}: the next install may bring other versions of {', '.join(texts[:_MOST_NAMED])}{rest}; "
        f"pin them: {', '.join(ways)}"
    )


def _place(line: Line, requirements: Requirements) -> str:
    return f"line {line.number}" if line.file == requirements.file else f"{line.file}:{line.number}"


def _built(requirements: Requirements) -> Problem:
    """Name the first line that asks for a build where there is to be none."""
    line = requirements.built[0]
    said = "asks for a build" if line.text.startswith("--no-binary") else "has to be built from source"
    message = f"{line.text} {said}, and KONG_PYTHON_INSTALL=wheels builds nothing"
    return _problem(requirements, Reason(message, BUILD_HINT, line.number, line.file))


def _reason(outcome: pip.Outcome, requirements: Requirements, terms: _Terms) -> Reason:
    if outcome.status is None:
        hint = "look at the network, or set KONG_PYTHON_INSTALL_SECONDS to more"
        return Reason(f"pip was not ready after {terms.seconds:g} s", hint)
    given = terms.environment(requirements)
    settings = {name: value for name, value in given.items() if name.startswith("PIP_") or name.upper() in _PROXIES}
    if names := [name for name, value in settings.items() if ends_too_early(value)]:
        return _wrong_variables(names)
    for line in requirements.urls:
        if ends_too_early(expanded(line.text, given), certain=True):
            message = "the user or the password in the URL here holds a character that ends it"
            return Reason(message, _ESCAPES, line.number, line.file)
    return explain(outcome, requirements.lines)


def _of_store(requirements: Requirements, error: StoreError) -> Problem:
    return _problem(requirements, Reason(str(error), error.hint))


def _problem(requirements: Requirements, reason: Reason, secrets: Collection[str] = ()) -> Problem:
    message = f"the packages of {requirements.whose} cannot be installed: {masked(reason.message, secrets)}"
    file = reason.file or requirements.file
    return Problem(file, reason.line, message, masked(reason.hint, secrets), requirements.plugin)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} ..."


def main(argv: Sequence[str]) -> int:
    """Install what is not installed yet.

    :return: 0, or 78 where something cannot be installed.
    """
    options = _parser().parse_args(list(argv))
    configure("kong-python")
    for number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        folder = Path(options.folder).absolute() if options.folder else PLUGINS_DIR.read(os.environ)
        if not folder.is_dir():
            _log.error("%s: there is no such folder; name the one that the plugins are in", folder)
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
        _log.log(NOTICE, "%s: %s", folder, "all is installed" if packages.wanted else "nothing to install")
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kong-python install",
        description="Install what requirements.txt in the folder, and in the folders of its plugins, asks for.",
    )
    parser.add_argument(
        "folder", nargs="?", help="the folder of the plugins (default: KONG_PYTHON_PLUGINS_DIR, /opt/kong/plugins)"
    )
    return parser
