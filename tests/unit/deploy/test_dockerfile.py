"""What the Dockerfile says without anybody's build arguments agrees with the rest."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kong_pdk import __version__
from unit.deploy import manifests
from unit.deploy.manifests import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text("utf-8")
ARGUMENTS = dict(re.findall(r"^ARG ([A-Z_]+)=(.*)$", DOCKERFILE, re.MULTILINE))
BUILD_ARGUMENTS = {
    "KONG_IMAGE",
    "KONG_IMAGE_DIGEST",
    "PYTHON",
    "INTERFACE",
    "VERSION",
    "REVISION",
    "CREATED",
    "SOURCE",
}


def test_the_version() -> None:
    project = (REPOSITORY / "pdk" / "pyproject.toml").read_text("utf-8")
    assert re.findall(r'^version = "(.*)"$', project, re.MULTILINE) == [__version__]
    assert ARGUMENTS["VERSION"] == __version__


def test_every_build_argument_is_documented() -> None:
    assert {*ARGUMENTS} == BUILD_ARGUMENTS
    page = (REPOSITORY / "docs" / "operator.md").read_text("utf-8")
    for name in BUILD_ARGUMENTS:
        assert f"`{name}`" in page, name


def test_compose_passes_arguments_that_there_are() -> None:
    compose: Any = manifests.read(REPOSITORY / "compose.yaml")
    given = compose["x-hardened"]["build"]["args"]
    # With nothing set, both are what the Dockerfile has.
    assert given == {"KONG_IMAGE": "${KONG_IMAGE:-kong:3.9}", "PYTHON": "${IMAGE_PYTHON:-python3}"}
    assert (ARGUMENTS["KONG_IMAGE"], ARGUMENTS["PYTHON"]) == ("kong:3.9", "python3")


@pytest.mark.parametrize("name", ["derived", "multi-stage"])
def test_an_example_overrides_what_would_speak_of_another_image(name: str) -> None:
    dockerfile = (REPOSITORY / "docker" / "examples" / name / "Dockerfile").read_text("utf-8")
    ours, theirs = (
        set(re.findall(r"(org\.opencontainers\.image\.[a-z.]+)=", text)) for text in (DOCKERFILE, dockerfile)
    )
    assert ours - theirs == {"org.opencontainers.image.ref.name"}


def test_scripts_image_passes_arguments_that_there_are() -> None:
    script = (REPOSITORY / "scripts" / "image").read_text("utf-8")
    passed = set(re.findall(r'echo "([A-Z_]+)=', script))
    assert passed == BUILD_ARGUMENTS


def revision(folder: Path) -> str:
    """What scripts/image says of a folder."""
    script = f"source {REPOSITORY}/scripts/image; cd '{folder}'; revision"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of something that goes into the image, and of something that does not."""
    (tmp_path / ".dockerignore").write_text("*\n!docker/kong\n!docker/host\n")
    for file in ("docker/kong", "docker/host/pip.conf", "docker/kong.yml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("one\n")
    who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "--message=one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, timeout=60)
    return tmp_path


def test_the_revision_is_the_commit(repository: Path) -> None:
    assert re.fullmatch("[0-9a-f]{40}", revision(repository))
    for file in ("docker/kong.yml", "docker/host/pip.conf"):
        (repository / file).write_text("two\n")
    assert re.fullmatch("[0-9a-f]{40}", revision(repository))


def test_what_differs_from_the_commit_is_dirty(repository: Path) -> None:
    (repository / "docker" / "kong").write_text("two\n")
    assert re.fullmatch("[0-9a-f]{40}-dirty", revision(repository))


def test_outside_of_a_repository_no_commit_is_named(repository: Path) -> None:
    """A copy of the files has no commit, be it inside of somebody else's repository."""
    assert revision(repository / "docker") == ""
