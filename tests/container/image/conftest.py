"""Fixtures for tests of the product image: the image, a service behind Kong, and containers."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from container.containers import LABEL, docker, started
from container.product import BUILD_SECONDS, REPOSITORY, Launcher


@pytest.fixture(scope="session")
def image(engine: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """The image under test: ``KONG_PYTHON_IMAGE``, or one that is built here on the base ``KONG_IMAGE``."""
    named = os.environ.get("KONG_PYTHON_IMAGE")
    if named:
        yield named
        return
    base = request.getfixturevalue("kong_image")
    tag = f"kong-python-test-{secrets.token_hex(6)}"
    build = [REPOSITORY / "scripts" / "image", tag, base]
    done = subprocess.run(
        build, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, f"{build} failed:\n{done.stdout}{done.stderr}"
    yield tag
    docker("image", "rm", "--force", tag, check=False)


@pytest.fixture(scope="session")
def network(engine: None) -> Iterator[str]:
    """A network on which containers find each other by name."""
    name = f"kong-python-test-{secrets.token_hex(6)}"
    docker("network", "create", "--label", LABEL, name)
    yield name
    docker("network", "rm", name, check=False)


@pytest.fixture(scope="session")
def upstream(image: str, network: str) -> Iterator[None]:
    """An HTTP service behind Kong that answers with what it received."""
    options = [f"--network={network}", "--network-alias=upstream", "--no-healthcheck"]
    with started(image, "kong-python", "upstream", options=options, ports=(9000,)) as container:
        container.wait_until_it_answers(port=9000)
        yield


@pytest.fixture
def kong(image: str, network: str, upstream: None, tmp_path: Path) -> Iterator[Launcher]:
    """Start containers for one test; at its end their logs are checked and they are removed."""
    launcher = Launcher(image, network, tmp_path)
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def shared(image: str, network: str, upstream: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Start containers that the tests of a module share, for fixtures of module scope."""
    launcher = Launcher(image, network, tmp_path_factory.mktemp("shared"))
    yield launcher
    launcher.close()


@pytest.fixture(autouse=True)
def _shared_containers_log_no_trouble(shared: Launcher) -> Iterator[None]:
    yield
    shared.check_logs()
