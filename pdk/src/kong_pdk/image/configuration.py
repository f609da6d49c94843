"""Turns a folder of plugins into the configuration of Kong, of supervisord and of the health check."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from kong_pdk.plugin.inspection import OutputHandler
from kong_pdk.protocol import MAX_SOCKET_PATH, PROTOCOLS, Protocol
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


@dataclass(frozen=True)
class Options:
    """The values of the ``KONG_PYTHON_*`` variables."""

    folder: Path
    protocol: Protocol
    skip_broken: bool
    drain: int
    mode: Mode
    metrics: Address | None
    """Where metrics are served; None if they are not."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Options:
        """Read and check the variables.

        :raises StartError: a value is invalid.
        """
        try:
            return cls(
                folder=PLUGINS_DIR.read(environ),
                protocol=PROTOCOLS[PROTOCOL.read(environ)],
                skip_broken=ON_BROKEN_PLUGIN.read(environ) == "skip",
                drain=DRAIN_SECONDS.read(environ),
                mode=default(environ),
                metrics=METRICS_LISTEN.read(environ),
            )
        except SettingError as error:
            raise StartError(str(error)) from error


@dataclass(frozen=True)
class Configuration:
    """The plugins of a folder and the settings that follow from them. Nothing is written yet."""

    options: Options
    run: RunDirectory
    plugins: tuple[Description, ...]
    problems: tuple[Problem, ...]
    changes: environment.Changes
    packages: Packages
    notes: tuple[str, ...] = ()

    @property
    def served_by_user(self) -> list[str]:
        """The plugins whose servers are run by the user, or by Kong with a start command."""
        if not self.changes.variables:
            return []
        ours = (*self.changes.servers, *self.changes.schema_only)
        return [plugin.name for plugin in self.plugins if plugin.name not in ours]

    def mode(self, plugin: str) -> Mode:
        """Give the mode of a plugin's server."""
        return choose([each for each in self.plugins if each.name == plugin], self.options.mode)

    def server_options(self, plugin: str) -> list[str]:
        """Give the options of a plugin's server other than the folder, the plugin and the socket."""
        options = list(self.mode(plugin).options)
        if any(each.preload for each in self.plugins if each.name == plugin):
            options.append("--preload")
        if self.options.metrics:
            options += ["--metrics-directory", str(self.run.metrics)]
        # Given by name: requirements.txt may have been edited when the server is started again.
        directories = self.packages.directories(plugin)
        for path in directories:
            options += ["--packages", str(path)]
        return options if directories else [*options, "--no-packages"]


def read(
    environ: Mapping[str, str],
    command: Sequence[str],
    run: RunDirectory,
    printed: OutputHandler | None = None,
    installing: bool = False,
) -> Configuration:
    """Inspect the plugins and read the user's settings.

    :param command: the container's command, which may name a kong.conf.
    :param printed: takes the output of plugins during their inspection; None for standard error.
    :param installing: install the packages of the plugins' requirements, unless the user forbids it.
    :raises StartError: the user's settings are invalid or contradict each other.
    """
    options = Options.read(environ)
    settings = Settings(environ, read_conf(command))
    _refuse_kongs_ports(options.metrics, settings)
    packages = _packages(options.folder, environ, installing)
    inspection = inspect(options.folder, printed=printed, load=packages.load)
    problems = [*packages.problems, *inspection.problems]
    usable = []
    for plugin in inspection.plugins:
        if len(os.fsencode(run.socket(plugin.name))) > MAX_SOCKET_PATH:
            problems.append(_long_socket_path(plugin, run))
        else:
            usable.append(plugin)
    names = [plugin.name for plugin in usable]
    known = tuple(dict.fromkeys([*names, *(problem.plugin for problem in problems if problem.plugin)]))
    notes = [*inspection.warnings(), *environment.lookalikes(settings, known)]
    if names and environment.switched_off(settings):
        notes.append(f"KONG_PLUGINS is off: {', '.join(names)} will not run")
    notes += environment.ignored(settings, known)
    changes = environment.merge(settings, names, run)
    if changes.servers and options.protocol == "ProtoBuf:1":
        notes += _missing_interface_methods(environ)
    return Configuration(options, run, tuple(usable), tuple(problems), changes, packages, tuple(notes))


def _missing_interface_methods(environ: Mapping[str, str]) -> list[str]:
    """Warn if the interface file lacks our methods: it is not the file that this image was built with."""
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


def _refuse_kongs_ports(metrics: Address | None, settings: Settings) -> None:
    """Refuse a port of Kong for the metrics: their program starts first, and Kong would not start without its port."""
    option = kong_settings.option_of(metrics, settings) if metrics else None
    if metrics and option:
        raise StartError(
            f"{METRICS_LISTEN.name} has the port {metrics.port}, on which Kong listens ({option}); choose another one"
        )


def _packages(folder: Path, environ: Mapping[str, str], installing: bool) -> Packages:
    try:
        packages = locate(folder, environ)
        if installing and INSTALL.read(environ) != "off":
            packages = install(packages, environ)
    except SettingError as error:
        raise StartError(str(error)) from error
    packages.hold()
    return packages


def write(configuration: Configuration, environ: Mapping[str, str]) -> None:
    """Write the files that Kong's query commands print and that the wrapper of ``kong`` sources.

    :param environ: the environment before the changes.
    :raises StartError: a file cannot be written.
    """
    run = configuration.run
    for plugin in configuration.plugins:
        run.write(run.dump(plugin.name), dump([plugin], configuration.options.protocol) + "\n")
    run.write(run.environment_file, environment.shell_script(environ, configuration.changes))


def write_programs(configuration: Configuration, command: Sequence[str]) -> None:
    """Write which servers run beside Kong: the configuration of supervisord, and the list for the health check.

    :raises StartError: a file cannot be written.
    """
    run, options, servers = configuration.run, configuration.options, configuration.changes.servers
    server_options = {name: configuration.server_options(name) for name in servers}
    text = supervisord_conf.write(
        run,
        options.folder,
        servers,
        command,
        options.drain,
        server_options=server_options,
        metrics=options.metrics is not None,
    )
    run.write(run.supervisord_conf, text)
    write_servers(run, servers)


def _long_socket_path(plugin: Description, run: RunDirectory) -> Problem:
    return Problem(
        file=plugin.file,
        line=None,
        message=f"the path of its socket, {run.socket(plugin.name)}, is longer than {MAX_SOCKET_PATH} bytes",
        hint="shorten the plugin's name or KONG_PYTHON_RUN_DIR",
        plugin=plugin.name,
    )
