"""Reads a declarative configuration (``kong.yml``) and checks it by Kong's rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kong_pdk.gateway.declarative.core_schema import Field
from kong_pdk.gateway.declarative.document import Document, DocumentError
from kong_pdk.gateway.declarative.entries import Entries, Fault, NoticeKind
from kong_pdk.gateway.declarative.linking import build, resolve
from kong_pdk.gateway.entities import Config
from kong_pdk.gateway.gateway_settings import Settings
from kong_pdk.plugin import Problem

Schemas = Mapping[str, Iterable[Field] | None]

_STRING_NAME = Path("declarative_config_string")


class DeclarativeError(Exception):
    """A declarative configuration is invalid; ``problems`` has all its problems, at least one."""

    def __init__(self, file: Path, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        listed = "\n".join(map(str, self.problems))
        super().__init__(f"error parsing declarative config file {file}:\n{listed}")


def load_declarative(path: Path, schemas: Schemas, broken: Collection[str] = ()) -> Config:
    """The configuration in a file, YAML or JSON (``.json``).

    :param schemas: the configuration fields of each enabled plugin, including ``key-auth``; None for a plugin whose
        fields are unknown, and whose configuration is not checked.
    :param broken: plugins that do not load, for a reason that was reported before.
    :raises DeclarativeError: the configuration is invalid.
    """
    try:
        document = Document.read(path)
    except DocumentError as error:
        raise DeclarativeError(path, [Problem(path, error.line, str(error))]) from error
    return _check_document(path, document, schemas, broken)


def load_settings(settings: Settings, schemas: Schemas, broken: Collection[str] = ()) -> Config:
    """The configuration that the settings name, or an empty one; parameters as for :func:`load_declarative`.

    :raises DeclarativeError: the configuration is invalid.
    """
    if settings.declarative_config is not None:
        return load_declarative(settings.declarative_config, schemas, broken)
    if settings.declarative_config_string is not None:
        try:
            document = Document(settings.declarative_config_string)
        except DocumentError as error:
            raise DeclarativeError(_STRING_NAME, [Problem(_STRING_NAME, error.line, str(error))]) from error
        return _check_document(_STRING_NAME, document, schemas, broken)
    return Config()


def skipped_plugins(config: Config, names: Collection[str]) -> Problem | None:
    """One notice about all plugins of a configuration that the gateway does not have; None if there are none.

    :param names: the names of Kong's bundled plugins that the gateway does not have.
    """
    lines: dict[str, list[str]] = {}
    for plugin in config.plugins:
        if plugin.enabled and plugin.name in names:
            lines.setdefault(plugin.name, []).append(str(plugin.line))
    if not lines or config.file is None:
        return None
    listed = ", ".join(f"{name} (line{'s' * (len(at) > 1)} {', '.join(at)})" for name, at in lines.items())
    message = f"the embedded gateway skips Kong's bundled plugins {listed}: it has only key-auth"
    return Problem(config.file, None, message, "this is a limit of the embedded gateway, not a mistake in the file")


def _check_document(path: Path, document: Document, schemas: Schemas, broken: Collection[str]) -> Config:
    entries = Entries(schemas, broken)
    entries.collect(document.value)
    entries.faults.extend(resolve(entries.all))
    if entries.faults:
        raise DeclarativeError(path, _problems(path, document, entries.faults))

    def notices(*kinds: NoticeKind | None) -> tuple[Problem, ...]:
        return tuple(_problems(path, document, (each for each in entries.notices if each.notice_kind in kinds)))

    return replace(
        build(path, entries.all, document.line),
        notices=notices(None, *NoticeKind),
        skipped=notices(NoticeKind.SKIPPED),
        refused=notices(NoticeKind.REFUSED),
    )


def _problems(path: Path, document: Document, faults: Iterable[Fault]) -> list[Problem]:
    problems = [
        Problem(
            path,
            document.line(fault.place),
            fault.message if fault.is_complete else _text(fault),
            fault.hint,
            fault.plugin,
        )
        for fault in faults
    ]
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.line or 0)


def _text(fault: Fault) -> str:
    """Kong's message after its place, for example ``in services 1: in routes 2: in paths 1: ...``."""
    words: list[str] = []
    for step in fault.place:
        if isinstance(step, int) and words:
            words[-1] += f" {step + 1}"
        else:
            words.append(f"in {step}")
    return ": ".join([*words, fault.message])
