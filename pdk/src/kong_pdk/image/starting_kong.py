"""The supervised program that waits until every plugin server answers, and then becomes Kong.

:func:`become` starts the entrypoint of the base image with any command.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from kong_pdk.exit_status import CONFIGURATION_STATUS, UNAVAILABLE_STATUS, StartError
from kong_pdk.image.ping import read_servers, wait_for_all
from kong_pdk.image.run_directory import locate
from kong_pdk.logs import NOTICE, configure
from kong_pdk.settings import BASE_ENTRYPOINT, LOG_FORMAT, START_SECONDS, SettingError

_log = logging.getLogger(__name__)
_NOT_FOUND_STATUS = 127


def become(command: list[str]) -> NoReturn:
    """Replace this process with the base image's entrypoint and a command for it.

    :raises StartError: the base image has no entrypoint.
    :raises SettingError: the variable with its path is invalid.
    """
    entrypoint = str(BASE_ENTRYPOINT.read(os.environ))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
    # Python ignores SIGPIPE, and the new program would inherit this.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(entrypoint, [entrypoint, *command], environ)
    except OSError as error:
        raise StartError(
            f"{entrypoint}: {error.strerror}; the base image has to be a Kong image", _NOT_FOUND_STATUS
        ) from error


def main(command: list[str]) -> int:
    """Wait until every server answers, then become the base image's entrypoint with ``command``.

    :return: the exit status, if Kong cannot be started.
    """
    # Process 1 has checked the log format.
    configure("kong", form=LOG_FORMAT.read(os.environ))
    for number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    # The user may ask for a reload at any time; before nginx runs, there is nothing to reload.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        servers = read_servers(locate(os.environ))
        wait = START_SECONDS.read(os.environ)
        silent = wait_for_all(servers, wait)
        if silent:
            problems = "; ".join(f"{name} {problem}" for name, problem in silent.items())
            raise StartError(
                f"Kong is not started: after {wait} s not every plugin server answers: {problems}",
                UNAVAILABLE_STATUS,
            )
        _log.log(NOTICE, "every plugin server answers (%d), starting Kong", len(servers))
        become(command)
    except (StartError, SettingError) as error:
        _log.error("%s", error)
        return getattr(error, "status", CONFIGURATION_STATUS)


def _stop(number: int, frame: FrameType | None) -> None:
    # Threads may be waiting for servers, and sys.exit() would wait for them.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
