"""The size and the Python packages that the image adds to its base, and its bill of materials."""

from __future__ import annotations

import json
import subprocess

import pytest
from container.containers import docker, run_once
from container.product import REPOSITORY
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

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
print(json.dumps({re.sub(r"[-_.]+", "-", each.name).lower(): each.version for each in distributions()}))
"""
NO_DATABASE = 75
SBOM = "/usr/local/share/sbom/kong-python.cdx.json"


def size(image: str) -> int:
    return int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout)


def test_the_image_is_small(image: str, kong_image: str) -> None:
    """Python, the packages and this project add at most 90 MiB to a Kong image, which has no Python."""
    assert 0 < size(image) - size(kong_image) <= MOST_ADDED


@pytest.fixture(scope="module")
def installed(image: str) -> dict[str, str]:
    """The packages of the image's Python, with their versions."""
    versions: dict[str, str] = json.loads(
        run_once(image, "python", "-c", LIST, options=["--no-healthcheck", "--entrypoint="]).stdout
    )
    return versions


@pytest.fixture(scope="module")
def sbom(image: str) -> str:
    """The bill of materials, read by a user without any rights."""
    return run_once(image, "cat", SBOM, options=["--no-healthcheck", "--entrypoint=", "--user=65534:65534"]).stdout


def test_every_python_package_has_a_reason(installed: dict[str, str]) -> None:
    """The image's environment holds only the packages of the list above."""
    assert sorted(installed) == sorted(PACKAGES)


def test_the_bill_of_materials_is_valid(sbom: str) -> None:
    """It is valid by the schema of CycloneDX 1.6."""
    assert json.loads(sbom)["specVersion"] == "1.6"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom) is None


def test_the_bill_of_materials_has_every_package(sbom: str, installed: dict[str, str]) -> None:
    """It has each package of the image's Python with its version, its address in PyPI and what it depends on."""
    content = json.loads(sbom)
    components = {each["bom-ref"]: PackageURL.from_string(each["purl"]) for each in content["components"]}

    # A purl of PyPI keeps the dot of zope.event.
    assert {purl.name.replace(".", "-"): purl.version for purl in components.values()} == installed
    assert {purl.type for purl in components.values()} == {"pypi"}
    assert [each["version"] for each in content["components"]] == [purl.version for purl in components.values()]
    needed = {each["ref"]: each.get("dependsOn", ()) for each in content["dependencies"]}
    assert set(needed) == set(components)
    [ours] = [ref for ref, purl in components.items() if purl.name == "kong-python"]
    assert {"msgpack", "protobuf", "supervisor"} <= {components[ref].name for ref in needed[ours]}


def test_the_bill_of_materials_is_reproducible(sbom: str) -> None:
    """Two builds of the same packages have the same one: no time, no random number, no path of the build."""
    content = json.loads(sbom)
    assert "serialNumber" not in content
    assert "timestamp" not in content["metadata"]
    assert "file:" not in sbom and "/tmp" not in sbom
    refs = [each["bom-ref"] for each in content["components"]]
    assert refs == sorted(refs)


def test_dev_names_the_extra_that_it_needs(image: str) -> None:
    """The embedded gateway's packages are not in the image: `kong-python dev` says how to install them."""
    done = run_once(image, "kong-python", "dev", options=["--no-healthcheck"])

    assert done.exit_code == 1
    assert "pip install 'kong-python[dev]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_advisory_is_known(image: str) -> None:
    """No package of the image has a known advisory. Skipped where no database can be reached."""
    done = subprocess.run([REPOSITORY / "scripts" / "audit.py", image], capture_output=True, text=True, check=False)
    if done.returncode == NO_DATABASE:
        pytest.skip(done.stderr.strip())

    assert done.returncode == 0, done.stdout + done.stderr
