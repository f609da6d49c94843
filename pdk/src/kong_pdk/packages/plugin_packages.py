"""The packages of a folder of plugins: the environments of each plugin, and whether they are installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kong_pdk.packages import requirements
from kong_pdk.packages.activation import activate, hold
from kong_pdk.packages.environment_store import Store
from kong_pdk.packages.requirements import Requirements
from kong_pdk.plugin import Plugin, PluginError, Problem, Source, find, load


@dataclass(frozen=True)
class Packages:
    """The requirements of the plugins of a folder, and their environments in the data directory.

    ``wanted`` has the requirements by plugin, the ones for all plugins under None. ``failed`` has, in the same way, the
    problems of requirements that cannot be read or installed.
    """

    store: Store
    plugins: tuple[str, ...]
    wanted: Mapping[str | None, Requirements]
    failed: Mapping[str | None, Problem] = field(default_factory=dict)

    @property
    def problems(self) -> list[Problem]:
        """The problems of the requirements for all plugins; those of one plugin are raised when it is loaded."""
        return [problem for plugin, problem in self.failed.items() if plugin is None]

    @property
    def shared(self) -> str | None:
        """A warning if several plugins are loaded into one process and one has packages of its own."""
        own = sorted(plugin for plugin in self.wanted if plugin)
        if not own or len(self.plugins) == 1:
            return None
        return (
            f"all plugins of this server see the packages of {', '.join(own)}; where versions differ, give each a "
            "server of its own (--plugin)"
        )

    @property
    def missing(self) -> list[Requirements]:
        """The requirements that are not installed."""
        return [each for each in self.wanted.values() if not self.store.find(each)]

    def directories(self, plugin: str) -> list[Path]:
        """List the directories that a plugin imports from: its own, and those for all plugins."""
        asked = [self.wanted[owner] for owner in (plugin, None) if owner in self.wanted]
        return [directory for each in asked if (directory := self.store.find(each))]

    def hold(self) -> None:
        """Mark the environments as used as long as this process lives."""
        for each in self.wanted.values():
            if directory := self.store.find(each):
                hold(directory)

    def load(self, source: Source) -> Plugin:
        """Import a plugin with its packages into this process.

        :raises PluginError: its requirements are not installed, or it cannot be loaded.
        :raises NotAPlugin: the import shows that the file is no plugin.
        """
        if problem := self.failed.get(source.name):
            raise PluginError([problem])
        directories = self.directories(source.name)
        if directories and (refusal := self.store.refusal()):
            where = self.wanted.get(source.name) or self.wanted[None]
            raise PluginError([Problem(where.file, None, str(refusal), refusal.hint, source.name)])
        activate(directories)
        try:
            return load(source)
        except PluginError as error:
            if isinstance(error.__cause__, ModuleNotFoundError) and (hint := self._hint(source.name)):
                raise PluginError([replace(problem, hint=hint) for problem in error.problems]) from error.__cause__
            raise

    def _hint(self, plugin: str) -> str | None:
        """Give a hint for an import that fails, if requirements of the plugin are not installed."""
        missing = [each for each in self.missing if each.plugin in (None, plugin)]
        files = " and ".join(str(each.file) for each in missing)
        if not missing:
            return None
        if any(each.plugin in self.failed for each in missing):
            return f"fix {files}"
        if refused := [each for requirements in missing for each in self.store.refused(requirements)]:
            return f"the packages of {files} are installed, but {refused[0]}; {refused[0].hint}"
        return (
            f"the packages of {files} are not installed: run kong-python install, or start with "
            "KONG_PYTHON_INSTALL=wheels, the default"
        )


def _read(file: Path, plugin: str | None) -> Requirements | Problem | None:
    try:
        return requirements.read(file, plugin)
    except PluginError as error:
        return error.problems[0]


def locate(folder: Path, environ: Mapping[str, str], plugins: Sequence[str] | None = None) -> Packages:
    """Read the requirements of the plugins of a folder; nothing is installed.

    :param plugins: read only the requirements of these plugins, besides those for all.
    :raises SettingError: ``KONG_PYTHON_DATA_DIR`` is not valid.
    """
    wanted: dict[str | None, Requirements] = {}
    failed: dict[str | None, Problem] = {}
    sources, problems = find(folder)
    if any(problem.file == folder for problem in problems):
        # The folder cannot be read; loading the plugins reports it.
        return Packages(Store.locate(environ), (), wanted, failed)
    found = [source.name for source in sources if plugins is None or source.name in plugins]
    files: dict[str | None, Path] = {None: folder / requirements.FILE}
    files.update({name: folder / name / requirements.FILE for name in found})
    for plugin, file in files.items():
        read = _read(file, plugin)
        if isinstance(read, Problem):
            failed[plugin] = read
        elif read:
            wanted[plugin] = read
    return Packages(Store.locate(environ), tuple(found), wanted, failed)
