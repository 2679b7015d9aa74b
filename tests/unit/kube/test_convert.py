"""Wire objects become the model's, and back."""

from datetime import UTC, datetime

import msgspec
import pytest

from tessera.kube import wire
from tessera.kube.convert import gpu_node_object, gpu_node_of, host_of, pod_of, told_gpu_node_of
from tessera.kube.gateway import encode
from tessera.kube.resources import GPU_NODES
from tessera.model.gpus import Gpu, GpuCondition, GpuNode, Health
from tessera.model.hosts import Host
from tessera.model.pods import Kind
from tessera.model.quantities import GIB

POD = b"""{
  "metadata": {"name": "p", "namespace": "ns", "uid": "u", "annotations": {"tessera.io/placement": "pack"},
    "creationTimestamp": null, "deletionTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "x"}]},
  "spec": {"nodeName": "n", "schedulerName": "tessera", "priority": 7, "preemptionPolicy": "Never",
    "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
    "containers": [{"name": "c", "resources": {"limits":
      {"tessera.io/gpu-mem": "4Gi", "cpu": 0.5, "tessera.io/gpu": 2}}}],
    "ephemeralContainers": [{"name": "e"}], "resources": {"limits": {"cpu": "1"}}},
  "status": {"phase": "Running"}}"""


def test_a_pod_as_the_scheduler_reads_it() -> None:
    pod = pod_of(msgspec.json.decode(POD, type=wire.Pod))
    assert (pod.key, pod.uid, pod.node, pod.phase, pod.scheduler) == ("ns/p", "u", "n", "Running", "tessera")
    assert pod.deleting and not pod.may_preempt and pod.priority == 7 and pod.resources == {"cpu": "1"}
    assert [(c.name, c.field, c.kind) for c in pod.containers] == [
        ("i", "spec.initContainers[i]", Kind.INIT),
        ("s", "spec.initContainers[s]", Kind.SIDECAR),
        ("c", "spec.containers[c]", Kind.APP),
        ("e", "spec.ephemeralContainers[e]", Kind.EPHEMERAL),
    ]
    assert pod.containers[2].limits == {"tessera.io/gpu-mem": "4Gi", "cpu": "0.5", "tessera.io/gpu": "2"}


def test_an_empty_pod_has_the_api_servers_defaults() -> None:
    pod = pod_of(msgspec.json.decode(b"{}", type=wire.Pod))
    assert (pod.node, pod.phase, pod.deleting, pod.may_preempt, pod.containers) == ("", "Pending", False, True, ())


NODE = GpuNode(
    "n1",
    (
        Gpu("GPU-1", "A100", 39 << 30, 40 << 30, 108, "8.0", 0, ("GPU-2",), Health(), 1, "an MPS server answers"),
        Gpu(
            "GPU-2",
            "A100",
            39 << 30,
            40 << 30,
            108,
            "8.0",
            -1,
            ("GPU-1",),
            Health(False, "Xid 79"),
            0,
            conditions=(GpuCondition("SliceFilesChanged", "written again"),),
        ),
    ),
)


def test_a_gpu_node_survives_the_wire() -> None:
    obj = gpu_node_object(NODE, {"GPU-1": 3 << 30}, datetime(2026, 1, 2, tzinfo=UTC))
    again = GPU_NODES.decoder.decode(encode(GPU_NODES, obj))
    assert told_gpu_node_of(again) == NODE
    assert [(gpu.evidence, gpu.conditions) for gpu in gpu_node_of(again).gpus] == [("", ()), ("", ())]
    assert [gpu.allocated_bytes for gpu in again.status.gpus] == [3 << 30, 0]
    status = again.status
    assert (status.memory_total, status.memory_allocated, status.memory_free) == ("78Gi", "3Gi", "75Gi")
    assert (status.model, status.gpu_count, status.enforcement_level) == ("A100", 2, 0)
    assert status.health == "1 of 2 unhealthy: Xid 79"
    assert status.observed_at == "2026-01-02T00:00:00Z"


def need_of(spec: str) -> tuple[int, int]:
    host = pod_of(msgspec.json.decode(f'{{"spec": {spec}}}'.encode(), type=wire.Pod)).host
    return host.cpu_milli, host.memory_bytes


def asks(cpu: str, memory: str, extra: str = "") -> str:
    return f'{{"name": "c", "resources": {{"requests": {{"cpu": "{cpu}", "memory": "{memory}"}}}}{extra}}}'


SIDECAR = ', "restartPolicy": "Always"'


@pytest.mark.parametrize(
    ("spec", "cpu_milli", "memory_bytes"),
    [
        pytest.param("{}", 0, 0, id="nothing"),
        pytest.param(f'{{"containers": [{asks("1500m", "1Gi")}, {asks("0.5", "500M")}]}}', 2000, GIB + 500 * 10**6,
                     id="containers add up"),
        pytest.param(f'{{"containers": [{asks("1", "1Gi")}], "initContainers": [{asks("3", "512Mi")}]}}', 3000, GIB,
                     id="the larger of start and run, each dimension by itself"),
        pytest.param(f'{{"containers": [{asks("1", "1")}], "initContainers": [{asks("2", "1", SIDECAR)}]}}', 3000, 2,
                     id="sidecars run beside the app"),
        pytest.param(f'{{"containers": [{asks("1", "1")}], "initContainers": '
                     f'[{asks("2", "1", SIDECAR)}, {asks("4", "1")}, {asks("2", "1", SIDECAR)}]}}', 6000, 3,
                     id="an init step runs beside the sidecars before it"),
        pytest.param(f'{{"containers": [{asks("1", "1")}], "initContainers": '
                     f'[{asks("4", "1")}, {asks("2", "1", SIDECAR)}]}}', 4000, 2,
                     id="but not beside those after it"),
        pytest.param(f'{{"containers": [{asks("1", "1Gi")}], "overhead": {{"cpu": "250m", "memory": "1Mi"}}}}', 1250,
                     GIB + (1 << 20), id="overhead"),
        pytest.param(f'{{"containers": [{asks("1", "1Gi")}], "resources": {{"requests": {{"cpu": "4"}}}}, '
                     f'"overhead": {{"cpu": "1"}}}}', 5000, GIB, id="the pod's own request wins where it is given"),
        pytest.param('{"containers": [{"resources": {"limits": {"cpu": "2", "memory": "1Gi"}, '
                     '"requests": {"cpu": "0.0001"}}}]}', 1, GIB, id="limits stand in, thousandths are rounded up"),
        pytest.param('{"containers": [{"resources": {"requests": {"cpu": "much", "memory": "-1"}}}]}', 0, 0,
                     id="nonsense counts nothing"),
    ],
)  # fmt: skip
def test_what_a_pod_needs_of_its_host(spec: str, cpu_milli: int, memory_bytes: int) -> None:
    assert need_of(spec) == (cpu_milli, memory_bytes)


def test_a_host_as_the_scheduler_reads_it() -> None:
    node = b"""{"metadata": {"name": "n", "labels":
      {"topology.kubernetes.io/zone": "z", "topology.tessera.io/rack": "r"}},
      "status": {"capacity": {"cpu": "8", "memory": "64Gi"}, "allocatable": {"cpu": "7910m", "memory": "63Gi"}}}"""
    assert host_of(msgspec.json.decode(node, type=wire.Node)) == Host("n", 7910, 63 * GIB, "z", "r")
    plain = wire.Node(metadata=wire.ObjectMeta(name="n", labels={"topology.kubernetes.io/rack": "k"}))
    assert host_of(plain) == Host("n", 0, 0, "", "k")


@pytest.mark.parametrize(
    ("text", "gbps"), [("25", 25), ("0", 0), ("", 0), ("fast", 0), ("-1", 0), ("2.5", 0), ("1000000", 0), ("²", 0)]
)
def test_how_fast_its_network_is_says_a_label(text: str, gbps: int) -> None:
    meta = wire.ObjectMeta(name="n", labels={"topology.tessera.io/network-gbps": text})
    assert host_of(wire.Node(metadata=meta)).gbps == gbps


@pytest.mark.parametrize(
    ("spec", "closed", "cordoned"),
    [
        ({}, False, False),
        ({"unschedulable": True}, True, True),
        ({"taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}, True, True),
        ({"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}, True, False),
        ({"taints": [{"key": "team.example/gpus", "effect": "NoSchedule"}]}, False, False),
    ],
)
def test_a_node_that_is_cordoned_is_told_from_one_that_is_not_well(
    spec: dict[str, object], closed: bool, cordoned: bool
) -> None:
    found = host_of(msgspec.convert({"metadata": {"name": "n"}, "spec": spec}, wire.Node))
    assert (found.closed, found.cordoned) == (closed, cordoned)
