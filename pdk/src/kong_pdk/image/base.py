"""The base image below ours: its entrypoint, which we hand every command to."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from kong_pdk.image.errors import StartError
from kong_pdk.settings import BASE_ENTRYPOINT

_NOT_FOUND_STATUS = 127


def become(command: list[str]) -> NoReturn:
    """Replace this process with the base image's entrypoint and a command for it.

    :raises StartError: the base image has no entrypoint.
    :raises SettingError: the variable that names it has no meaning.
    """
    entrypoint = str(BASE_ENTRYPOINT.read(os.environ))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
    # Python ignores SIGPIPE, and a program that is started inherits that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(entrypoint, [entrypoint, *command], environ)
    except OSError as error:
        raise StartError(
            f"{entrypoint}: {error.strerror}; the base image has to be a Kong image", _NOT_FOUND_STATUS
        ) from error
