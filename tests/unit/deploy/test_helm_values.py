"""The values for Kong's Helm chart name existing things and agree with each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kong_pdk import __version__, settings
from unit.deploy import manifests
from unit.deploy.manifests import HELM, KONG_OPTIONS, KUBERNETES

ROLES = {"control-plane.yaml": "control_plane", "data-plane.yaml": "data_plane", "db-less.yaml": "traditional"}
# The chart's paths, as its own README gives them.
DATA_DIR = "/var/lib/kong-python"
CHARTS_PLUGINS, CHARTS_SECRETS = "/opt/kong/plugins", "/etc/secrets"


def named(name: str) -> Any:
    return manifests.read(KUBERNETES / "helm" / name)


def test_each_role_has_values() -> None:
    assert {path.name for path in HELM} == {*ROLES}


@pytest.fixture(params=HELM, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def values(path: Path) -> Any:
    return manifests.read(path)


def test_the_image(values: Any) -> None:
    assert (values["image"]["repository"], values["image"]["tag"]) == ("kong-python", __version__)
    # Without the setting, the chart would take our version for Kong's.
    assert values["image"]["effectiveSemver"].startswith("3.")


def test_the_variables_are_known(path: Path, values: Any) -> None:
    """The chart makes KONG_NAME from each name in ``env``."""
    environ = {f"KONG_{name.upper()}": str(value) for name, value in values["env"].items()}
    assert settings.check(environ) == []
    for name in environ:
        assert name.startswith(settings.PREFIX) or name.removeprefix("KONG_").lower() in KONG_OPTIONS, name
    assert environ.get("KONG_ROLE", "traditional") == ROLES[path.name]


def test_the_plugins_are_at_the_image_s_path(values: Any) -> None:
    assert settings.PLUGINS_DIR.default == CHARTS_PLUGINS
    names = [plugin["pluginName"] for plugin in values["plugins"]["configMaps"]]
    assert names == [file.stem for file in (KUBERNETES / "plugins").iterdir()]


def test_the_folders_that_the_image_writes_to_are_mounted(values: Any) -> None:
    """The chart makes the root file system read-only."""
    volumes = {volume["name"]: volume for volume in values["deployment"]["userDefinedVolumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in values["deployment"]["userDefinedVolumeMounts"]}
    assert {*mounts} == {settings.RUN_DIR.default, DATA_DIR}
    assert all("emptyDir" in volumes[name] for name in mounts.values())


def test_the_certificates_are_mounted(values: Any) -> None:
    for value in values["env"].values():
        if str(value).startswith(CHARTS_SECRETS):
            assert str(value).split("/")[3] in values["secretVolumes"]


@pytest.mark.parametrize("name", ["data-plane.yaml", "db-less.yaml"])
def test_a_serving_node_is_ready_with_its_plugins(name: str) -> None:
    values = named(name)
    probe = values["readinessProbe"]
    assert probe["exec"]["command"] == ["kong-python", "health", "--ready"]
    # Kubernetes refuses a probe with two methods, and the chart's default has this one.
    assert "httpGet" in probe
    assert probe["httpGet"] is None
    startup = values["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= settings.START_SECONDS.read({}) * 2
    # 15 seconds of preStop, 10 of kong quit, and 7 for the plugin servers.
    assert values["terminationGracePeriodSeconds"] >= 15 + 10 + 7


def test_both_planes_have_the_same_plugins_and_certificate() -> None:
    control, data = named("control-plane.yaml"), named("data-plane.yaml")
    assert control["plugins"] == data["plugins"]
    assert control["secretVolumes"] == data["secretVolumes"]
    assert control["image"] == data["image"]
    port = control["cluster"]["tls"]["servicePort"]
    assert data["env"]["cluster_control_plane"] == f"control-plane-kong-cluster:{port}"
