"""Client nodes: off by default; with the pool on, a device plugin with slots alone on nodes that carry one label."""

from __future__ import annotations

from typing import Any

import pytest

from tessera.device_plugin.settings import DevicePluginSettings
from tests.chart.chart import NAMESPACE, Json, Rendered, refusal, render

ON: Json = {"pool.enabled": True}
NAME = "tessera-client-node"
KNOWN = {f"TESSERA_{field}".upper() for field in DevicePluginSettings.model_fields}


@pytest.fixture(scope="module")
def pool() -> Rendered:
    return render(ON)


def clients(**values: Any) -> Json:
    """What a client node's pod is made of, with these values of ``pool.clients``."""
    return render({**ON, "pool.clients": values}).pod_specs()[NAME]


def told(spec: Json) -> dict[str, str]:
    """The plain variables of the one container."""
    (container,) = spec["containers"]
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def test_there_is_nothing_of_it_until_the_pool_is_on() -> None:
    found = render({})
    assert not [o for o in found.objects if "client-node" in o["metadata"]["name"]]
    assert "tessera-leases" not in {o["metadata"]["name"] for o in found.all("ValidatingAdmissionPolicy")}
    assert "affinity" not in found.pod_specs()["tessera-node"]


def test_it_has_slots_and_no_agent(pool: Rendered) -> None:
    spec = pool.pod_specs()[NAME]
    variables = told(spec)
    settings = {f"TESSERA_{key}".upper() for key in ("log_level", "log_format")}
    assert {name for name in variables if name.startswith("TESSERA_")} <= KNOWN | settings
    assert variables["TESSERA_CLIENT_SLOTS"] == "32" and "TESSERA_AGENT_SOCKET" not in variables
    read = {key.removeprefix("TESSERA_").lower(): value for key, value in variables.items() if key in KNOWN}
    found = DevicePluginSettings(node="n", **read)  # type: ignore[arg-type]
    assert (found.client_slots, found.cri_socket) == (32, "/run/containerd/containerd.sock")
    mounts = {m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}
    assert str(found.pool_ca.parent) in mounts and str(found.state_dir.parent) in mounts


def test_the_host_is_reached_as_little_as_possible(pool: Rendered) -> None:
    spec = pool.pod_specs()[NAME]
    assert "hostPID" not in spec and "hostNetwork" not in spec
    paths = {v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v}
    assert paths == {"/var/lib/kubelet/device-plugins", "/var/lib/kubelet/pod-resources", "/var/run/cdi",
                     "/var/lib/tessera", "/run/containerd"}  # fmt: skip
    assert spec["enableServiceLinks"] is False and spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    (container,) = spec["containers"]
    hardened = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == {"runAsUser": 0, **hardened} and container["resources"]["limits"]["memory"]
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/var/lib/kubelet/device-plugins", "/var/run/cdi", "/var/lib/tessera", "/tmp"}


def test_the_pools_authority_comes_without_its_key(pool: Rendered) -> None:
    (volume,) = (v for v in pool.pod_specs()[NAME]["volumes"] if v["name"] == "pool-ca")
    items = [{"key": "ca.crt", "path": "ca.crt"}]
    assert volume["configMap"] == {"name": "tessera-pool-ca", "optional": True, "items": items}
    assert not [v for v in pool.pod_specs()[NAME]["volumes"] if "secret" in v]


@pytest.mark.parametrize(
    ("socket", "folder"), [("/run/crio/crio.sock", "/run/crio"), ("/run/k3s/containerd/containerd.sock", None)]
)
def test_the_runtime_is_reached_by_the_folder_of_its_socket(socket: str, folder: str | None) -> None:
    spec = clients(criSocket=socket)
    (mount,) = (m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "runtime")
    (volume,) = (v for v in spec["volumes"] if v["name"] == "runtime")
    path = folder or "/run/k3s/containerd"
    assert volume["hostPath"]["path"] == mount["mountPath"] == path
    assert mount["readOnly"] is True and mount["mountPropagation"] == "HostToContainer"
    assert told(spec)["TESSERA_CRI_SOCKET"] == socket


def test_a_runtime_that_is_not_asked_is_not_mounted() -> None:
    spec = clients(criSocket="")
    assert told(spec)["TESSERA_CRI_SOCKET"] == "" and "runtime" not in {v["name"] for v in spec["volumes"]}


def test_the_operator_chooses_the_nodes_and_those_of_gpus_leave_them_alone() -> None:
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"matchFields": []}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}, "podAffinity": {}}
    tolerations = [{"key": "x", "operator": "Exists"}]
    chosen = {"label": "a.example/kind=cpu", "tolerations": tolerations, "slots": 8}
    found = render({**ON, "pool.clients": chosen, "gpuNodes.affinity": affinity})
    spec = found.pod_specs()[NAME]
    assert {t["key"] for t in spec["tolerations"]} == {"tessera.io/gpu", "x"}
    assert told(spec)["TESSERA_CLIENT_SLOTS"] == "8" and spec["nodeSelector"] == {"a.example/kind": "cpu"}
    node = found.pod_specs()["tessera-node"]["affinity"]
    terms = node["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    elsewhere = {"key": "a.example/kind", "operator": "NotIn", "values": ["cpu"]}
    assert terms[0]["matchExpressions"] == [{"key": "a", "operator": "Exists"}, elsewhere]
    assert terms[1] == {"matchExpressions": [elsewhere], "matchFields": []} and "podAffinity" in node


def test_without_an_affinity_of_the_operators_gpu_nodes_are_all_but_these(pool: Rendered) -> None:
    node = pool.pod_specs()["tessera-node"]["affinity"]["nodeAffinity"]
    assert pool.pod_specs()[NAME]["nodeSelector"] == {"tessera.io/pool-client": "true"}
    elsewhere = {"key": "tessera.io/pool-client", "operator": "NotIn", "values": ["true"]}
    terms = [{"matchExpressions": [elsewhere]}]
    assert node == {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def test_rights_are_no_more_than_a_plugin_uses(pool: Rendered) -> None:
    rules = pool.one("ClusterRole", NAME)["rules"]
    assert {r: set(rule["verbs"]) for rule in rules for r in rule["resources"]} == {
        "pods": {"get", "list", "watch", "delete"}, "nodes": {"get", "list", "watch"}, "nodes/status": {"patch"},
        "gpunodes": {"create"}, "gpunodes/status": {"patch"}, "gpuleases": {"get", "list", "watch", "patch"},
        "events": {"get", "create", "patch"},
    }  # fmt: skip


def test_the_policies_of_nodes_hold_for_them_too(pool: Rendered) -> None:
    user = f"system:serviceaccount:{NAMESPACE}:{NAME}"
    for name in ("tessera-nodes", "tessera-capacity", "tessera-leases"):
        (condition,) = pool.one("ValidatingAdmissionPolicy", name)["spec"]["matchConditions"]
        assert f"'{user}'" in condition["expression"], name


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"slots": 0}, "slots"),
        ({"slots": 1025}, "slots"),
        ({"label": "tessera.io/pool-client"}, "label"),
        ({"label": "a=b=c"}, "label"),
        ({"criSocket": "containerd.sock"}, "criSocket"),
        ({"criSocket": "/run/docker.sock"}, "criSocket"),
        ({"selector": {}}, "selector"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: Json, field: str) -> None:
    assert field in refusal({**ON, "pool.clients": values})
