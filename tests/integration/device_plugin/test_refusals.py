"""Containers that may not start, and what becomes of their pods."""

from dataclasses import replace

import grpc
import pytest

from tessera.kube.resources import GPU_NODES, RESOURCE_SLICES, untyped
from tessera.model.assignment import Share
from tessera.model.gpus import Health
from tessera.pb.agent.v1 import agent_pb2
from tests.integration.device_plugin.host import GIB, NODE, Host, eventually, gpus

SHARE = Share("GPU-0", 4 * GIB)


@pytest.mark.parametrize(
    ("annotation", "reason", "says"),
    [
        (None, "NoAssignment", "has no tessera.io/assignment"),
        ('{"version":"1","containers":{}}', "InvalidAssignment", "found version '1'; allowed: 1"),
        ("{oops", "InvalidAssignment", "is not JSON"),
        (
            '{"version":1,"containers":{"main":{"gpus":[{"uuid":"GPU-0","mem":42949672960,"core":0}]}}}',
            "InvalidAssignment",
            "asks for",
        ),
    ],
)
async def test_what_no_retry_can_mend_ends_the_pod_with_an_event(
    annotation: str | None, reason: str, says: str
) -> None:
    async with Host() as host:
        await host.place("forged", {"main": SHARE}, annotation=annotation)
        await eventually(lambda: host.phase("forged") == "gone", "pod ended")
        await eventually(lambda: any(says in text for text in host.events(reason)), f"event {reason}")
        assert not host.runtime.started and not host.specs()
        await host.place("good", {"main": SHARE})
        await host.running("good")


async def test_an_assignment_of_an_unknown_newer_version_starts_nothing_and_ends_nothing() -> None:
    async with Host(patience_s=0) as host:
        await host.place("ahead", {"main": SHARE}, annotation='{"version":7,"containers":{}}')
        await eventually(lambda: "found version 7; allowed: 1" in host.waiting("ahead"), "the reason on the pod")
        await host.place("good", {"main": SHARE})
        await host.running("good")
        assert host.phase("ahead") == "Pending" and host.agent.prepares == 1


async def test_over_commit_by_a_former_leader_ends_the_newcomer_only() -> None:
    async with Host() as host:
        await host.place("first", {"main": Share("GPU-0", 30 * GIB)})
        await host.running("first")
        await host.place("second", {"main": Share("GPU-0", 20 * GIB)})
        await eventually(lambda: host.phase("second") == "gone", "second ended")
        assert host.phase("first") == "Running"
        await eventually(lambda: host.events("OverCommitted"), "event")
        assert [c.name for c in host.runtime.started] == ["main"]


async def test_room_that_is_being_released_is_waited_for() -> None:
    async with Host() as host:
        first = await host.place("first", {"main": Share("GPU-0", 30 * GIB)})
        await host.running("first")
        host.agent.processes = [agent_pb2.Process(pid=7, gpu_uuid="GPU-0", pod_uid=first, container_id="x")]
        await host.delete("first", grace_s=0)
        await eventually(lambda: host.phase("first") == "gone", "first gone")
        await host.place("second", {"main": Share("GPU-0", 20 * GIB)})
        await eventually(lambda: "is being released" in host.waiting("second"), "second waits")
        assert host.phase("second") == "Pending" and not host.agent.released
        host.agent.processes = []
        await host.running("second")


async def test_a_gpu_of_another_node_ends_the_pod_after_some_patience() -> None:
    async with Host() as host:
        await host.place("lost", {"main": Share("GPU-elsewhere", 4 * GIB)})
        await eventually(lambda: "is not on this node" in host.waiting("lost"), "it waits first")
        await eventually(lambda: host.phase("lost") == "gone", "then it ends")


async def test_a_sick_gpu_starts_nothing_until_it_is_back() -> None:
    async with Host(patience_s=60) as host:
        well = host.gpus
        host.agent.set_gpus([replace(gpu, health=Health(False, "Xid 79")) for gpu in well])
        await eventually(lambda: not host.plugin.inventory.gpus["GPU-0"].health.healthy, "health seen")
        assert host.allocatable()["tessera.io/gpu-mem"] == str(80 * GIB), "capacity is the installed size"
        await host.place("web", {"main": SHARE})
        await eventually(lambda: "Xid 79" in host.waiting("web"), "the reason on the pod")
        host.agent.set_gpus(well)
        await host.running("web")


async def test_an_agent_that_is_away_or_not_ready_is_waited_for() -> None:
    async with Host() as host:
        host.agent.refuse = (grpc.StatusCode.UNAVAILABLE, "MPS is starting")
        await host.place("web", {"main": SHARE})
        await eventually(lambda: "MPS is starting" in host.waiting("web"), "the agent's words")
        assert not host.specs()
        host.agent.refuse = None
        await host.running("web")


async def test_prestart_answers_within_its_deadline_whatever_hangs() -> None:
    async with Host(prestart_deadline_s=0.5) as host:
        host.agent.willing.clear()
        await host.place("web", {"main": SHARE})
        await eventually(lambda: "not prepared within 0.5 s" in host.waiting("web"), "said so")
        assert not host.specs() and not host.runtime.started
        host.agent.willing.set()
        await host.running("web")


async def test_an_agent_that_can_never_hold_the_slice_ends_the_pod() -> None:
    async with Host() as host:
        host.agent.refuse = (grpc.StatusCode.FAILED_PRECONDITION, "level 1 is not there")
        await host.place("web", {"main": SHARE})
        await eventually(lambda: host.phase("web") == "gone", "pod ended")


async def test_a_truncated_nvidia_spec_holds_up_its_pods_and_names_the_file() -> None:
    async with Host() as host:
        path = host.nvidia / "nvidia.yaml"
        path.write_text("---\ncdiVersion: 0.5.0\ncontainerEdits:\n  env:\n  - NVIDIA_VIS")
        await host.place("web", {"main": SHARE})
        await eventually(lambda: str(path) in host.waiting("web"), "the file is named")
        assert host.phase("web") == "Pending" and not host.runtime.started
        path.unlink()
        await host.running("web")


async def test_a_kubelet_checkpoint_that_disagrees_starts_nothing() -> None:
    async with Host() as host:
        host.agent.refuse = (grpc.StatusCode.UNAVAILABLE, "not yet")
        await host.place("web", {"main": SHARE})
        await eventually(lambda: "not yet" in host.waiting("web"), "PreStart was asked")
        path = host.kubelet.settings.plugins / "kubelet_internal_checkpoint"
        good = path.read_text()
        path.write_text(good.replace(str((host.pod("web") or {})["metadata"]["uid"]), "somebody-else"))
        host.agent.refuse = None
        await eventually(lambda: "somebody-else" in host.waiting("web"), "the mismatch is said")
        path.write_text(good[:30])
        await eventually(lambda: "not a device checkpoint" in host.waiting("web"), "a torn file is said")
        assert not host.runtime.started
        path.write_text(good)
        await host.running("web")


async def test_a_restart_waits_for_the_gpu_processes_of_the_containers_former_life() -> None:
    async with Host() as host:
        uid = await host.place("web", {"main": SHARE})
        await host.running("web")
        first = host.container("web")
        host.agent.processes = [agent_pb2.Process(pid=99, gpu_uuid="GPU-0", pod_uid=uid, container_id=first.id)]
        host.runtime.running[first.id].exit(1)
        await eventually(lambda: "GPU process 99" in host.waiting("web"), "it waits")
        host.agent.processes = []
        await eventually(lambda: host.container("web").id != first.id, "then it starts")


async def test_nvidias_plugin_on_the_same_node_is_a_conflict() -> None:
    async with Host(gpus(1)) as host:
        node = host.api.store.get("nodes", "", NODE) or {}
        status = node["status"]
        for side in ("capacity", "allocatable"):
            status[side] = {**status[side], "nvidia.com/gpu": "1"}
        host.api.store.put("nodes", {**node, "status": status})

        def conflict() -> bool:
            found = host.api.store.get("gpunodes", "", NODE) or {}
            published = (found.get("status") or {}).get("gpus") or [{}]
            return "Conflict" in str(published[0].get("health"))

        await eventually(conflict, "GPUNode says Conflict")


async def test_a_gpu_in_a_resource_slice_of_this_node_starts_nothing_until_the_slice_is_gone() -> None:
    async with Host(patience_s=60) as host:
        device = {"name": "gpu-0", "attributes": {"uuid": {"string": "GPU-0"}}}
        spec = {"driver": "gpu.nvidia.com", "nodeName": NODE, "pool": {"name": NODE}, "devices": [device]}
        elsewhere = {**spec, "nodeName": "other", "devices": [{**device, "attributes": {"uuid": {"string": "GPU-1"}}}]}
        for name, what in (("here", spec), ("there", elsewhere)):
            await host.gateway.create(RESOURCE_SLICES, {"metadata": {"name": name}, "spec": what})
        await eventually(lambda: not host.plugin.inventory.gpus["GPU-0"].health.healthy, "the slice is seen")
        await host.place("web", {"main": SHARE})
        await host.place("other", {"main": Share("GPU-1", 4 * GIB)})
        await eventually(lambda: "DRA driver gpu.nvidia.com in ResourceSlice here" in host.waiting("web"), "said so")
        await host.running("other")
        await host.gateway.delete(RESOURCE_SLICES, "here")
        await host.running("web")


async def test_an_api_server_without_resource_slices_offers_the_gpus() -> None:
    async with Host() as host:
        host.api.faults.fail_next(1000, 404, verb="list", plural="resourceslices")
        await host.replace_plugin()
        await host.place("web", {"main": SHARE})
        await host.running("web")


async def test_nothing_is_offered_before_it_is_known_who_else_offers_it() -> None:
    async with Host(gpus(1)) as host:
        await host.plugin.stop()
        await host.gateway.delete(untyped(GPU_NODES), NODE)
        host.api.faults.fail_next(1000, 403, verb="list", plural="resourceslices")
        await host.start_plugin()
        await host.place("web", {"main": SHARE})
        await eventually(lambda: "other drivers" in host.waiting("web"), "it waits")
        assert host.api.store.get("gpunodes", "", NODE) is None
        host.api.faults.clear()
        await host.running("web")
        await eventually(lambda: host.api.store.get("gpunodes", "", NODE), "published")


async def test_the_kubelets_own_sum_refuses_a_pod_before_we_are_asked() -> None:
    async with Host(gpus(1)) as host:
        await host.place("first", {"main": Share("GPU-0", 30 * GIB)})
        await host.running("first")
        await host.place("second", {"main": Share("GPU-0", 20 * GIB)})
        await eventually(lambda: host.phase("second") == "Failed", "the kubelet's refusal")
        assert (host.pod("second") or {})["status"]["reason"] == "OutOftessera.io/gpu-mem"
