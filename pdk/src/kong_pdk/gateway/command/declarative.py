"""``kong config``: an example configuration, and the check of one."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from kong_pdk.gateway.command import configuration
from kong_pdk.gateway.command.console import Console
from kong_pdk.gateway.command.errors import CommandError
from kong_pdk.gateway.declarative import DeclarativeError, load_settings
from kong_pdk.gateway.gateway_settings import BUNDLED, Settings
from kong_pdk.gateway.key_auth import KEY_AUTH

_EXAMPLE_FILE = Path("kong.yml")
_EXAMPLE = """\
# One service behind one route; check it with `kong config parse kong.yml`.
_format_version: "3.0"
services:
- name: example
  url: http://127.0.0.1:9000
  routes:
  - name: everything
    paths:
    - /
"""


def config(arguments: Namespace, console: Console) -> int:
    if arguments.command == "init":
        return _init()
    settings = configuration.check(configuration.load(os.environ, arguments.conf, arguments.prefix))
    if arguments.command == "db_import":
        raise CommandError(
            "'kong config db_import' only works with a database.\n"
            "When using database=off, reload your declarative configuration\n"
            "using the /config endpoint."
        )
    if arguments.file is None:
        raise CommandError("expected a declarative configuration file; see `kong config --help`")
    _parse(settings, arguments.file)
    console.say("parse successful")
    return 0


def _init() -> int:
    try:
        with _EXAMPLE_FILE.open("x", encoding="utf-8") as file:
            file.write(_EXAMPLE)
    except FileExistsError:
        raise CommandError(
            f"{_EXAMPLE_FILE} already exists in the current directory.\nWill not overwrite it."
        ) from None
    except OSError as error:
        raise CommandError(f"{_EXAMPLE_FILE}: {error.strerror}") from None
    return 0


def _parse(settings: Settings, file: Path) -> None:
    external = [name for name in settings.plugins if name not in BUNDLED]
    if external:
        # Kong 3.9.3 fails here in a Lua error of its own; who relies on the command must notice.
        raise CommandError(
            f"plugin '{external[0]}' is external, and Kong 3.9.3 cannot parse a configuration with an external "
            "plugin enabled; use kong-python check"
        )
    if not file.is_file():
        raise CommandError(f"Failed parsing:\n{file}: No such file or directory")
    try:
        load_settings(
            replace(settings, declarative_config=file, declarative_config_string=None),
            {
                **dict.fromkeys(settings.skipped_plugins),
                **({KEY_AUTH.name: KEY_AUTH.fields} if KEY_AUTH.name in settings.plugins else {}),
            },
        )
    except (DeclarativeError, OSError) as error:
        raise CommandError(f"Failed parsing:\n{error}") from None
