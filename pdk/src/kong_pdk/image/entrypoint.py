"""Process 1 of the container: configures Kong for the plugins, then runs the plugin servers and Kong."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kong_pdk import settings
from kong_pdk.exit_status import CONFIGURATION_STATUS, SOFTWARE_STATUS, StartError
from kong_pdk.image import configuration, run_directory, starting_kong, supervision
from kong_pdk.image.configuration import Configuration
from kong_pdk.image.log_relay import Relay
from kong_pdk.logs import NOTICE, configure
from kong_pdk.settings import LOG_FORMAT, SettingError

DEFAULT_COMMAND = ("kong", "docker-start")

_REPORTS = ("env", "plugins")
"""Commands of ``kong-python`` that report problems of the settings and the plugins themselves."""

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the container's command: Kong with the plugin servers, or anything else with the same environment.

    :return: the exit status; 78 if a user's mistake prevents the start. Any other command replaces this process.
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
        # Python's own traceback would not have the form of the log.
        _log.exception("this is a mistake in kong-python itself; please report it with these lines")
        return SOFTWARE_STATUS


def _log_format() -> str:
    try:
        return LOG_FORMAT.read(os.environ)
    except SettingError:
        # settings.check() reports it with all other problems.
        return LOG_FORMAT.default


def starts_kong(command: Sequence[str]) -> bool:
    """Whether a command runs Kong in the foreground."""
    return len(command) > 1 and command[0] == "kong" and command[1] in ("docker-start", "start")


def start(command: Sequence[str]) -> int:
    """Run the plugin servers and Kong until it ends.

    :return: Kong's exit status; 78 if a setting is invalid, or if a plugin is broken and may not be skipped.
    :raises StartError: the start fails.
    """
    setting_errors = settings.check(os.environ)
    for message in setting_errors:
        _log.error("%s", message)
    if setting_errors:
        return CONFIGURATION_STATUS
    setup = configuration.read(os.environ, command, run_directory.prepare(os.environ), _PluginOutput(), installing=True)
    if setup.problems and not _may_start(setup):
        return CONFIGURATION_STATUS
    for note in setup.notes:
        _log.warning("%s", note)
    setup.run.remove_leftovers()
    configuration.write(setup, os.environ)
    configuration.write_programs(setup, command)
    _apply(setup)
    for message in _summary(setup):
        _log.log(NOTICE, "%s", message)
    return supervision.run(setup.run, setup.options.drain, os.environ)


def prepare_for(command: Sequence[str]) -> None:
    """Give another command, such as ``kong migrations up`` or ``bash``, the environment that Kong would have.

    Problems are warnings here, since the command may be there to examine them. Commands that report the problems
    themselves get no warnings.
    """
    setting_errors = settings.check(os.environ)
    reports = Path(command[0]).name == "kong-python" and any(name in _REPORTS for name in command[1:2])
    for message in () if reports else setting_errors:
        _log.warning("%s", message)
    reading = False
    try:
        run = run_directory.prepare(os.environ)
        # Kong's commands need the plugins' schemas, so packages are installed for them. A shell does not wait for that.
        reading = True
        setup = configuration.read(os.environ, command, run, _PluginOutput(), installing=command[0] == "kong")
        reading = False
        for text in () if reports else (*setup.problems, *setup.notes):
            _log.warning("%s", text)
        configuration.write(setup, os.environ)
        _apply(setup)
    except (StartError, SettingError) as error:
        if str(error) not in setting_errors and not (reports and reading):
            _log.warning("%s", error)


class _PluginOutput:
    """Writes the output of plugins during their inspection into the log."""

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


def _may_start(setup: Configuration) -> bool:
    for problem in setup.problems:
        _log.error("%s", problem)
    if setup.options.skip_broken:
        _log.error("starting without the broken plugins (KONG_PYTHON_ON_BROKEN_PLUGIN=skip)")
        return True
    _log.error("Kong is not started; fix what is named above, or set KONG_PYTHON_ON_BROKEN_PLUGIN=skip")
    return False


def _apply(setup: Configuration) -> None:
    for name in setup.changes.removed:
        os.environ.pop(name, None)
    os.environ.update(setup.changes.variables)


def _summary(setup: Configuration) -> list[str]:
    names = ", ".join(setup.changes.servers or setup.changes.schema_only)
    messages = [f"plugins from {setup.options.folder}: {names or 'none'}"]
    if served_by_user := setup.served_by_user:
        messages.append(
            f"no plugin server is started for {', '.join(served_by_user)}: KONG_PLUGINSERVER_..._START_CMD or _SOCKET "
            "says that you run it"
        )
    if setup.changes.schema_only:
        messages.append("this is a control plane: Kong knows the plugins' schemas, and no plugin server is started")
    return messages
