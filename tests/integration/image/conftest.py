"""Containers without Docker, on the folders and environments of the unit tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from integration.image.container import Container, base_image
from unit.image.conftest import add_broken, environ, folder, no_plugins, run

__all__ = ["add_broken", "environ", "folder", "no_plugins", "run"]


@pytest.fixture
def start(tmp_path: Path, environ: Mapping[str, str]) -> Iterator[Callable[..., Container]]:
    """Give a function that starts the entrypoint; it ends after the test."""
    started: list[Container] = []

    def start_container(*command: str, kong: Mapping[str, str] | None = None, **variables: str) -> Container:
        base = base_image(tmp_path, **(kong or {}))
        started.append(Container(tmp_path, {**environ, **base, **variables}, command))
        return started[-1]

    yield start_container
    for container in started:
        container.kill()
