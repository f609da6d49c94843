"""``kong-python check``: a declarative file, held against Kong's rules and the plugins' schemas.

Kong's own ``kong config parse`` fails as soon as an external plugin is enabled.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path

from kong_pdk import settings
from kong_pdk.exit_status import StartError
from kong_pdk.gateway.declarative import DeclarativeError, load_declarative
from kong_pdk.gateway.entities import Config, PluginConfig
from kong_pdk.gateway.key_auth import KEY_AUTH
from kong_pdk.image import configuration, run_directory
from kong_pdk.image.configuration import Configuration
from kong_pdk.plugin import Description, Problem, bundled
from kong_pdk.schema.attributes import Field

_BEFORE_ROUTING = ("certificate", "rewrite")
_HINT = "apply the plugin globally, or use access"


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
        config = load_declarative(Path(options.file), schemas(found), broken(found))
    except (StartError, DeclarativeError) as error:
        print(error, file=sys.stderr)
        return 1
    for text in (*config.notices, *unreached_handlers(config, found.plugins)):
        print(text, file=sys.stderr)
    if found.problems:
        return 1
    counted = (("service", config.services), ("route", config.routes), ("plugin", config.plugins))
    whom = " for decK and Kong Enterprise, and not for the open-source Kong (see above)" if config.refused else ""
    print(f"{options.file} is valid{whom}: {', '.join(_count(name, entities) for name, entities in counted)}")
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


def schemas(found: Configuration) -> Mapping[str, Iterable[Field] | None]:
    """Give the fields of every plugin that may be enabled; None for those of Kong and of other plugin servers."""
    elsewhere = found.changes.variables.get("KONG_PLUGINS", "").split(",")
    schemas: dict[str, Iterable[Field] | None] = dict.fromkeys([*bundled(), *filter(None, elsewhere)])
    schemas[KEY_AUTH.name] = KEY_AUTH.fields
    schemas.update({plugin.name: plugin.schema for plugin in found.plugins})
    return schemas


def broken(found: Configuration) -> frozenset[str]:
    """Name the plugins of the folder that do not load."""
    return frozenset(problem.plugin for problem in found.problems if problem.plugin)


def unreached_handlers(config: Config, plugins: Iterable[Description]) -> Iterator[Problem]:
    """Say which handlers Kong never calls: ``rewrite`` and ``certificate`` of plugins that are not global.

    Both run before Kong knows the route, the service and the consumer of a request.
    """
    by_name = {plugin.name: plugin for plugin in plugins}
    for plugin in config.plugins:
        if plugin.is_global or not plugin.enabled or plugin.name not in by_name:
            continue
        handlers = [phase for phase in _BEFORE_ROUTING if phase in by_name[plugin.name].phases]
        if handlers and config.file is not None:
            runs = f"{' and '.join(handlers)}, which {'run' if handlers[1:] else 'runs'} for global plugins only"
            message = f"plugin {plugin.name} on {_scope(config, plugin)}: Kong never calls its {runs}"
            yield Problem(config.file, plugin.line, message, _HINT, plugin.name)


def _scope(config: Config, plugin: PluginConfig) -> str:
    """Name what a plugin is applied to: ``route r and consumer ada``."""
    named = {
        "route": config.routes[plugin.route_id].name if plugin.route_id else None,
        "service": config.services[plugin.service_id].name if plugin.service_id else None,
        "consumer": config.consumers[plugin.consumer_id].username if plugin.consumer_id else None,
    }
    ids = {"route": plugin.route_id, "service": plugin.service_id, "consumer": plugin.consumer_id}
    scopes = [f"{kind} {named[kind] or id}" for kind, id in ids.items() if id]
    return " and ".join(scopes) or f"consumer group {plugin.consumer_group}"


def _count(name: str, entities: Sized) -> str:
    return f"{len(entities)} {name}{'s' * (len(entities) != 1)}"
