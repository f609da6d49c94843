"""The image runs with the manifests of deploy/kubernetes: their user, rights, variables, volumes and probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from container.containers import Finished
from container.log_lines import Expected
from container.product import Kong, Launcher
from unit.deploy import manifests
from unit.deploy.manifests import KUBERNETES

STOPPED_SERVER = Expected(
    "kong", "warn|error", r"greet|(pb|mp)_rpc\.lua", "the test stopped this plugin's server under Kong"
)
# A version of a ConfigMap, as the kubelet names its folder.
REVISION = "..2026_11_23_08_00_00.123456789"


def config_map(launcher: Launcher, name: str) -> Path:
    """Lay out a ConfigMap of kustomization.yaml as the kubelet does: each key is a link to another link."""
    [generator] = [each for each in manifests.kustomization()["configMapGenerator"] if each["name"] == name]
    return linked(launcher, *(KUBERNETES / file for file in generator["files"]))


def linked(launcher: Launcher, *files: Path) -> Path:
    folder = launcher.folder({f"{REVISION}/{file.name}": file for file in files})
    (folder / "..data").symlink_to(REVISION)
    for file in files:
        (folder / file.name).symlink_to(Path("..data") / file.name)
    return folder


def volume_options(launcher: Launcher) -> list[str]:
    """The volumes as options of docker run. Every user can write to an emptyDir and run programs from it."""
    options = []
    for path, volume in manifests.mounts().items():
        if "configMap" in volume:
            options.append(f"--volume={config_map(launcher, volume['configMap']['name'])}:{path}:ro")
        else:
            size = volume["emptyDir"]["sizeLimit"].removesuffix("i").lower()
            options.append(f"--tmpfs={path}:exec,mode=0777,size={size}")
    return options


def security_options() -> list[str]:
    """The security context. Kubernetes's RuntimeDefault is the engine's own seccomp profile."""
    pod, container = manifests.pod()["securityContext"], manifests.container()["securityContext"]
    assert container["readOnlyRootFilesystem"] and not container["allowPrivilegeEscalation"]
    return [
        f"--user={pod['runAsUser']}:{pod['runAsGroup']}",
        *(f"--cap-drop={capability}" for capability in container["capabilities"]["drop"]),
        "--security-opt=no-new-privileges",
        "--read-only",
    ]


def port(name: str) -> int:
    [found] = [each["containerPort"] for each in manifests.container()["ports"] if each["name"] == name]
    return int(found)


def probe(kong: Kong, name: str) -> Finished:
    """Run an exec probe of the manifest as the kubelet would."""
    return kong.exec(*manifests.container()[name]["exec"]["command"], check=False)


@pytest.fixture
def pod(kong: Launcher) -> Kong:
    """Start a container with the settings of the Deployment's pod."""
    manifest = manifests.container()
    assert not {"command", "args"} & {*manifest}, "the image's own command is run"
    # Docker writes KiB, MiB and GiB without the i.
    memory = manifest["resources"]["limits"]["memory"].removesuffix("i").lower()
    return kong.start(
        env=manifests.environment(),
        options=[*security_options(), *volume_options(kong), f"--memory={memory}"],
        ports=(port("proxy"), port("proxy-tls"), port("status")),
        expected=[STOPPED_SERVER],
    )


def becomes_ready(kong: Kong) -> None:
    kong.wait_for(lambda: probe(kong, "startupProbe").exit_code == 0, "the startup probe passes")
    done = probe(kong, "readinessProbe")
    assert done.exit_code == 0, done.output


def is_alive(kong: Kong) -> bool:
    get: Any = manifests.container()["livenessProbe"]["httpGet"]
    return kong.request(get["path"], port=port(get["port"])).status == 200


def test_the_pod_of_the_manifests(pod: Kong) -> None:
    """With the manifests' settings, the pod becomes ready, and serves the ConfigMap's plugin over HTTP and TLS."""
    becomes_ready(pod)

    assert is_alive(pod)
    assert pod.wait_until_serving().headers["x-greeting"] == "hello from Kubernetes"
    assert pod.https().headers["x-greeting"] == "hello from Kubernetes"


def test_a_pod_without_a_plugin_server_gets_no_requests(pod: Kong) -> None:
    """While a plugin server is down, the readiness probe fails and names it; the pod is not killed."""
    becomes_ready(pod)
    pod.exec("supervisorctl", "stop", "plugins:greet")
    done = probe(pod, "readinessProbe")

    assert done.exit_code == 1
    assert "greet: its plugin server" in done.stderr
    assert is_alive(pod)
    pod.exec("supervisorctl", "start", "plugins:greet")
    becomes_ready(pod)


def test_a_pod_ends_in_its_time(pod: Kong) -> None:
    """preStop, then the signal: the pod ends with 0 long before the grace period is over."""
    becomes_ready(pod)
    pod.exec(*manifests.container()["lifecycle"]["preStop"]["exec"]["command"])

    assert pod.stop(manifests.pod()["terminationGracePeriodSeconds"]) == 0


# Variables that Kong's chart adds to the values' own ``env``. Its release is called kong-python, so variables of its
# Services begin with KONG_PYTHON_, too.
CHARTS_ENVIRONMENT = {
    "KONG_PREFIX": "/kong_prefix/",
    "KONG_DECLARATIVE_CONFIG": "/kong_dbless/kong.yml",
    "KONG_ADMIN_LISTEN": "off",
    "KONG_ADMIN_GUI_LISTEN": "off",
    "KONG_STATUS_LISTEN": "0.0.0.0:8100, [::]:8100",
    "KONG_LUA_PACKAGE_PATH": "/opt/?.lua;/opt/?/init.lua;;",
    "KONG_NGINX_DAEMON": "off",
    "KONG_PROXY_ACCESS_LOG": "/dev/stdout",
    "KONG_PROXY_ERROR_LOG": "/dev/stderr",
    "KONG_PYTHON_KONG_PROXY_SERVICE_HOST": "10.0.0.7",
    "KONG_PYTHON_KONG_PROXY_SERVICE_PORT_KONG_PROXY_TLS": "443",
    "KONG_PYTHON_KONG_PROXY_PORT_80_TCP_ADDR": "10.0.0.7",
}
CHARTS_RIGHTS = ("--user=1000", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only")


def start_as_the_chart_does(launcher: Launcher, values: Any, plugin: str) -> Kong:
    """Start a container with the values' variables and volumes, and the chart's additions: a folder for each plugin."""
    written = ["/kong_prefix", "/tmp", *(each["mountPath"] for each in values["deployment"]["userDefinedVolumeMounts"])]
    source = linked(launcher, KUBERNETES / "plugins" / f"{plugin}.py")
    config = linked(launcher, KUBERNETES / "kong.yml")
    return launcher.start(
        env={
            **CHARTS_ENVIRONMENT,
            "KONG_PLUGINS": f"bundled,{plugin}",
            **{f"KONG_{key.upper()}": str(value) for key, value in values["env"].items()},
        },
        options=[
            *CHARTS_RIGHTS,
            *(f"--tmpfs={path}:exec,mode=0777" for path in written),
            f"--volume={source}:/opt/kong/plugins/{plugin}:ro",
            f"--volume={config}:/kong_dbless:ro",
        ],
    )


def test_the_pod_of_kongs_helm_chart(kong: Launcher) -> None:
    """A pod that Kong's chart makes from our values becomes ready, serves, and is stopped by the chart's preStop."""
    values = manifests.read(KUBERNETES / "helm" / "db-less.yaml")
    [plugin] = values["plugins"]["configMaps"]
    container = start_as_the_chart_does(kong, values, plugin["pluginName"])
    command = values["readinessProbe"]["exec"]["command"]
    container.wait_for(lambda: container.exec(*command, check=False).exit_code == 0, "ready")

    assert container.wait_until_serving().headers["x-greeting"] == "hello from Kubernetes"
    # The command ends Kong, and with Kong the container.
    container.exec("kong", "quit", "--wait=1", check=False)
    assert container.wait_exit() == 0
