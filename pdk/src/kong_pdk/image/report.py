"""What the image makes of a folder of plugins, for people: ``kong-python env`` and ``kong-python plugins``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence

from kong_pdk import plain_table, settings
from kong_pdk.exit_status import CONFIGURATION_STATUS, StartError
from kong_pdk.image import configuration, run_directory
from kong_pdk.image.configuration import Configuration
from kong_pdk.image.ping import Server, ping_all
from kong_pdk.plugin import Description, Problem

_PING_SECONDS = 1.0


def environment_main(argv: Sequence[str]) -> int:
    """Print the variables that the image generates, as ``KEY=value`` lines for a shell or as JSON.

    :return: 0, or 78 where a plugin is broken or a setting wrong; what is wrong goes to standard error.
    """
    parser = argparse.ArgumentParser(
        prog="kong-python env", description="Print the environment variables that make Kong know the plugins."
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    arguments = parser.parse_args(list(argv))
    found = _read()
    if isinstance(found, StartError):
        return _fail(found)
    if arguments.json:
        print(json.dumps(dict(found.changes.variables), indent=2))
    else:
        for name, value in found.changes.variables.items():
            print(f"{name}={shlex.quote(value)}")
    return _complain(found)


def plugins_main(argv: Sequence[str]) -> int:
    """Print a table of the plugins that were found.

    :return: 0, or 78 where a plugin is broken or a setting wrong; what is wrong goes to standard error.
    """
    parser = argparse.ArgumentParser(prog="kong-python plugins", description="Show the plugins that were found.")
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    arguments = parser.parse_args(list(argv))
    found = _read()
    if isinstance(found, StartError):
        return _fail(found)
    rows = _rows(found)
    print(json.dumps(rows, indent=2) if arguments.json else _table(rows))
    return _complain(found)


def _read() -> Configuration | StartError:
    try:
        return configuration.read(os.environ, (), run_directory.locate(os.environ))
    except StartError as error:
        return error


def _rows(found: Configuration) -> list[dict[str, object]]:
    servers = [Server(name, found.run.socket(name)) for name in found.changes.servers]
    silent = ping_all(servers, _PING_SECONDS)
    rows = [_row(plugin, found, silent) for plugin in found.plugins]
    return rows + [_broken_row(problem) for problem in found.problems]


def _row(plugin: Description, found: Configuration, silent: dict[str, str]) -> dict[str, object]:
    if plugin.name in found.changes.servers:
        state = "ok" if plugin.name in silent else "running"
    elif plugin.name in found.changes.schema_only:
        state = "schema only"
    else:
        state = "served by you" if plugin.name in found.served_by_user else "switched off"
    return {
        "name": plugin.name,
        "version": plugin.version,
        "priority": plugin.priority,
        "phases": list(plugin.phases),
        "mode": str(found.mode(plugin.name)),
        "file": str(plugin.file),
        "state": state,
    }


def _broken_row(problem: Problem) -> dict[str, object]:
    where = str(problem.file) if problem.line is None else f"{problem.file}:{problem.line}"
    sentence = problem.message if problem.hint is None else f"{problem.message}; {problem.hint}"
    return {
        "name": problem.plugin or "",
        "version": "",
        "priority": "",
        "phases": [],
        "mode": "",
        "file": where,
        "state": f"broken: {sentence}",
    }


def _table(rows: list[dict[str, object]]) -> str:
    if not rows:
        return "no plugins"
    cells = ([" ".join(value) if isinstance(value, list) else value for value in row.values()] for row in rows)
    return plain_table.render(list(rows[0]), cells)


def _complain(found: Configuration) -> int:
    for note in found.notes:
        print(f"kong-python: {note}", file=sys.stderr)
    for problem in found.problems:
        print(problem, file=sys.stderr)
    wrong = _complain_of_settings()
    return CONFIGURATION_STATUS if found.problems or wrong else 0


def _complain_of_settings() -> list[str]:
    wrong = settings.check(os.environ)
    for sentence in wrong:
        print(f"kong-python: {sentence}", file=sys.stderr)
    return wrong


def _fail(error: StartError) -> int:
    if str(error) not in _complain_of_settings():
        print(f"kong-python: {error}", file=sys.stderr)
    return error.status
