"""GPUs in MIG mode: the real nvidia-ml-py on the stub library, and the agent's inventory on top."""

import pynvml
import pytest

from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_NONE
from tessera.node_agent.nvml import NvmlError, Xid
from tessera.node_agent.slices import Slice
from tessera.simulator.fakes.nvml.presets import MIG_PROFILES, mig_devices
from tests.integration.node_agent.test_failing_nvml import Agent
from tests.integration.node_agent.test_service import CONTAINER, POD, Host, until

GIB = 1 << 30
SMALL, BIG = "1g.10gb", "3g.40gb"


def partition(machine, *profiles):
    """The first GPU is in MIG mode with these MIG devices; answers their UUIDs."""
    machine.state.change(machine.uuids[0], mig=True)
    machine.state.migs = mig_devices(machine.state.gpus[0], profiles)
    machine.write()
    return [mig.uuid for mig in machine.state.migs]


def test_mig_devices_stand_in_the_place_of_their_gpu(machine, nvml):
    parts = partition(machine, SMALL, BIG)
    found = nvml.read().devices
    assert [d.uuid for d in found] == [*parts, *machine.uuids[1:]]
    for device, profile in zip(found, (SMALL, BIG), strict=False):
        total_mib, sms = MIG_PROFILES[profile]
        assert device.name == f"NVIDIA H100 80GB HBM3 MIG {profile}"
        assert (device.total_bytes, device.sm_count, device.compute_capability) == (total_mib << 20, sms, "9.0")
        assert (device.parent, device.index, device.numa_node, device.nvlink_peers) == (machine.uuids[0], 0, 0, ())
    assert found[2].parent == "" and found[2].sliceable


def test_places_of_mig_devices_need_not_follow_one_another(machine, nvml):
    parts = partition(machine, SMALL, SMALL, SMALL)
    del machine.state.migs[1]
    machine.write()
    assert [d.uuid for d in nvml.read().devices[:2]] == [parts[0], parts[2]]


def test_processes_are_those_of_the_instance(machine, nvml):
    one, other = partition(machine, SMALL, BIG)
    machine.state.add_process(10, one, 3 * GIB)
    machine.state.add_process(11, other, 5 * GIB)
    machine.write()
    nvml.read()
    assert [(p.pid, p.gpu_uuid, p.used_bytes) for p in nvml.processes(one)] == [(10, one, 3 * GIB)]
    assert [p.pid for p in nvml.processes(machine.uuids[0])] == [10, 11]


def test_errors_are_heard_of_the_gpu_and_a_mig_device_has_no_utilization(machine, nvml):
    one, _ = partition(machine, SMALL, SMALL)
    nvml.read()
    assert nvml.subscribe() == {}
    machine.state.xid(machine.uuids[0], 79)
    machine.write()
    assert nvml.next_xid() == Xid(machine.uuids[0], 79)
    with pytest.raises(NvmlError, match="Not Supported"):
        nvml.utilization(one)


def test_the_stub_answers_of_a_mig_handle_what_the_driver_does(machine, nvml):
    partition(machine, SMALL)
    nvml.read()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu) == 7
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(pynvml.nvmlDeviceGetHandleByIndex(2)) == 0
    mig = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0)
    kinds = [pynvml.nvmlDeviceIsMigDeviceHandle(handle).value for handle in (gpu, mig)]
    assert kinds == [0, 1]
    assert (pynvml.nvmlDeviceGetGpuInstanceId(mig), pynvml.nvmlDeviceGetComputeInstanceId(mig)) == (7, 0)
    parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
    assert pynvml.nvmlDeviceGetUUID(parent) == machine.uuids[0]
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 1)
    for call in (pynvml.nvmlDeviceGetNumaNodeId, pynvml.nvmlDeviceGetMigMode, pynvml.nvmlDeviceGetPciInfo_v3):
        with pytest.raises(pynvml.NVMLError_NotSupported):
            call(mig)
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetGpuInstanceId(gpu)


async def test_the_inventory_follows_mode_and_instances(machine, tmp_path):
    agent, (gpu, *others) = Agent(tmp_path), machine.uuids
    await agent.look()
    empty = partition(machine)
    await agent.look()
    assert list(agent.inventory.devices) == machine.uuids and empty == []
    assert agent.healthy() == others
    assert "is in MIG mode and has no MIG devices" in agent.inventory.health(gpu).reason
    parts = partition(machine, SMALL, BIG)
    await agent.look()
    assert list(agent.inventory.devices) == agent.healthy() == [*parts, *others]
    del machine.state.migs[0]
    machine.write()
    await agent.look()
    assert list(agent.inventory.devices) == agent.healthy() == [parts[1], *others]
    machine.state.migs = []
    machine.state.change(gpu, mig=False)
    machine.write()
    await agent.look()
    assert list(agent.inventory.devices) == agent.healthy() == machine.uuids
    await agent.probe.close()


async def test_an_error_of_the_gpu_concerns_its_mig_devices_and_those_made_in_their_place(machine, tmp_path):
    agent, (gpu, *others) = Agent(tmp_path), machine.uuids
    partition(machine, SMALL, SMALL)
    await agent.look()
    machine.state.xid(gpu, 79)
    machine.write()
    await agent.look()
    assert agent.healthy() == others
    (big,) = partition(machine, BIG)
    await agent.look()
    assert "Xid 79" in agent.inventory.health(big).reason
    machine.state.change(gpu, lost=True)
    machine.write()
    await agent.look()
    machine.state.change(gpu, lost=False)
    machine.write()
    for _ in range(8):
        await agent.look()
    assert agent.healthy() == [big, *others]
    await agent.probe.close()


async def test_failure_at_every_call_forgets_no_mig_device(machine, tmp_path):
    parts, agent = partition(machine, SMALL, BIG), Agent(tmp_path)
    await agent.look()
    machine.count_anew()
    await agent.look()
    for call in range(machine.calls):
        for code in (1, 15, 999):
            machine.state.fail_call(call, code)
            machine.write()
            await agent.look()
            assert list(agent.inventory.devices) == [*parts, *machine.uuids[1:]], f"call {call}"
            machine.state.failures = []
            machine.write()
    for _ in range(8):
        await agent.look()
    assert agent.healthy() == [*parts, *machine.uuids[1:]]
    await agent.probe.close()


async def test_mig_devices_are_known_to_an_agent_restarted_without_nvml(machine, tmp_path):
    parts, first = partition(machine, SMALL, BIG), Agent(tmp_path)
    await first.look()
    await first.probe.close()
    machine.path.unlink()
    second = Agent(tmp_path)
    await second.look()
    assert list(second.inventory.devices) == [*parts, *machine.uuids[1:]] and second.healthy() == []
    await second.probe.close()


async def test_a_mig_device_is_a_unit_of_level_minus_one(machine, tmp_path):
    (part,) = partition(machine, SMALL)
    async with Host(machine, tmp_path, allow_unwatched=True) as host:
        unit = host.service.gpus.now[part]
        assert (unit.level, unit.evidence) == (LEVEL_NONE, "a MIG device: given out whole only")
        assert unit.health.healthy and unit.takes_slices is False and machine.uuids[0] not in host.service.gpus.now
        refused = await host.service.preparation.prepare(Slice("slot-a", POD, "ns", "p", "main", (Share(part, GIB),)))
        assert "reaches enforcement level -1" in refused.reason.text


async def test_a_program_on_a_mig_device_is_counted_and_left_alone(machine, tmp_path):
    part, beside = partition(machine, SMALL, SMALL)
    async with Host(machine, tmp_path) as host:
        given = Share(part, host.service.gpus.now[part].mem_bytes, 100, whole=True)
        assert not hasattr(
            await host.service.preparation.prepare(Slice("s", POD, "ns", "p", "main", (given,))), "reason"
        )
        host.processes.start(10, POD, CONTAINER)
        host.processes.start(11, POD, "cd" * 32)
        machine.state.add_process(10, part, given.mem_bytes + 1)
        machine.state.add_process(11, beside, GIB)
        machine.write()
        # The one that uses what was not given ends; by then the other was looked at as often.
        await until(lambda: 11 not in host.processes.pids())
        usage = {(u.gpu_uuid, u.used_bytes, u.over) for u in host.service.watcher.accounts.usages}
        assert (part, given.mem_bytes + 1, False) in usage
        assert 10 in host.processes.pids()


async def test_a_mig_device_that_is_destroyed_is_told_to_those_who_follow(machine, tmp_path):
    one, other = partition(machine, SMALL, SMALL)
    async with Host(machine, tmp_path) as host:
        followed = host.service.gpus.follow()
        assert {one, other} <= {gpu.uuid for gpu in await anext(followed)}
        del machine.state.migs[0]
        machine.write()
        async for gpus in followed:  # a look in the middle of the change finds what does not answer
            if [gpu.uuid for gpu in gpus] == [other, *machine.uuids[1:]]:
                break
        gone = await host.service.preparation.prepare(Slice("s", POD, "ns", "p", "main", (Share(one, GIB, 100, True),)))
        assert gone.reason.text == f"GPU {one} is not on this node"
