"""What simulated containers see and use, on a stub machine without an agent."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tessera.model.assignment import Share
from tessera.simulator.kubelet import SimContainer
from tessera.simulator.machines import Machine
from tessera.simulator.workload import KILLED, USE, Pace, ProgramError, View, Workloads, view_of, wished_bytes

GIB = 1 << 30
QUICK = Pace(step_s=0.0, look_s=0.01, job_s=0.05)
UID = "11111111-2222-3333-4444-555555555555"


def container(machine: Machine, gib: int = 4, annotations: dict[str, str] | None = None, **meta: Any) -> SimContainer:
    uuid = machine.nvml.gpus[0].uuid
    env = {
        "TESSERA_SLICE": "slot-000-x",
        "CUDA_VISIBLE_DEVICES": uuid,
        "TESSERA_MEM_LIMIT_BYTES": str(gib * GIB),
        "TESSERA_CORE_LIMIT_PERCENT": "0",
    }
    pod = {"metadata": {"uid": UID, "name": "p", "annotations": annotations or {}, **meta}, "spec": {}}
    return SimContainer(id="a" * 64, pod=pod, spec={"name": "main"}, start=0, env=env)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine("host", ["T4"], tmp_path)


async def used(machine: Machine, wanted: int) -> None:
    async with asyncio.timeout(5):
        while sum(process.used_bytes for process in machine.nvml.processes) != wanted:  # noqa: ASYNC110 - no event to await
            await asyncio.sleep(0.005)


async def test_a_program_grows_to_three_fifths_of_its_slice_and_frees_it_when_stopped(machine: Machine) -> None:
    workloads = Workloads(machine, QUICK)
    running = await workloads.start(container(machine))
    await used(machine, 4 * GIB * 60 // 100)
    assert [view.shares for view in workloads.views.values()] == [(Share(machine.nvml.gpus[0].uuid, 4 * GIB),)]
    await running.stop(30)
    assert await running.wait() == 143
    assert not machine.nvml.processes and not machine.living() and not workloads.views


async def test_the_annotation_says_how_much_is_taken(machine: Machine) -> None:
    running = await Workloads(machine, QUICK).start(container(machine, 2, {USE: "3Gi"}))
    await used(machine, 3 * GIB)
    await running.stop(0)
    assert await running.wait() == 137


async def test_a_process_that_the_agent_ends_takes_its_container_with_it(machine: Machine) -> None:
    running = await Workloads(machine, QUICK).start(container(machine))
    await used(machine, 4 * GIB * 60 // 100)
    [pid] = machine.living()
    machine.end(pid)
    assert await running.wait() == KILLED


async def test_a_pod_of_a_job_ends_well(machine: Machine) -> None:
    owners = [{"kind": "Job", "name": "j", "uid": "u", "controller": True}]
    running = await Workloads(machine, QUICK).start(container(machine, ownerReferences=owners))
    async with asyncio.timeout(5):
        assert await running.wait() == 0


def test_a_container_without_a_slice_sees_none() -> None:
    bare = SimContainer("a" * 64, {"metadata": {"uid": UID}}, {"name": "main"}, 0, {})
    assert view_of(bare) is None


def test_an_environment_and_a_file_that_differ_are_an_error(machine: Machine, tmp_path: Path) -> None:
    made = container(machine)
    (tmp_path / "slice.json").write_text('{"version":1,"gpus":[{"uuid":"GPU-other","mem_bytes":1,"core_percent":0}]}')
    mounts = [{"hostPath": str(tmp_path), "containerPath": "/run/tessera"}]
    with pytest.raises(ProgramError, match=r"slice\.json says"):
        view_of(SimContainer(made.id, made.pod, made.spec, 0, made.env, mounts))


def test_two_gpus_share_what_the_annotation_says_and_nonsense_is_named() -> None:
    view = View(UID, "main", "slot-000-x", (Share("a", GIB), Share("b", GIB)))
    assert wished_bytes(view, {USE: "3Gi"}) == {"a": 3 * GIB // 2, "b": 3 * GIB // 2}
    with pytest.raises(ProgramError, match="use-gpu-mem"):
        wished_bytes(view, {USE: "much"})
