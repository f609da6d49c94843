"""``kong-python check``: checks a declarative file against Kong's rules and the plugins' schemas.

Kong's own ``kong config parse`` fails when an external plugin is enabled.
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
from kong_pdk.schema import Field

_BEFORE_ROUTING = ("certificate", "rewrite")
_HINT = "apply the plugin globally, or use access"


def main(argv: Sequence[str]) -> int:
    """Print each mistake on a line with its place, or that the file is valid.

    :return: 0, or 1 if there is a mistake.
    """
    options = _parser().parse_args(list(argv))
    environ = {**os.environ, **({"KONG_PYTHON_PLUGINS_DIR": options.plugins} if options.plugins else {})}
    messages = settings.check(environ)
    if messages:
        print(*messages, sep="\n", file=sys.stderr)
        return 1
    try:
        setup = configuration.read(environ, (), run_directory.locate(environ))
        for warning in setup.notes:  # first: it may be the cause of an error in the file
            print(warning, file=sys.stderr)
        for problem in setup.problems:  # first: the file may only use this plugin
            print(problem, file=sys.stderr)
        config = load_declarative(Path(options.file), schemas(setup), broken(setup))
    except (StartError, DeclarativeError) as error:
        print(error, file=sys.stderr)
        return 1
    for text in (*config.notices, *unreached_handlers(config, setup.plugins)):
        print(text, file=sys.stderr)
    if setup.problems:
        return 1
    counts = (("service", config.services), ("route", config.routes), ("plugin", config.plugins))
    audience = " for decK and Kong Enterprise, and not for the open-source Kong (see above)" if config.refused else ""
    print(f"{options.file} is valid{audience}: {', '.join(_count(name, entities) for name, entities in counts)}")
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


def schemas(setup: Configuration) -> Mapping[str, Iterable[Field] | None]:
    """Give the fields of every plugin that may be enabled; None for plugins of Kong and of other plugin servers."""
    elsewhere = setup.changes.variables.get("KONG_PLUGINS", "").split(",")
    schemas: dict[str, Iterable[Field] | None] = dict.fromkeys([*bundled(), *filter(None, elsewhere)])
    schemas[KEY_AUTH.name] = KEY_AUTH.fields
    schemas.update({plugin.name: plugin.schema for plugin in setup.plugins})
    return schemas


def broken(setup: Configuration) -> frozenset[str]:
    """Give the names of the plugins of the folder that do not load."""
    return frozenset(problem.plugin for problem in setup.problems if problem.plugin)


def unreached_handlers(config: Config, plugins: Iterable[Description]) -> Iterator[Problem]:
    """Name the handlers that Kong never calls: ``rewrite`` and ``certificate`` of plugins that are not global.

    Both phases run before Kong knows the route, the service and the consumer of a request.
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
