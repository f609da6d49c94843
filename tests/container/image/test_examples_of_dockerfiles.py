"""docker/examples: each is an image with packages that its plugins import."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from container.containers import docker
from container.product import BUILD_SECONDS, REPOSITORY, Kong, Launcher

pytestmark = pytest.mark.timeout(BUILD_SECONDS)

EXAMPLES = REPOSITORY / "docker" / "examples"
TITLE = '{{index .Config.Labels "org.opencontainers.image.title"}}'


@pytest.fixture(scope="module")
def serving(shared: Launcher) -> Iterator[Callable[[str], Kong]]:
    """Build an example on the image under test and start it only with its own content."""

    def begin(name: str) -> Kong:
        example = EXAMPLES / name
        files = {str(path.relative_to(example)): path for path in example.rglob("*") if path.is_file()}
        dockerfile = files.pop("Dockerfile").read_text("utf-8")
        image = shared.derive(dockerfile, files, KONG_PYTHON_IMAGE=shared.image)
        assert docker("image", "inspect", "--format", TITLE, image).stdout.strip() == "gateway"
        # There is no index: a start must not ask for one.
        container = shared.start(image=image, env={"PIP_INDEX_URL": "http://127.0.0.1:9/"})
        container.wait_until_it_answers()
        return container

    return begin


@pytest.fixture(scope="module")
def derived(serving: Callable[[str], Kong]) -> Kong:
    return serving("derived")


@pytest.fixture(scope="module")
def multi_stage(serving: Callable[[str], Kong]) -> Kong:
    return serving("multi-stage")


@pytest.mark.parametrize(
    ("version", "status"), [("2.4", 200), ("10.0.1", 200), ("2.3.9", 400), ("new", 400), (None, 400)]
)
def test_the_derived_image(derived: Kong, version: str | None, status: int) -> None:
    """Its plugin compares versions with the package that requirements.txt names."""
    answer = derived.request(headers={} if version is None else {"x-client-version": version})

    assert answer.status == status
    if status == 400:
        assert answer.json()["message"] == "x-client-version: 2.4 or later is needed"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/harmless?q=union", b"select", 200),
        ("/?q=UNION%20SELECT", None, 403),
        ("/", b"1 UNION select 2", 403),
        ("/?file=../../etc", None, 403),
        ("/", b"x" * 100_000 + b"union select", 403),
    ],
)
def test_the_multi_stage_image(multi_stage: Kong, path: str, body: bytes | None, status: int) -> None:
    """Its plugin searches words with the package that was compiled in the first stage."""
    assert multi_stage.request(path, method="POST", body=body).status == status


def test_the_multi_stage_image_has_no_compiler(multi_stage: Kong) -> None:
    """The compiler is not in the final image; the compiled package is."""
    assert multi_stage.exec("sh", "-c", "command -v gcc cc", check=False).exit_code != 0
    found = multi_stage.exec("sh", "-c", "find /var/lib/kong-python -name 'ahocorasick*.so'").stdout.split()
    assert [Path(path).suffix for path in found] == [".so"]


@pytest.mark.parametrize("name", ["derived", "multi_stage"])
def test_they_become_healthy_and_stop(name: str, request: pytest.FixtureRequest) -> None:
    """The health check passes, as in the image that they extend."""
    request.getfixturevalue(name).wait_until_check_passes()
