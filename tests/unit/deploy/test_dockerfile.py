"""The Dockerfile's defaults agree with the other files."""

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
ARGUMENTS = dict(re.findall(r"([A-Z_]+)=(\S*)", " ".join(re.findall(r"^ARG (.*)$", DOCKERFILE, re.MULTILINE))))
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


def test_compose_passes_existing_arguments() -> None:
    compose: Any = manifests.read(REPOSITORY / "compose.yaml")
    build_args = compose["x-hardened"]["build"]["args"]
    # By default, both are the Dockerfile's.
    assert build_args == {"KONG_IMAGE": "${KONG_IMAGE:-kong:3.9}", "PYTHON": "${IMAGE_PYTHON:-python3}"}
    assert (ARGUMENTS["KONG_IMAGE"], ARGUMENTS["PYTHON"]) == ("kong:3.9", "python3")


@pytest.mark.parametrize("name", ["derived", "multi-stage"])
def test_an_example_overrides_the_labels_of_its_base(name: str) -> None:
    dockerfile = (REPOSITORY / "docker" / "examples" / name / "Dockerfile").read_text("utf-8")
    image_labels, example_labels = (
        set(re.findall(r"(org\.opencontainers\.image\.[a-z.]+)=", text)) for text in (DOCKERFILE, dockerfile)
    )
    assert image_labels - example_labels == {"org.opencontainers.image.ref.name"}


def test_scripts_image_passes_existing_arguments() -> None:
    script = (REPOSITORY / "scripts" / "image").read_text("utf-8")
    passed = set(re.findall(r'echo "([A-Z_]+)=', script))
    assert passed == BUILD_ARGUMENTS


def interface_step(folder: Path, interface: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the build step for INTERFACE, with programs that only record that they ran."""
    [step] = re.findall(r"^ *(case \$INTERFACE in.*?esac); ", DOCKERFILE, re.MULTILINE | re.DOTALL)
    # Docker removes comments from a RUN, and then joins its lines.
    lines = [line for line in step.splitlines() if not line.lstrip().startswith("#")]
    for name in ("kong-python", "setpriv"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*"\nexit {status}\n')
        program.chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "INTERFACE": interface}
    command = ["sh", "-euc", "".join(line.removesuffix("\\") for line in lines)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_build_extends_the_interface_file_and_checks_it_as_an_unprivileged_user(tmp_path: Path) -> None:
    done = interface_step(tmp_path, "extended")
    extends, checks = done.stdout.splitlines()
    assert (done.returncode, extends) == (0, "kong-python extend-interface")
    assert re.fullmatch(r"setpriv --reuid=65534 .* kong-python extend-interface --check", checks)


def test_the_build_can_leave_the_interface_file_unchanged(tmp_path: Path) -> None:
    done = interface_step(tmp_path, "stock")
    assert (done.returncode, done.stdout) == (0, "")


def test_an_interface_file_that_cannot_be_extended_ends_the_build_with_a_hint(tmp_path: Path) -> None:
    done = interface_step(tmp_path, "extended", status=78)
    assert done.returncode == 1
    assert done.stderr == "kong-python: INTERFACE=stock builds the image without the extension\n"


def test_an_unknown_interface_ends_the_build(tmp_path: Path) -> None:
    done = interface_step(tmp_path, "Stock")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "kong-python: INTERFACE is 'Stock'; set it to extended or to stock\n"


def revision(folder: Path) -> str:
    """Give the revision that scripts/image finds for a folder."""
    script = f"source {REPOSITORY}/scripts/image; cd '{folder}'; revision"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of a file of the image and of another file."""
    (tmp_path / ".dockerignore").write_text("*\n!docker/kong\n!docker/host\n")
    for file in ("docker/kong", "docker/host/pip.conf", "docker/kong.yml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("one\n")
    identity = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message=one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, timeout=60)
    return tmp_path


def test_the_revision_is_the_commit(repository: Path) -> None:
    assert re.fullmatch("[0-9a-f]{40}", revision(repository))
    for file in ("docker/kong.yml", "docker/host/pip.conf"):
        (repository / file).write_text("two\n")
    assert re.fullmatch("[0-9a-f]{40}", revision(repository))


def test_a_changed_file_of_the_image_is_dirty(repository: Path) -> None:
    (repository / "docker" / "kong").write_text("two\n")
    assert re.fullmatch("[0-9a-f]{40}-dirty", revision(repository))


def test_outside_of_a_repository_no_commit_is_named(repository: Path) -> None:
    """A copy of the files has no commit, also inside another repository."""
    assert revision(repository / "docker") == ""
