"""A node that serves a small configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from container.base.nodes import ENVIRONMENT, STATUS, StartNode
from container.containers import Start, TrackedContainer


@pytest.fixture
def start_node(kong_image: str, start: Start) -> StartNode:
    """Start a node with the small configuration and, unless told otherwise, wait until it answers."""

    def begin(
        *command: str, env: Mapping[str, str] | None = None, options: Sequence[str] = (), wait: bool = True
    ) -> TrackedContainer:
        container = start(
            kong_image, *command, env={**ENVIRONMENT, **(env or {})}, options=options, ports=(8000, STATUS)
        )
        if wait:
            container.wait_until_it_answers()
        return container

    return begin


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of such a node, for containers that run another command."""
    return dict(ENVIRONMENT)
