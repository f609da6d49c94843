"""The manifests are valid for Kubernetes and agree with the image and with each other."""

from __future__ import annotations

import copy
from pathlib import PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
from kong_pdk import __version__, settings
from kong_pdk.commands import check
from unit.deploy import manifests
from unit.deploy.manifests import KONG_OPTIONS, KUBERNETES

# The oldest version that the page names, and the newest whose schemas are known.
VERSIONS = ("1.28", kubernetes_validate.latest_version())
# The seconds that operator.md adds to the drain, for a Kong and for servers that do not end by themselves.
AFTER_DRAIN_SECONDS = 7
DATA_DIR = "/var/lib/kong-python"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("resource", manifests.resources(), ids=lambda resource: resource["kind"])
def test_kubernetes_accepts_each_resource(resource: Any, version: str) -> None:
    kubernetes_validate.validate(resource, version, strict=True)


def test_a_field_that_kubernetes_lacks_is_refused() -> None:
    wrong = copy.deepcopy(manifests.resource("Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="redinessProbe"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_the_kustomization_names_every_file() -> None:
    named = manifests.kustomization()
    assert {KUBERNETES / name for name in named["resources"]} | {KUBERNETES / "kustomization.yaml"} == set(
        KUBERNETES.glob("*.yaml")
    )
    files = {name for generator in named["configMapGenerator"] for name in generator["files"]}
    assert files == {"kong.yml", *(f"plugins/{path.name}" for path in (KUBERNETES / "plugins").iterdir())}


def test_the_pod_mounts_the_generated_config_maps() -> None:
    made = {generator["name"] for generator in manifests.kustomization()["configMapGenerator"]}
    assert {volume["configMap"]["name"] for volume in manifests.pod()["volumes"] if "configMap" in volume} == made


def test_the_image() -> None:
    [image] = manifests.kustomization()["images"]
    assert manifests.container()["image"] == f"{image['name']}:{image['newTag']}" == f"kong-python:{__version__}"


def test_the_plugins_and_kong_yml_are_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    status = check.main([str(KUBERNETES / "kong.yml"), "--plugins", str(KUBERNETES / "plugins")])
    assert status == 0, capsys.readouterr().err


def test_every_variable_is_known_and_has_a_meaning() -> None:
    environ = manifests.environment()
    assert settings.check(environ) == []
    for name in environ:
        assert name.startswith(settings.PREFIX) or name.removeprefix("KONG_").lower() in KONG_OPTIONS, name


def test_the_mounts_are_at_the_image_s_paths() -> None:
    mounts, environ = manifests.mounts(), manifests.environment()
    assert mounts[settings.PLUGINS_DIR.default]["configMap"]
    assert mounts[str(PurePosixPath(environ["KONG_DECLARATIVE_CONFIG"]).parent)]["configMap"]
    for path in (environ["KONG_PREFIX"], settings.RUN_DIR.default, DATA_DIR, "/tmp"):
        # In memory it would count as the container's memory, and have the node's mount options.
        assert set(mounts[path]["emptyDir"]) == {"sizeLimit"}
    assert len(mounts) == len(manifests.pod()["volumes"]) == 6


def test_a_folder_of_plugins_cannot_be_written() -> None:
    volumes = {volume["name"]: volume for volume in manifests.pod()["volumes"]}
    for mount in manifests.container()["volumeMounts"]:
        assert mount.get("readOnly", False) == ("configMap" in volumes[mount["name"]])


def test_the_pod_has_time_to_end() -> None:
    command = manifests.container()["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    drain = settings.DRAIN_SECONDS.read(manifests.environment())
    assert manifests.pod()["terminationGracePeriodSeconds"] >= int(command[1]) + drain + AFTER_DRAIN_SECONDS


def test_a_start_has_enough_time() -> None:
    probe = manifests.container()["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= settings.START_SECONDS.read({}) * 2


def test_the_probes() -> None:
    container = manifests.container()
    assert container["readinessProbe"]["exec"] == container["startupProbe"]["exec"]
    assert container["readinessProbe"]["exec"]["command"] == ["kong-python", "health", "--ready"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    status = ports[container["livenessProbe"]["httpGet"]["port"]]
    assert manifests.environment()["KONG_STATUS_LISTEN"].endswith(f":{status}")


def test_the_service_finds_the_pods() -> None:
    deployment, service = manifests.resource("Deployment"), manifests.resource("Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    ports = {port["name"]: port["containerPort"] for port in manifests.container()["ports"]}
    for port in service["spec"]["ports"]:
        assert f":{ports[port['targetPort']]}" in manifests.environment()["KONG_PROXY_LISTEN"]
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert manifests.resource(kind)["spec"][field]["matchLabels"] == labels


def test_the_pod_meets_the_restricted_standard() -> None:
    """The Pod Security Standard "restricted", and a read-only root file system."""
    pod, container = manifests.pod()["securityContext"], manifests.container()["securityContext"]
    assert pod["runAsNonRoot"] and pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert {*pod} == {"runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile"}
    assert not manifests.pod()["automountServiceAccountToken"]
    assert not manifests.pod()["enableServiceLinks"]
