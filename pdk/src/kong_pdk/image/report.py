"""``kong-python env`` and ``kong-python plugins``: show the plugins of the folder and the settings for Kong."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence

from kong_pdk import mode, plain_table, settings
from kong_pdk.exit_status import CONFIGURATION_STATUS, StartError
from kong_pdk.image import configuration, run_directory
from kong_pdk.image.configuration import Configuration
from kong_pdk.image.ping import Server, ping_all
from kong_pdk.masking import masked
from kong_pdk.plugin import Description, Problem

_PING_SECONDS = 1.0


def environment_main(argv: Sequence[str]) -> int:
    """Print the variables that the image generates, as ``KEY=value`` lines for a shell or as JSON.

    Passwords and tokens are masked: a query command of the user may have some.

    :return: 0, or 78 if a plugin is broken or a setting is invalid; the messages go to standard error.
    """
    parser = argparse.ArgumentParser(
        prog="kong-python env", description="Print the environment variables that make Kong know the plugins."
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    arguments = parser.parse_args(list(argv))
    setup = _read()
    if isinstance(setup, StartError):
        return _report_error(setup)
    variables = {name: masked(value) for name, value in setup.changes.variables.items()}
    if arguments.json:
        print(json.dumps(variables, indent=2))
    else:
        for name, value in variables.items():
            print(f"{name}={shlex.quote(value)}")
    return _report_problems(setup)


def plugins_main(argv: Sequence[str]) -> int:
    """Print a table of the plugins of the folder.

    :return: 0, or 78 if a plugin is broken or a setting is invalid; the messages go to standard error.
    """
    parser = argparse.ArgumentParser(prog="kong-python plugins", description="Show the plugins of the folder.")
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    arguments = parser.parse_args(list(argv))
    setup = _read()
    if isinstance(setup, StartError):
        return _report_error(setup)
    rows = _rows(setup)
    print(json.dumps(rows, indent=2) if arguments.json else _table(rows))
    return _report_problems(setup)


def _read() -> Configuration | StartError:
    try:
        return configuration.read(os.environ, (), run_directory.locate(os.environ))
    except StartError as error:
        return error


def _rows(setup: Configuration) -> list[dict[str, object]]:
    servers = [Server(name, setup.run.socket(name)) for name in setup.changes.servers]
    silent = ping_all(servers, _PING_SECONDS)
    rows = [_row(plugin, setup, silent) for plugin in setup.plugins]
    return rows + [_broken_row(problem) for problem in setup.problems]


def _row(plugin: Description, setup: Configuration, silent: dict[str, str]) -> dict[str, object]:
    if plugin.name in setup.changes.servers:
        state = "ok" if plugin.name in silent else "running"
    elif plugin.name in setup.changes.schema_only:
        state = "schema only"
    else:
        state = "served by you" if plugin.name in setup.served_by_user else "switched off"
    return {
        "name": plugin.name,
        "version": plugin.version,
        "priority": plugin.priority,
        "phases": list(plugin.phases),
        "mode": mode.text(plugin, setup.mode(plugin.name)),
        "file": str(plugin.file),
        "state": state,
    }


def _broken_row(problem: Problem) -> dict[str, object]:
    where = str(problem.file) if problem.line is None else f"{problem.file}:{problem.line}"
    message = problem.message if problem.hint is None else f"{problem.message}; {problem.hint}"
    return {
        "name": problem.plugin or "",
        "version": "",
        "priority": "",
        "phases": [],
        "mode": "",
        "file": where,
        "state": f"broken: {message}",
    }


def _table(rows: list[dict[str, object]]) -> str:
    if not rows:
        return "no plugins"
    cells = ([" ".join(value) if isinstance(value, list) else value for value in row.values()] for row in rows)
    return plain_table.render(list(rows[0]), cells)


def _report_problems(setup: Configuration) -> int:
    for note in setup.notes:
        print(f"kong-python: {note}", file=sys.stderr)
    for problem in setup.problems:
        print(problem, file=sys.stderr)
    errors = _report_settings()
    return CONFIGURATION_STATUS if setup.problems or errors else 0


def _report_settings() -> list[str]:
    errors = settings.check(os.environ)
    for message in errors:
        print(f"kong-python: {message}", file=sys.stderr)
    return errors


def _report_error(error: StartError) -> int:
    if str(error) not in _report_settings():
        print(f"kong-python: {error}", file=sys.stderr)
    return error.status
