"""``kong-python install``: the packages that the plugins of a folder need, for an image of one's own or by hand."""

from __future__ import annotations

import argparse
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from kong_pdk.logs import NOTICE, configure
from kong_pdk.packages.installation import install
from kong_pdk.packages.packages import locate
from kong_pdk.settings import PLUGINS_DIR, SettingError

_log = logging.getLogger(__name__)


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
