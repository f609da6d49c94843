"""Installs what the requirements of a folder ask for, and is not there yet."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kong_pdk.logs import NOTICE
from kong_pdk.packages import pip
from kong_pdk.packages.packages import Packages
from kong_pdk.packages.reasons import Reason, explain
from kong_pdk.packages.requirements import Requirements
from kong_pdk.packages.store import StoreError
from kong_pdk.plugin import Problem
from kong_pdk.settings import INSTALL_SECONDS

_MOST_LINES = 200  # of what a build writes: its end says why it failed
_LONGEST_LINE = 400  # characters: pip lists every version that a package ever had

_log = logging.getLogger(__name__)


def install(packages: Packages, environ: Mapping[str, str]) -> Packages:
    """Install what is missing, each set of requirements by a run of pip; without one where nothing is missing.

    What pip says goes to the log where it fails. A signal that raises in this process ends pip, too.

    :return: the packages as they are then, with a problem for each set that could not be installed.
    :raises SettingError: ``KONG_PYTHON_INSTALL_SECONDS`` has no meaning.
    """
    seconds = INSTALL_SECONDS.read(environ)
    store, failed = packages.store, dict(packages.failed)
    missing = packages.missing
    if not missing:
        return packages
    try:
        if refusal := store.refusal():
            raise refusal
        with store.locked(seconds, lambda: _log.log(NOTICE, "another start installs into %s; waiting", store.path)):
            for requirements in packages.missing:
                if problem := _install(packages, requirements, environ, seconds):
                    failed[requirements.plugin] = problem
            store.remove_unused([store.environment(each) for each in packages.wanted.values()])
    except StoreError as error:
        # What could not even be tried is as wrong for one as for another.
        for requirements in packages.missing:
            reason = Reason(None, str(error), error.cure)
            failed.setdefault(requirements.plugin, _problem(requirements, reason))
    return replace(packages, failed=failed)


def _install(
    packages: Packages, requirements: Requirements, environ: Mapping[str, str], seconds: float
) -> Problem | None:
    """Install one set; the directory gets its name when it is whole."""
    began = time.monotonic()
    _log.log(NOTICE, "installing the packages of %s (%s)", requirements.whose, requirements.file)
    store = packages.store
    with store.workspace() as work:
        made = work / "environment"
        try:
            outcome = pip.install(requirements.file, made, work, environ, seconds)
            if outcome.status == 0:
                store.give_away(made)
                made.rename(store.environment(requirements))
        except OSError as error:
            refusal = store.not_writable(error)
            return _problem(requirements, Reason(None, str(refusal), refusal.cure))
    if outcome.status == 0:
        count = len(list(store.environment(requirements).glob("*.dist-info")))
        took = time.monotonic() - began
        counted = "1 package" if count == 1 else f"{count} packages"
        _log.log(NOTICE, "installed %s for %s in %.1f s", counted, requirements.whose, took)
        return None
    for line in [*outcome.build.splitlines()[-_MOST_LINES:], *outcome.output.splitlines()]:
        _log.info("pip: %s", _shown(line))
    return _problem(requirements, _reason(outcome, requirements.file, seconds))


def _reason(outcome: pip.Outcome, file: Path, seconds: float) -> Reason:
    if outcome.status is None:
        cure = "look at the network, or set KONG_PYTHON_INSTALL_SECONDS to more"
        return Reason(None, f"pip was not ready after {seconds:g} s", cure)
    return explain(outcome, file)


def _problem(requirements: Requirements, reason: Reason) -> Problem:
    message = f"the packages of {requirements.whose} cannot be installed: {_without_passwords(reason.message)}"
    return Problem(requirements.file, reason.line, message, reason.cure, requirements.plugin)


def _shown(line: str) -> str:
    text = _without_passwords(line)
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} ..."


def _without_passwords(text: str) -> str:
    return re.sub(r"(\w+://)[^\s/@]+@", r"\1****@", text)
