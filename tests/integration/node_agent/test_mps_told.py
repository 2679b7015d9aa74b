"""An MPS daemon that hangs, talks nonsense, disappears or has a fault, and limits of it that are changed: node and pod
hear of it, the GPU is published with the condition for as long as it is so, and nobody is let in meanwhile."""

import pytest

from tessera.kube.resources import EVENTS, untyped
from tessera.model.assignment import Share
from tessera.node_agent.enforcement import mps_reasons
from tessera.node_agent.slices import Refusal, Slice
from tessera.simulator.fakes.mounts import FolderMounts
from tessera.simulator.fakes.mps import daemon
from tessera.simulator.fakes.mps.clients import FakeMps
from tessera.simulator.fakes.processes import FakeProcesses
from tests.integration.node_agent.test_cluster import GIB, agent, until, with_mps

PATIENCE_S = 60.0


@pytest.fixture
async def held(machine, tmp_path):
    """A slice that MPS holds: the agent, its gateway, the daemon, the GPU. Process 600 is nobody's, and never ended."""
    uuid = machine.uuids[0]
    processes = FakeProcesses(tmp_path / "proc")
    processes.start(600)
    async with agent(with_mps(tmp_path), processes=processes, mounts=FolderMounts()) as (service, gateway, uid):
        await service.preparation.prepare(Slice("slot-main", uid, "default", "p", "main", (Share(uuid, GIB),)))
        yield service, gateway, FakeMps(tmp_path / "m" / uuid / "pipe"), uuid


def types(service, uuid):
    return [one.type for one in service.gpus.now[uuid].conditions]


async def told(gateway, reason):
    found = [e for e in await gateway.list(untyped(EVENTS)) if e["reason"] == reason]
    return {e["involvedObject"]["kind"] for e in found} == {"Pod", "Node"}


async def stands(held, reason):
    """Until it is told and published, with the text of the event."""
    service, gateway, _, uuid = held

    async def both():
        return types(service, uuid) == [reason] and await told(gateway, reason)

    await until(both, PATIENCE_S)
    assert uuid in service.gpus.now[uuid].conditions[0].message


async def is_over(held):
    service, _, _, uuid = held

    async def gone():
        return not types(service, uuid) and service.gpus.now[uuid].level == 1

    await until(gone, PATIENCE_S)


async def admitted(held):
    service, _, _, uuid = held
    item = Slice("slot-b", "another", "default", "q", "main", (Share(uuid, GIB),))
    answer = await service.preparation.prepare(item)
    await service.preparation.release("slot-b")
    return not isinstance(answer, Refusal)


@pytest.mark.parametrize("manner", [daemon.HANGS, daemon.BABBLES])
async def test_one_that_is_silent(held, manner):
    service, _, mps, uuid = held
    mps.behave(manner)
    await stands(held, mps_reasons.SILENT)

    async def lowered():
        return service.gpus.now[uuid].level == -1

    await until(lowered, PATIENCE_S)
    assert "the MPS daemon does not answer, nobody is admitted" in service.gpus.now[uuid].evidence
    for _ in range(5):
        await service._look_after_limiter()
    assert types(service, uuid) == [mps_reasons.SILENT]
    assert not await admitted(held)
    mps.behave()
    await is_over(held)
    assert await admitted(held)


async def test_one_that_disappears(held):
    _, _, mps, uuid = held
    mps.crash()
    await stands(held, mps_reasons.LOST)
    assert mps.state["memory"][uuid] == "1024M"
    await is_over(held)
    assert await admitted(held)


async def test_one_that_has_a_fault(held):
    _, _, mps, _ = held
    mps.connect(600)
    mps.fault()
    await stands(held, mps_reasons.FAULT)
    assert not await admitted(held)
    mps.disconnect(600)
    await is_over(held)


async def test_limits_that_are_changed(held):
    _, _, mps, uuid = held
    mps.forget(uuid)
    await stands(held, mps_reasons.CHANGED)
    assert mps.state["memory"][uuid] == "1024M"
    await is_over(held)
