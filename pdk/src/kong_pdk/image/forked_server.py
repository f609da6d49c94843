"""Plugin servers as forks of process 1, which has imported what they need: they share its memory, and start at once.

supervisord starts, stops and restarts each of them as if it were a program of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import itertools
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import _kong_plugins  # noqa: F401  # shared, too
import setproctitle

from kong_pdk.exit_status import SOFTWARE_STATUS
from kong_pdk.image.supervisord_conf import SERVER_PROGRAM
from kong_pdk.mode import GEVENT, LOOP
from kong_pdk.packages import activation
from kong_pdk.packages.pip import IMPORTED
from kong_pdk.server.command_line import folder_main, parse
from kong_pdk.server.workers.master import load_shared

_SHARED = (IMPORTED - {GEVENT}) | {"setproctitle", "supervisor"}


def prepare(commands: Iterable[Sequence[str]]) -> None:
    """Import what the servers need. To be called before the first of them is forked.

    :param commands: the commands of all programs.
    """
    load_shared(LOOP)
    for argv in filter(can_be_forked, commands):
        parse(tuple(argv[1:]))
    setproctitle.getproctitle()  # finds the place of the title before the environment changes
    gc.collect()
    gc.freeze()  # else a collection in a server would write to, and so copy, memory that it shares


def can_be_forked(argv: Sequence[str]) -> bool:
    """Whether a command is that of a plugin server which can run in a fork of this process.

    gevent has to replace parts of Python before other modules use them, and a plugin may have other versions of the
    packages that this process has imported.
    """
    if Path(argv[0]).name != SERVER_PROGRAM or GEVENT in argv:
        return False
    directories = [Path(path) for option, path in itertools.pairwise(argv) if option == "--packages"]
    installed = (entry.name for directory in directories for entry in directory.glob("*.dist-info"))
    return not any(name.partition("-")[0].lower() in _SHARED for name in installed)


def _reopen_standard_files() -> None:
    """Make new objects: those of the parent know whether their files were terminals, and where they were in them."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        old = getattr(sys, name)
        new = open(number, mode, 1, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def become(argv: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Run a plugin server in this process, a fork, to its end, and end the process as an interpreter ends.

    The caller has put the server's standard files in place, and closed all others.

    :param argv: the command.
    :param environ: the server's environment.
    """
    status = SOFTWARE_STATUS
    try:
        # The objects behind the closed files stay: their end would close files of the server.
        gc.freeze()
        os.environ.clear()
        os.environ.update(environ)
        sys.argv = list(argv)
        _reopen_standard_files()
        tempfile.tempdir = None
        activation.forget()
        setproctitle.setproctitle(" ".join(argv))
        status = folder_main(argv[1:])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  # an interpreter ends by it, too
        traceback.print_exc()
    finally:
        for ending in (threading._shutdown, atexit._run_exitfuncs, _flush_files):  # type: ignore[attr-defined]
            with contextlib.suppress(BaseException):
                ending()
        os._exit(status)


def _flush_files() -> None:
    """Write what the plugin's open files hold, as the end of an interpreter does."""
    for each in gc.get_objects():
        if isinstance(each, io.IOBase):
            with contextlib.suppress(OSError, ValueError):  # it is closed, or its disk is full
                each.flush()
