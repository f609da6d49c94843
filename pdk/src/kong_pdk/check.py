"""``kong-python check``: a declarative file, held against Kong's rules and the plugins' schemas.

Kong's own ``kong config parse`` fails as soon as an external plugin is enabled.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path

from kong_pdk import settings
from kong_pdk.gateway.declarative import DeclarativeError, load_declarative
from kong_pdk.gateway.key_auth import KEY_AUTH
from kong_pdk.image import configuration, run_directory
from kong_pdk.image.configuration import Configuration
from kong_pdk.image.errors import StartError
from kong_pdk.plugin import Field, bundled


def main(argv: Sequence[str]) -> int:
    """Print what is wrong, one line each with its place, or that nothing is.

    :return: 0, or 1 where something is wrong.
    """
    options = _parser().parse_args(list(argv))
    environ = {**os.environ, **({"KONG_PYTHON_PLUGINS_DIR": options.plugins} if options.plugins else {})}
    wrong = settings.check(environ)
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        return 1
    try:
        found = configuration.read(environ, (), run_directory.locate(environ))
        for warning in found.notes:  # first: a fault of the file may follow from it
            print(warning, file=sys.stderr)
        for problem in found.problems:  # first: the file may have no fault but that it uses such a plugin
            print(problem, file=sys.stderr)
        config = load_declarative(Path(options.file), _schemas(found))
    except (StartError, DeclarativeError) as error:
        print(error, file=sys.stderr)
        return 1
    for text in config.notices:
        print(text, file=sys.stderr)
    if found.problems:
        return 1
    counted = (("service", config.services), ("route", config.routes), ("plugin", config.plugins))
    print(f"{options.file} is valid: {', '.join(_count(name, entities) for name, entities in counted)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kong-python check",
        description="Check a declarative kong.yml against Kong's rules and the schemas of the plugins in the folder.",
    )
    parser.add_argument("file", help="the declarative configuration, YAML or JSON")
    parser.add_argument(
        "--plugins",
        metavar="DIR",
        help="the folder of the plugins (default: KONG_PYTHON_PLUGINS_DIR, /opt/kong/plugins)",
    )
    return parser


def _schemas(found: Configuration) -> Mapping[str, Iterable[Field] | None]:
    """Give the fields of every plugin that may be enabled; None for those of Kong and of other plugin servers."""
    elsewhere = found.changes.variables.get("KONG_PLUGINS", "").split(",")
    schemas: dict[str, Iterable[Field] | None] = dict.fromkeys([*bundled(), *filter(None, elsewhere)])
    schemas[KEY_AUTH.name] = KEY_AUTH.fields
    schemas.update({plugin.name: plugin.schema for plugin in found.plugins})
    return schemas


def _count(name: str, entities: Sized) -> str:
    return f"{len(entities)} {name}{'s' * (len(entities) != 1)}"
