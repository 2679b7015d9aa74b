"""Wire objects become the model's, and back."""

from datetime import UTC, datetime

import msgspec

from tessera.kube import wire
from tessera.kube.convert import gpu_node_object, gpu_node_of, pod_of
from tessera.kube.gateway import encode
from tessera.kube.resources import GPU_NODES
from tessera.model.gpus import Gpu, GpuNode, Health
from tessera.model.pods import Kind

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
        Gpu("GPU-1", "A100", 39 << 30, 40 << 30, 108, "8.0", 0, ("GPU-2",), Health(), 1),
        Gpu("GPU-2", "A100", 39 << 30, 40 << 30, 108, "8.0", -1, ("GPU-1",), Health(False, "Xid 79"), 0),
    ),
)


def test_a_gpu_node_survives_the_wire() -> None:
    obj = gpu_node_object(NODE, {"GPU-1": 3 << 30}, datetime(2026, 1, 2, tzinfo=UTC))
    again = GPU_NODES.decoder.decode(encode(GPU_NODES, obj))
    assert gpu_node_of(again) == NODE
    assert [gpu.allocated_bytes for gpu in again.status.gpus] == [3 << 30, 0]
    status = again.status
    assert (status.memory_total, status.memory_allocated, status.memory_free) == ("78Gi", "3Gi", "75Gi")
    assert (status.model, status.gpu_count, status.enforcement_level) == ("A100", 2, 0)
    assert status.health == "1 of 2 unhealthy: Xid 79"
    assert status.observed_at == "2026-01-02T00:00:00Z"
