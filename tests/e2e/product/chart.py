"""The chart's objects, rendered by helm and put into the cluster, and what the processes need of them.

Deployments and the DaemonSet stay out: there is no image registry here, so the same command lines run as processes
on the host. Services lead to them by EndpointSlices.
"""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from tests.e2e.cluster.api import Json
from tests.e2e.cluster.cluster import Cluster

CHART = Path(__file__).parents[3] / "charts" / "tessera"
NAMESPACE = "tessera-system"
_PROCESSES = ("Deployment", "DaemonSet")


class Chart:
    """The rendered objects of one release."""

    def __init__(self, cluster: Cluster, *values: str) -> None:
        self._cluster = cluster
        options = [option for value in values for option in ("--set", value)]
        command = ["template", "tessera", str(CHART), "--include-crds", "--namespace", NAMESPACE, *options]
        rendered = cluster.kubectl().helm(*command).stdout
        self.objects: list[Json] = [each for each in yaml.safe_load_all(rendered) if each]

    def install(self, address: str) -> None:
        """Applies the objects; Services lead to ``address`` on the ports that the containers would listen on."""
        api = self._cluster.api
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        first = [each for each in self.objects if each["kind"] == "CustomResourceDefinition"]
        api.apply(*first)
        api.apply(*[each for each in self.objects if each not in first and each["kind"] not in _PROCESSES])
        for service in self.of_kind("Service"):
            api.create(_endpoints(service, address))

    def of_kind(self, kind: str) -> list[Json]:
        return [each for each in self.objects if each["kind"] == kind]

    def find(self, kind: str, name: str) -> Json:
        return next(each for each in self.of_kind(kind) if each["metadata"]["name"] == name)

    def secret_files(self, name: str, directory: Path) -> Path:
        """Writes a Secret's files as a mount would; answers the folder."""
        folder = directory / name
        folder.mkdir(parents=True)
        for key, value in self.find("Secret", name)["data"].items():
            (folder / key).write_bytes(base64.b64decode(value))
        return folder

    def environment(self, kind: str, workload: str, container: str) -> dict[str, str]:
        """The plain variables that the chart gives a container."""
        spec = self.find(kind, workload)["spec"]["template"]["spec"]
        found = next(each for each in spec["containers"] if each["name"] == container)
        return {each["name"]: each["value"] for each in found.get("env", ()) if "value" in each}

    def kube_scheduler(self) -> Json:
        """The chart's configuration of kube-scheduler."""
        text = self.find("ConfigMap", "tessera-kube-scheduler")["data"]["config.yaml"]
        config: Json = yaml.safe_load(text)
        return config


def _endpoints(service: Json, address: str) -> Json:
    name = service["metadata"]["name"]
    numbers = {"webhook": 9443, "extender": 8443, "http": 8484, "gates": 8444}
    ports = [{"name": each["name"], "port": numbers[each["name"]]} for each in service["spec"]["ports"]]
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": f"{name}-processes", "namespace": NAMESPACE,
                     "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}], "ports": ports,
    }  # fmt: skip
