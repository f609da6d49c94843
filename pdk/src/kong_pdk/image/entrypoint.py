"""Process 1 of the container: makes the plugins known to Kong, and runs their servers and Kong."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kong_pdk import settings
from kong_pdk.exit_status import CONFIGURATION_STATUS, StartError
from kong_pdk.image import configuration, run_directory, starting_kong, supervision
from kong_pdk.image.configuration import Configuration
from kong_pdk.image.log_relay import Relay
from kong_pdk.logs import NOTICE, configure
from kong_pdk.settings import LOG_FORMAT, SettingError

DEFAULT_COMMAND = ("kong", "docker-start")

_REPORTS = ("env", "plugins")
"""Commands of ``kong-python`` that say themselves what is wrong with the settings and the plugins."""

_MISTAKE_OF_OURS_STATUS = 70

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the container's command: Kong with the plugin servers, or anything else with the same environment.

    :return: the exit status; 78 where a user's mistake prevents the start. Another command replaces this process.
    """
    configure("kong-python", form=_log_format())
    command = list(argv) or list(DEFAULT_COMMAND)
    try:
        if starts_kong(command):
            return start(command)
        prepare_for(command)
        starting_kong.become(command)
    except (StartError, SettingError) as error:
        _log.error("%s", error)
        return getattr(error, "status", CONFIGURATION_STATUS)
    except Exception:  # noqa: BLE001
        # Not left to Python: its traceback would be lines without a form.
        _log.exception("this is a mistake in kong-python itself; please report it with these lines")
        return _MISTAKE_OF_OURS_STATUS


def _log_format() -> str:
    try:
        return LOG_FORMAT.read(os.environ)
    except SettingError:
        # It is said with all else that is wrong.
        return LOG_FORMAT.default


def starts_kong(command: Sequence[str]) -> bool:
    """Whether a command is one that runs Kong in the foreground."""
    return len(command) > 1 and command[0] == "kong" and command[1] in ("docker-start", "start")


def start(command: Sequence[str]) -> int:
    """Run the plugin servers and Kong until it ends.

    :return: Kong's exit status, or 78 where a setting is wrong, or plugins are broken and may not be skipped.
    :raises StartError: the start cannot go on.
    """
    wrong = settings.check(os.environ)
    for sentence in wrong:
        _log.error("%s", sentence)
    if wrong:
        return CONFIGURATION_STATUS
    found = configuration.read(os.environ, command, run_directory.prepare(os.environ), _Printed(), installing=True)
    if found.problems and not _may_go_on(found):
        return CONFIGURATION_STATUS
    for note in found.notes:
        _log.warning("%s", note)
    found.run.remove_leftovers()
    configuration.write(found, os.environ)
    configuration.write_programs(found, command)
    _apply(found)
    for sentence in _summary(found):
        _log.log(NOTICE, "%s", sentence)
    return supervision.run(found.run, found.options.drain, os.environ)


def prepare_for(command: Sequence[str]) -> None:
    """Give another command, ``kong migrations up`` or ``bash``, the environment that Kong would have.

    Whatever is wrong is only said: the command may be there to look into it. A command that says it itself is left to
    do so.
    """
    wrong = settings.check(os.environ)
    reports = Path(command[0]).name == "kong-python" and any(name in _REPORTS for name in command[1:2])
    for sentence in () if reports else wrong:
        _log.warning("%s", sentence)
    reading = False
    try:
        run = run_directory.prepare(os.environ)
        # Kong's commands need the plugins' schemas; a shell does not wait for packages.
        reading = True
        found = configuration.read(os.environ, command, run, _Printed(), installing=command[0] == "kong")
        reading = False
        for text in () if reports else (*found.problems, *found.notes):
            _log.warning("%s", text)
        configuration.write(found, os.environ)
        _apply(found)
    except (StartError, SettingError) as error:
        if str(error) not in wrong and not (reports and reading):
            _log.warning("%s", error)


class _Printed:
    """Gives what plugins print while they are looked at the form of all lines of the log."""

    def __init__(self) -> None:
        self._relay = Relay(self, self, form=_log_format())

    def __call__(self, plugin: str, data: bytes) -> None:
        if data:
            self._relay.feed(plugin, "stderr", data)
        else:
            self._relay.end(plugin)

    def write(self, line: bytes) -> None:
        sys.stderr.flush()
        with contextlib.suppress(OSError):
            os.write(2, line)


def _may_go_on(found: Configuration) -> bool:
    for problem in found.problems:
        _log.error("%s", problem)
    if found.options.skip_broken:
        _log.error("starting without what is broken (KONG_PYTHON_ON_BROKEN_PLUGIN=skip)")
        return True
    _log.error("Kong is not started; fix what is named above, or set KONG_PYTHON_ON_BROKEN_PLUGIN=skip")
    return False


def _apply(found: Configuration) -> None:
    for name in found.changes.removed:
        os.environ.pop(name, None)
    os.environ.update(found.changes.variables)


def _summary(found: Configuration) -> list[str]:
    names = ", ".join(found.changes.servers or found.changes.schema_only)
    sentences = [f"plugins from {found.options.folder}: {names or 'none'}"]
    if theirs := found.served_by_user:
        sentences.append(
            f"no plugin server is started for {', '.join(theirs)}: KONG_PLUGINSERVER_..._START_CMD or _SOCKET says "
            "that you run it"
        )
    if found.changes.schema_only:
        sentences.append("this is a control plane: Kong knows the plugins' schemas, and no plugin server is started")
    return sentences
