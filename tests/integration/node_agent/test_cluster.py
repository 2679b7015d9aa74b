"""The agent beside an API server: names of containers from there, events to there."""

import asyncio
import contextlib
import random
import struct
import time

from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.resources import EVENTS, PODS, untyped
from tessera.model.assignment import Share
from tessera.node_agent.enforcement.usage_file import LEDGER, MAGIC, SIZE
from tessera.node_agent.service import Service
from tessera.node_agent.settings import NodeAgentSettings
from tessera.node_agent.slices import Slice
from tessera.simulator.apiserver import ApiServer
from tessera.simulator.fakes.mounts import FolderMounts
from tessera.simulator.fakes.mps.clients import FakeMps, install
from tessera.simulator.fakes.nvml.state import NOT_AVAILABLE
from tessera.simulator.fakes.processes import FakeProcesses

GIB = 1 << 30
MAIN, SIDE = "ab" * 32, "cd" * 32


async def until(condition, limit_s=15.0):
    deadline = time.monotonic() + limit_s
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        await asyncio.sleep(0.02)


async def make_pod(gateway, main=(), **spec):
    """A pod with two containers, both running; ``main``: more of the first."""
    containers = [{"name": "main", "image": "i", **dict(main)}, {"name": "side", "image": "i"}]
    spec = {"nodeName": "node-a", "containers": containers, **spec}
    pod = {"metadata": {"name": "p", "namespace": "default"}, "spec": spec}
    made = await gateway.create(untyped(PODS), {"apiVersion": "v1", "kind": "Pod", **pod}, namespace="default")
    ids = {"main": MAIN, "side": SIDE}
    statuses = [{"name": name, "containerID": f"containerd://{value}", "ready": True} for name, value in ids.items()]
    patch = {"status": {"phase": "Running", "containerStatuses": statuses}}
    await gateway.merge_patch(untyped(PODS), "p", patch, namespace="default", subresource="status")
    return made["metadata"]["uid"]


@contextlib.asynccontextmanager
async def agent(settings, pod=(), **given):
    """A running agent beside an API server, its gateway there, and the UID of a pod; ``pod``: more of ``make_pod``."""
    async with ApiServer() as server, Gateway(plain(server.url)) as gateway:
        uid = await make_pod(gateway, **dict(pod))
        service = Service(settings, gateway=gateway, **given)
        await service.start()
        try:
            yield service, gateway, uid
        finally:
            await service.stop()


async def stands_and_goes(service, uuid, type_):
    """A GPU is published with a condition of that type, its neighbours without any; then without it again."""
    stood = False
    async with asyncio.timeout(15.0):
        async for now in service.gpus.follow():
            assert not any(gpu.conditions for gpu in now if gpu.uuid != uuid)
            stands = any(one.type == type_ for gpu in now for one in gpu.conditions)
            if stood and not stands:
                return
            stood = stands


async def test_each_container_is_held_to_its_own_slice_and_the_pod_hears_of_it(machine, tmp_path):
    settings = NodeAgentSettings(
        node="node-a", agent_socket=tmp_path / "a.sock", state_dir=tmp_path / "state", accounting_every_s=0.02,
        inventory_every_s=0.05, over_limit_grace_s=0.1, over_limit_container_grace_s=0.1,
    )  # fmt: skip
    processes = FakeProcesses(tmp_path / "proc")
    async with agent(settings, processes=processes) as (service, gateway, uid):
        for name, mem in (("main", 4 * GIB), ("side", GIB)):
            share = (Share(machine.uuids[0], mem),)
            await service.preparation.prepare(Slice(f"slot-{name}", uid, "default", "p", name, share))
        processes.start(10, uid, MAIN)
        processes.start(20, uid, SIDE)
        for pid in (10, 20):
            machine.state.add_process(pid, machine.uuids[0], 3 * GIB)
        machine.write()

        async def only_main_is_left():
            return processes.pids() == {10}

        await until(only_main_is_left)
        machine.state.change(machine.uuids[2], lost=True)
        machine.state.remove_process(20)
        machine.write()

        async def told():
            events = await gateway.list(untyped(EVENTS))
            reasons = {(e["involvedObject"]["kind"], e["reason"]) for e in events}
            return {("Pod", "SliceOverLimit"), ("Node", "GPUUnhealthy")} <= reasons

        await until(told)
        events = [e for e in await gateway.list(untyped(EVENTS)) if e["reason"] == "SliceOverLimit"]
        text = f"container side uses 3Gi of GPU {machine.uuids[0]}, limit 1Gi: its newest process"
        assert all(e["message"].startswith(text) and e["involvedObject"]["uid"] == uid for e in events)
        assert processes.pids() == {10}


def with_mps(tmp_path) -> NodeAgentSettings:
    return NodeAgentSettings(
        node="node-a", agent_socket=tmp_path / "a.sock", state_dir=tmp_path / "state", accounting_every_s=0.02,
        inventory_every_s=0.05, enforcement="mps", mps_control=str(install(tmp_path)), mps_dir=tmp_path / "m",
        mps_proof=False,
    )  # fmt: skip


async def test_clients_of_a_pod_that_is_deleted_let_go_before_it_is_killed(machine, tmp_path):
    settings = with_mps(tmp_path)
    processes, uuid, ahead_s = FakeProcesses(tmp_path / "proc"), machine.uuids[0], 0.0
    mps = FakeMps(tmp_path / "m" / uuid / "pipe")
    async with agent(settings, processes=processes, mounts=FolderMounts(), wall=lambda: time.time() + ahead_s) as (
        service,
        gateway,
        uid,
    ):
        assert service.gpus.now[uuid].level == 1
        await service.preparation.prepare(Slice("slot-main", uid, "default", "p", "main", (Share(uuid, GIB),)))
        processes.start(10, uid, MAIN)
        mps.connect(10)
        machine.state.add_process(10, uuid, GIB // 2, mps=True)
        machine.write()
        await gateway.delete(PODS, "p", namespace="default", grace_period_s=300)

        async def seen():
            return bool(service._deadlines.due(time.time() + 300)) and bool(service.watcher.accounts.usages)

        await until(seen)
        assert mps.state["terminated"] == []
        ahead_s = 299.0

        async def let_go():
            return mps.state["terminated"] == [10]

        await until(let_go)
        assert processes.pids() == {10}


async def test_a_program_that_comes_past_mps_is_ended_and_the_pod_hears_of_it(machine, tmp_path):
    settings = with_mps(tmp_path)
    processes, uuid = FakeProcesses(tmp_path / "proc"), machine.uuids[0]
    mps = FakeMps(tmp_path / "m" / uuid / "pipe")
    async with agent(settings, processes=processes, mounts=FolderMounts()) as (service, gateway, uid):
        await service.preparation.prepare(Slice("slot-main", uid, "default", "p", "main", (Share(uuid, GIB),)))
        mps.connect(10)
        for pid, flag in ((10, False), (11, True), (12, False)):
            processes.start(pid, uid, MAIN)
            machine.state.add_process(pid, uuid, GIB // 4, mps=flag)
        processes.start(13)
        machine.state.add_process(13, uuid, GIB // 4)
        machine.write()

        async def told():
            events = [e for e in await gateway.list(untyped(EVENTS)) if e["reason"] == "OutsideMps"]
            return {e["involvedObject"]["kind"] for e in events} == {"Pod", "Node"}

        await until(told)
        assert processes.pids() == {10, 11, 13}


@contextlib.asynccontextmanager
async def a_program_with_a_ledger(machine, tmp_path):
    """An agent that looks often, its gateway, and the usage file of a program of a slice."""
    settings = NodeAgentSettings(
        node="node-a", agent_socket=tmp_path / "a.sock", state_dir=tmp_path / "state", inventory_every_s=0.02,
        shim="libtessera.so", proc_root=tmp_path / "proc",
    )  # fmt: skip
    processes = FakeProcesses(tmp_path / "proc")
    async with agent(settings, processes=processes) as (service, gateway, uid):
        service.store.put(Slice("slot-main", uid, "default", "p", "main", (Share(machine.uuids[0], GIB),)))
        processes.start(10, uid, MAIN)
        ledger = tmp_path / "proc" / "10" / "root" / LEDGER
        ledger.parent.mkdir(parents=True)
        yield service, gateway, ledger


async def test_a_pod_hears_of_an_entry_point_that_its_shim_does_not_know(machine, tmp_path):
    async with a_program_with_a_ledger(machine, tmp_path) as (_, gateway, ledger):
        ledger.write_bytes(struct.pack("<8sQ16Q64s", MAGIC, 0, *range(16), b"cuMemAlloc").ljust(SIZE, b"\0"))

        async def told():
            events = [e for e in await gateway.list(untyped(EVENTS)) if e["reason"] == "EntryPointUnknown"]
            return {e["involvedObject"]["kind"] for e in events} == {"Pod", "Node"}

        await until(told)


async def test_a_usage_file_of_noise_is_told_to_the_pod_and_stands_against_the_gpu(machine, tmp_path):
    async with a_program_with_a_ledger(machine, tmp_path) as (service, gateway, ledger):
        limits = service.store.folder("slot-main") / "limits"
        before = limits.read_bytes()
        published = asyncio.create_task(stands_and_goes(service, machine.uuids[0], "UsageFileUnreadable"))
        ledger.write_bytes(random.Random(1).randbytes(SIZE))

        async def told():
            events = [e for e in await gateway.list(untyped(EVENTS)) if e["reason"] == "UsageFileUnreadable"]
            return {e["involvedObject"]["kind"] for e in events} == {"Pod", "Node"}

        await until(told)
        assert not published.done() and limits.read_bytes() == before
        ledger.unlink()
        await published


async def test_limits_that_are_half_written_are_mended_and_the_pod_hears_of_it(machine, tmp_path):
    settings = NodeAgentSettings(
        node="node-a", agent_socket=tmp_path / "a.sock", state_dir=tmp_path / "state", inventory_every_s=0.05
    )
    async with agent(settings, processes=FakeProcesses(tmp_path / "proc")) as (service, gateway, uid):
        await service.preparation.prepare(
            Slice("slot-main", uid, "default", "p", "main", (Share(machine.uuids[0], GIB),))
        )
        published = asyncio.create_task(stands_and_goes(service, machine.uuids[0], "SliceFilesChanged"))
        path = service.store.folder("slot-main") / "limits"
        before = path.read_bytes()
        path.unlink()
        path.write_bytes(before[:20])

        async def told():
            events = [e for e in await gateway.list(untyped(EVENTS)) if e["reason"] == "SliceFilesChanged"]
            return {e["involvedObject"]["kind"] for e in events} == {"Pod", "Node"}

        await until(told)
        assert path.read_bytes() == before
        await published


async def test_a_pod_hears_that_its_volume_at_dev_shm_gave_way_and_what_is_there_is_larger(machine, tmp_path):
    settings, mounts, uuid = with_mps(tmp_path), FolderMounts(), machine.uuids[0]
    volume = {"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}
    mounted = {"volumeMounts": [{"name": "v", "mountPath": "/dev/shm"}]}
    async with agent(
        settings, processes=FakeProcesses(tmp_path / "p"), mounts=mounts, pod={"main": mounted, "volumes": [volume]}
    ) as (service, gateway, uid):
        for name in ("main", "side"):
            await service.preparation.prepare(Slice(f"s-{name}", uid, "default", "p", name, (Share(uuid, GIB),)))

        async def told():
            events = [e for e in await gateway.list(untyped(EVENTS)) if e["involvedObject"]["kind"] == "Pod"]
            found = {e["reason"]: e["message"] for e in events}
            return "container main" in found.get("ShmReplaced", "") and "side" in found.get("ShmShared", "")

        await until(told)
        assert mounts.sizes[tmp_path / "m" / uuid / "shm"] == 3 * GIB


async def test_node_and_pods_are_told_of_a_level_that_falls_and_the_node_of_one_that_comes_back(machine, tmp_path):
    settings = NodeAgentSettings(
        node="node-a", agent_socket=tmp_path / "a.sock", state_dir=tmp_path / "state", accounting_every_s=0.02,
        inventory_every_s=0.05,
    )  # fmt: skip
    processes, (gpu, other) = FakeProcesses(tmp_path / "proc"), machine.uuids[:2]
    async with agent(settings, processes=processes) as (service, gateway, uid):

        async def told(reason):
            found = [e for e in await gateway.list(untyped(EVENTS)) if e["reason"] == reason]
            return {(e["involvedObject"]["kind"], e["involvedObject"]["name"]): e["message"] for e in found}

        for name, uuid, pod, pod_uid in (("on", gpu, "p", uid), ("off", other, "q", "another")):
            await service.preparation.prepare(
                Slice(f"slot-{name}", pod_uid, "default", pod, "main", (Share(uuid, GIB),))
            )
        processes.start(10, uid, MAIN)
        machine.state.add_process(10, gpu, NOT_AVAILABLE)
        machine.write()

        async def fallen():
            return len(await told("EnforcementLowered")) >= 2

        await until(fallen)
        lowered = await told("EnforcementLowered")
        assert set(lowered) == {("Node", "node-a"), ("Pod", "p")}
        assert all(gpu in text and "from enforcement level 0 to -1: the driver" in text for text in lowered.values())
        machine.state.remove_process(10)
        machine.state.add_process(10, gpu, GIB // 2)
        machine.write()

        async def risen():
            return await told("EnforcementRaised")

        await until(risen)
        assert set(await told("EnforcementRaised")) == {("Node", "node-a")}
