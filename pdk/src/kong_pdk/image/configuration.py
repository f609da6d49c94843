"""From a folder of plugins to all that Kong, supervisord and the health check need to know."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kong_pdk import interface_file
from kong_pdk.exit_status import StartError
from kong_pdk.image import environment, kong_settings, supervisord_conf
from kong_pdk.image.kong_settings import Settings, read_conf
from kong_pdk.image.ping import write_servers
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.mode import Mode, choose, default
from kong_pdk.packages.installation import install
from kong_pdk.packages.plugin_packages import Packages, locate
from kong_pdk.plugin import Description, Problem, dump, inspect
from kong_pdk.settings import (
    DRAIN_SECONDS,
    INSTALL,
    INTERFACE_FILE,
    METRICS_LISTEN,
    ON_BROKEN_PLUGIN,
    PLUGINS_DIR,
    PROTOCOL,
    Address,
    SettingError,
)
from kong_pdk.wire.wire_errors import InterfaceError

# A plugin's name and what it printed; no bytes at its end.
Printed = Callable[[str, bytes], None]

Protocol = Literal["MsgPack:1", "ProtoBuf:1"]

_PROTOCOLS: Mapping[str, Protocol] = {"protobuf": "ProtoBuf:1", "msgpack": "MsgPack:1"}
_MAX_SOCKET_PATH = 107


@dataclass(frozen=True)
class Options:
    """What ``KONG_PYTHON_*`` variables say."""

    folder: Path
    protocol: Protocol
    skip_broken: bool
    drain: int
    mode: Mode
    metrics: Address | None
    """Where metrics are served."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Options:
        """Read and check the variables.

        :raises StartError: one of them has no meaning.
        """
        try:
            return cls(
                folder=PLUGINS_DIR.read(environ),
                protocol=_PROTOCOLS[PROTOCOL.read(environ)],
                skip_broken=ON_BROKEN_PLUGIN.read(environ) == "skip",
                drain=DRAIN_SECONDS.read(environ),
                mode=default(environ),
                metrics=METRICS_LISTEN.read(environ),
            )
        except SettingError as error:
            raise StartError(str(error)) from error


@dataclass(frozen=True)
class Configuration:
    """A folder of plugins, looked at, and what follows from it. Nothing is written yet."""

    options: Options
    run: RunDirectory
    plugins: tuple[Description, ...]
    problems: tuple[Problem, ...]
    changes: environment.Changes
    packages: Packages
    notes: tuple[str, ...] = ()

    @property
    def served_by_user(self) -> list[str]:
        """The plugins whose servers the user runs, or Kong by a start command."""
        if not self.changes.variables:
            return []
        ours = (*self.changes.servers, *self.changes.schema_only)
        return [plugin.name for plugin in self.plugins if plugin.name not in ours]

    def mode(self, plugin: str) -> Mode:
        """Give the mode of a plugin's server."""
        return choose([each for each in self.plugins if each.name == plugin], self.options.mode)

    def server_options(self, plugin: str) -> list[str]:
        """Give what the command line of a plugin's server has besides the folder, the plugin and the socket."""
        options = list(self.mode(plugin).options)
        if self.options.metrics:
            options += ["--metrics-directory", str(self.run.metrics)]
        # Named, for the server may be started again after requirements.txt has been edited.
        for path in self.packages.directories(plugin):
            options += ["--packages", str(path)]
        return options


def read(
    environ: Mapping[str, str],
    command: Sequence[str],
    run: RunDirectory,
    printed: Printed | None = None,
    installing: bool = False,
) -> Configuration:
    """Look at the plugins and at what the user set.

    :param command: the container's, for it may name a kong.conf.
    :param printed: takes what plugins print while they are looked at; standard error does where None.
    :param installing: install what the plugins' requirements ask for, unless the user forbids it.
    :raises StartError: what the user set contradicts itself.
    """
    options = Options.read(environ)
    settings = Settings(environ, read_conf(command))
    _refuse_ports_of_kong(options.metrics, settings)
    needed = _packages(options.folder, environ, installing)
    found = inspect(options.folder, printed=printed, load=needed.load)
    problems = [*needed.problems, *found.problems]
    usable = []
    for plugin in found.plugins:
        if len(os.fsencode(run.socket(plugin.name))) > _MAX_SOCKET_PATH:
            problems.append(_too_long(plugin, run))
        else:
            usable.append(plugin)
    names = [plugin.name for plugin in usable]
    known = tuple(dict.fromkeys([*names, *(problem.plugin for problem in problems if problem.plugin)]))
    notes = [*found.warnings(), *environment.lookalikes(settings, known)]
    if names and environment.switched_off(settings):
        notes.append(f"KONG_PLUGINS is off: {', '.join(names)} will not run")
    notes += environment.ignored(settings, known)
    changes = environment.merge(settings, names, run)
    if changes.servers and options.protocol == "ProtoBuf:1":
        notes += _lack_of_interface(environ)
    return Configuration(options, run, tuple(usable), tuple(problems), changes, needed, tuple(notes))


def _lack_of_interface(environ: Mapping[str, str]) -> list[str]:
    """Say what plugins miss where the base's interface file is not the one that this image was built with."""
    file = INTERFACE_FILE.read(environ)
    try:
        interface = interface_file.load(file)
    except InterfaceError as error:
        return [str(error)]
    missing = interface.missing() if interface else ()
    if not missing:
        return []
    return [
        f"{file} lacks {len(missing)} of our methods, {missing[0]} for one: plugins cannot call them; run kong-python "
        "extend-interface when the image is built, or set KONG_PYTHON_PROTOCOL=msgpack"
    ]


def _refuse_ports_of_kong(metrics: Address | None, settings: Settings) -> None:
    taken = kong_settings.option_of(metrics, settings) if metrics else None
    if metrics and taken:
        raise StartError(
            f"{METRICS_LISTEN.name} has the port {metrics.port}, on which Kong listens ({taken}); choose another one"
        )


def _packages(folder: Path, environ: Mapping[str, str], installing: bool) -> Packages:
    try:
        needed = locate(folder, environ)
        if installing and INSTALL.read(environ) != "off":
            needed = install(needed, environ)
    except SettingError as error:
        raise StartError(str(error)) from error
    needed.hold()
    return needed


def write(configuration: Configuration, environ: Mapping[str, str]) -> None:
    """Write what Kong's query commands print and what the wrapper of ``kong`` sources.

    :param environ: the environment before the changes.
    :raises StartError: a file cannot be written.
    """
    run = configuration.run
    for plugin in configuration.plugins:
        run.write(run.dump(plugin.name), dump([plugin], configuration.options.protocol) + "\n")
    run.write(run.environment_file, environment.shell_script(environ, configuration.changes))


def write_programs(configuration: Configuration, command: Sequence[str]) -> None:
    """Write which servers run beside Kong, for supervisord and everybody who asks them.

    :raises StartError: a file cannot be written.
    """
    run, options, servers = configuration.run, configuration.options, configuration.changes.servers
    more = {name: configuration.server_options(name) for name in servers}
    text = supervisord_conf.write(
        run, options.folder, servers, command, options.drain, server_options=more, metrics=options.metrics is not None
    )
    run.write(run.supervisord_conf, text)
    write_servers(run, servers)


def _too_long(plugin: Description, run: RunDirectory) -> Problem:
    return Problem(
        file=Path(plugin.file),
        line=None,
        message=f"the path of its socket, {run.socket(plugin.name)}, is longer than {_MAX_SOCKET_PATH} bytes",
        hint="shorten the plugin's name or KONG_PYTHON_RUN_DIR",
        plugin=plugin.name,
    )
