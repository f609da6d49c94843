"""Fixtures for tests with a real container engine. Any base image: ``KONG_IMAGE=... pytest tests/container``."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from container.containers import Start, TrackedContainer, docker, started

REPOSITORY = Path(__file__).resolve().parents[2]
EMBEDDED = "kong-python-embedded-base:3.9"
BUILD_SECONDS = 1800.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the time to build the images that are not given: any of them may be the first one."""
    if os.environ.get("KONG_IMAGE") and os.environ.get("KONG_PYTHON_IMAGE"):
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(2 * BUILD_SECONDS))


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip the tests where no container engine is available."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    if docker("version", check=False).exit_code != 0:
        pytest.skip("the Docker engine does not answer")


@pytest.fixture(scope="session")
def kong_image(engine: None) -> str:
    """The base image under test: ``KONG_IMAGE``, or the embedded one, built if it is out of date."""
    named = os.environ.get("KONG_IMAGE")
    if named:
        return named
    build = REPOSITORY / "docker" / "embedded" / "build"
    done = subprocess.run(
        [build], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, f"{build} failed:\n{done.stdout}{done.stderr}"
    return EMBEDDED


@pytest.fixture(scope="session")
def stand_in(kong_image: str) -> bool:
    """Whether the base image is our stand-in."""
    labels = docker("image", "inspect", "--format", "{{json .Config.Labels}}", kong_image).stdout
    return "kong-python embedded base" in labels


@pytest.fixture
def start(engine: None) -> Iterator[Start]:
    """Start containers that are removed when the test ends."""
    with ExitStack() as stack:

        def begin(image: str, *command: str, **options: object) -> TrackedContainer:
            return stack.enter_context(started(image, *command, **options))  # type: ignore[arg-type]

        yield begin


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of files that a container's user can read: ``folder({"kong.yml": "..."})``."""

    def make(files: dict[str, str], name: str = "mounted") -> Path:
        target = tmp_path / name
        target.mkdir()
        target.chmod(0o755)
        for path, content in files.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(content, encoding="utf-8")
            (target / path).chmod(0o644)
        return target

    return make
