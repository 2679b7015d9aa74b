"""NVML fails at every call in turn: the GPUs stay known, the reason is told, and health comes back."""

import threading

import pytest

from tessera.node_agent.health import Rules
from tessera.node_agent.inventory import Inventory
from tessera.node_agent.nvml import DriverNvml, GpuProcess
from tessera.node_agent.probe import Probe
from tessera.simulator.fakes.processes import FakeProcesses

CODES = (1, 9, 15, 999)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Agent:
    """The looking part of the agent, with a clock of its own."""

    def __init__(self, tmp_path):
        self.clock = Clock()
        self.probe = Probe(DriverNvml(), FakeProcesses(tmp_path / "proc"), self.clock)
        self.inventory = Inventory(Rules(2, 300), tmp_path / "inventory.json", "boot", self.clock)

    async def look(self):
        self.clock.now += 1
        look = await self.probe.look(self.inventory.devices)
        if look.error:
            self.inventory.failed(look.error)
        elif look.reading:
            self.inventory.observe(look.reading, look.deaf)
        for event in look.xids:
            self.inventory.xid(event)
        snapshot = await self.probe.snapshot(self.inventory.devices)
        return look, snapshot

    def healthy(self):
        return [uuid for uuid in self.inventory.devices if self.inventory.health(uuid).healthy]


async def calls_of_a_round(machine, agent):
    machine.count_anew()
    await agent.look()
    return machine.calls


@pytest.mark.parametrize("code", CODES)
async def test_failure_at_every_call_loses_nothing(machine, tmp_path, code):
    machine.state.add_process(5, machine.uuids[0], 1 << 30)
    agent = Agent(tmp_path)
    await agent.look()
    calls = await calls_of_a_round(machine, agent)
    assert calls > 15
    for call in range(calls):
        machine.state.fail_call(call, code)
        machine.write()
        _, snapshot = await agent.look()
        assert list(agent.inventory.devices) == machine.uuids
        for uuid in machine.uuids:
            health = agent.inventory.health(uuid)
            assert health.healthy or "nvml" in health.reason
        silent = agent.inventory.trouble or len(agent.healthy()) < 3 or snapshot.failures
        assert silent or [p.pid for p in snapshot.found] == [5]
        machine.state.failures = []
        machine.write()
        for _ in range(8):
            await agent.look()
        assert agent.healthy() == machine.uuids, f"call {call} of {calls}"
    await agent.probe.close()


@pytest.mark.parametrize("code", CODES)
async def test_failure_at_every_call_of_the_first_look(machine, tmp_path, code):
    probe = Agent(tmp_path)
    calls = await calls_of_a_round(machine, probe)
    await probe.probe.close()
    for call in range(calls):
        agent = Agent(tmp_path / str(call))
        machine.state.fail_call(call, code)
        machine.write()
        await agent.look()
        machine.state.failures = []
        machine.write()
        for _ in range(8):
            await agent.look()
        assert agent.healthy() == machine.uuids, f"call {call} of {calls}"
        assert [d.sm_count for d in agent.inventory.devices.values()] == [132, 132, 40]
        await agent.probe.close()


async def test_nvml_gone_keeps_the_inventory_and_says_why(machine, tmp_path):
    agent = Agent(tmp_path)
    await agent.look()
    machine.path.unlink()
    await agent.look()
    assert list(agent.inventory.devices) == machine.uuids
    assert agent.healthy() == []
    assert "Driver Not Loaded" in agent.inventory.health(machine.uuids[0]).reason
    machine.write()
    for _ in range(2):
        await agent.look()
    assert agent.healthy() == machine.uuids
    await agent.probe.close()


async def test_an_agent_restarted_without_nvml_still_knows_the_gpus(machine, tmp_path):
    first = Agent(tmp_path)
    await first.look()
    await first.probe.close()
    machine.path.unlink()
    second = Agent(tmp_path)
    await second.look()
    assert list(second.inventory.devices) == machine.uuids
    assert second.healthy() == []
    machine.write()
    await second.look()
    await second.look()
    assert second.healthy() == machine.uuids
    await second.probe.close()


async def test_a_gpu_falls_off_the_bus_and_comes_back(machine, tmp_path):
    agent, lost = Agent(tmp_path), machine.uuids[1]
    await agent.look()
    machine.state.xid(lost, 79)
    machine.write()
    await agent.look()
    assert agent.inventory.health(lost).reason == "Xid 79: GPU has fallen off the bus; waits for a reset of the GPU"
    for _ in range(10):
        await agent.look()
    assert agent.healthy() == [machine.uuids[0], machine.uuids[2]]
    machine.state.change(lost, lost=True)
    machine.write()
    await agent.look()
    machine.state.change(lost, lost=False)
    machine.write()
    await agent.look()
    assert lost not in agent.healthy()
    await agent.look()
    assert agent.healthy() == machine.uuids
    await agent.probe.close()


async def test_a_gpu_that_is_not_listed_any_more_stays_known(machine, tmp_path):
    agent = Agent(tmp_path)
    await agent.look()
    gone = machine.state.gpus.pop()
    machine.write()
    await agent.look()
    assert agent.inventory.health(gone.uuid).reason == "is not listed by NVML any more"
    machine.state.gpus.append(gone)
    machine.write()
    for _ in range(8):
        await agent.look()
    assert gone.uuid in agent.healthy()
    await agent.probe.close()


async def test_a_fatal_xid_outlives_a_killed_agent(machine, tmp_path):
    first, bad = Agent(tmp_path), machine.uuids[0]
    await first.look()
    machine.state.xid(bad, 48)
    machine.write()
    await first.look()
    await first.look()
    await first.probe.close()
    second = Agent(tmp_path)
    for _ in range(5):
        await second.look()
    assert second.inventory.health(bad).reason.startswith("Xid 48: double bit ECC error")
    await second.probe.close()


class HangingNvml(DriverNvml):
    """The driver's, behind a gate; counts who went through it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.asked = threading.Event(), 0
        self.gate.set()

    def processes(self, uuid: str) -> list[GpuProcess]:
        self.gate.wait()
        self.asked += 1
        return super().processes(uuid)


async def test_a_call_that_hangs_is_a_gpu_that_tells_nothing_and_is_not_asked_again_meanwhile(machine, tmp_path):
    machine.state.add_process(5, machine.uuids[0], 1 << 30)
    machine.write()
    nvml = HangingNvml()
    probe = Probe(nvml, FakeProcesses(tmp_path / "proc"), answer_s=0.05)
    nvml.open()
    nvml.read()
    nvml.gate.clear()
    for _ in range(5):
        snapshot = await probe.snapshot(machine.uuids)
        assert snapshot.found == () and list(snapshot.failures) == machine.uuids
        assert str(snapshot.failures[machine.uuids[0]]) == "NVML: no answer for 0.05 s"
    nvml.gate.set()
    await probe.driver_version()  # whatever was before it in the thread is over
    assert nvml.asked == len(machine.uuids)
    probe = Probe(nvml, FakeProcesses(tmp_path / "proc"))
    assert [one.pid for one in (await probe.snapshot(machine.uuids)).found] == [5]
    await probe.close()
