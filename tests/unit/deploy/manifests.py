"""Reads the files of deploy/kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
HELM = sorted((KUBERNETES / "helm").glob("*.yaml"))

KONG_OPTIONS = (
    (REPOSITORY / "docker/embedded/files/usr/local/share/kong-embedded/options.txt").read_text("utf-8").split()
)


def read(path: Path) -> Any:
    """Give the one document of a YAML file."""
    return yaml.safe_load(path.read_text("utf-8"))


def kustomization() -> Any:
    return read(KUBERNETES / "kustomization.yaml")


def resources() -> list[Any]:
    """Give the resources that kustomization.yaml lists, in order."""
    return [read(KUBERNETES / name) for name in kustomization()["resources"]]


def resource(kind: str) -> Any:
    """Give the resource of this kind."""
    [found] = [each for each in resources() if each["kind"] == kind]
    return found


def pod() -> Any:
    return resource("Deployment")["spec"]["template"]["spec"]


def container() -> Any:
    [only] = pod()["containers"]
    return only


def environment() -> dict[str, str]:
    """The container's variables."""
    return {each["name"]: each["value"] for each in container()["env"]}


def mounts() -> dict[str, Any]:
    """Give the container's volumes by their mount paths."""
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    return {mount["mountPath"]: volumes[mount["name"]] for mount in container()["volumeMounts"]}
