"""``kong migrations``: without a database every migration has been run, as Kong says too."""

from __future__ import annotations

import os
from argparse import Namespace

from kong_pdk.gateway.command import configuration
from kong_pdk.gateway.command.console import Console
from kong_pdk.gateway.command.errors import CommandError

_ANSWERS = {
    "bootstrap": "Database already bootstrapped",
    "up": "Database is already up-to-date",
    "finish": "No pending migrations to finish",
    "list": "Executed migrations:",
}
_NEED_A_DATABASE = ("reset", "status")
COMMANDS = (*_ANSWERS, *_NEED_A_DATABASE)


def migrations(arguments: Namespace, console: Console) -> int:
    configuration.check(configuration.load(os.environ, arguments.conf, arguments.prefix))
    if arguments.command in _NEED_A_DATABASE:
        raise CommandError(f"'kong migrations {arguments.command}' needs a database, and the embedded gateway has none")
    if not arguments.quiet:
        console.say(_ANSWERS[arguments.command])
    return 0
