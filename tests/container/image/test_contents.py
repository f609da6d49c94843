"""The size and the Python packages that the image adds to its base."""

from __future__ import annotations

import json

from container.containers import docker, run_once

MOST_ADDED = 90 * 1024 * 1024

# Each package with the reason why the image has it.
PACKAGES = {
    "kong-python": "this project",
    "gevent": "the engine that runs handlers on greenlets",
    "greenlet": "gevent's switching between them",
    "msgpack": "the encoding of MsgPack:1",
    "pip": "installs the packages that plugins ask for",
    "prometheus-client": "the form of the metrics",
    "protobuf": "the messages of ProtoBuf:1",
    "pyyaml": "kong-python check reads kong.yml",
    "setproctitle": "the command of a forked plugin server in the list of processes",
    "supervisor": "runs the plugin servers and Kong",
    "zope-event": "gevent imports it",
    "zope-interface": "gevent imports it",
}

LIST = """
import json, re
from importlib.metadata import distributions
print(json.dumps(sorted({re.sub(r"[-_.]+", "-", each.name).lower() for each in distributions()})))
"""


def size(image: str) -> int:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout)


def test_the_image_is_small(image: str, kong_image: str) -> None:
    """Python, the packages and this project add at most 90 MiB to a Kong image, which has no Python."""
    assert 0 < size(image) - size(kong_image) <= MOST_ADDED


def test_every_python_package_has_a_reason(image: str) -> None:
    """The image's environment holds only the packages of the list above."""
    listed = run_once(image, "python", "-c", LIST, options=["--no-healthcheck"])

    assert json.loads(listed.stdout) == sorted(PACKAGES)


def test_dev_names_the_extra_that_it_needs(image: str) -> None:
    """The embedded gateway's packages are not in the image: `kong-python dev` says how to install them."""
    done = run_once(image, "kong-python", "dev", options=["--no-healthcheck"])

    assert done.exit_code == 1
    assert "pip install 'kong-python[dev]'" in done.stderr
    assert "Traceback" not in done.stderr
