"""Who is told that the driver has what the shim does not know, by the file that the shim leaves in the container."""

import struct
from pathlib import Path

import pytest

from tessera.model.assignment import Share
from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement.demand import unknown_entry_point
from tessera.node_agent.enforcement.usage_file import LEDGER
from tessera.node_agent.kernel import HostKernel
from tessera.node_agent.newer_driver import EVERY, REASON, NewerDriver
from tessera.node_agent.slice_containers import SliceContainers
from tessera.node_agent.slices import Slice
from tessera.simulator.fakes.processes import FakeProcesses

POD, MAIN, SIDE = "11111111-2222-3333-4444-555555555555", "ab" * 32, "cd" * 32
MAGIC = 0x3153524553534554


class Case:
    """A pod with a slice for each of two containers, of which one has a process."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.processes = FakeProcesses(self.proc)
        self.slices = [Slice(name, POD, "ns", "p", name, (Share("GPU-a", 10),)) for name in ("main", "side")]
        self.names: dict[str, str] = {MAIN: "main", SIDE: "side"}
        containers = SliceContainers(
            lambda: self.slices, self.processes, HostKernel(self.proc),
            lambda container: self.names.get(container.container_id),
        )  # fmt: skip
        self.newer = NewerDriver(containers, lambda pid: unknown_entry_point(pid, self.proc))
        self.start(10, MAIN)

    def start(self, pid: int, container: str, pod: str = POD) -> None:
        self.processes.start(pid, pod, container)

    def leaves(self, pid: int, name: bytes) -> None:
        file = self.proc / str(pid) / "root" / LEDGER
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(struct.pack("<QQ16Q64s", MAGIC, 1, *range(16), name).ljust(4096, b"\0"))

    async def looks(self, times: int = EVERY) -> list[tuple[str, ...]]:
        """The reason and the slices of each thing that was found."""
        found = [incident for _ in range(times) for incident in await self.newer.look()]
        assert all("newer cuMemAlloc than" in incident.text for incident in found)
        return [(incident.reason, *incident.slices) for incident in found]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


async def test_the_pod_is_told_once_though_nothing_of_it_uses_a_gpu(case: Case) -> None:
    case.leaves(10, b"cuMemAlloc")
    assert await case.looks(3 * EVERY) == [(REASON, "main")]
    assert case.processes.pids() == {10}


async def test_until_the_containers_name_is_known_all_its_pods_slices_are_meant(case: Case) -> None:
    case.leaves(10, b"cuMemAlloc")
    case.names = {}
    assert await case.looks() == [(REASON, "main", "side")]


async def test_each_container_is_told_of_and_another_process_may_be_the_one_that_can_be_read(case: Case) -> None:
    case.start(11, MAIN)
    case.start(20, SIDE)
    case.leaves(11, b"cuMemAlloc")
    case.leaves(20, b"cuMemAlloc")
    assert sorted(await case.looks()) == [(REASON, "main"), (REASON, "side")]


async def test_a_container_that_was_started_again_is_told_of_again(case: Case) -> None:
    case.leaves(10, b"cuMemAlloc")
    await case.looks()
    case.processes.remove(10)
    await case.looks()
    case.start(10, MAIN)
    case.leaves(10, b"cuMemAlloc")
    assert await case.looks() == [(REASON, "main")]


@pytest.mark.parametrize(
    "name", [b"", b"cu", b"malloc", b"cuMem Alloc", b"cuMemAlloc\n", b"cuMem\xffAlloc", b"cu" + b"A" * 62, b"\xff" * 64]
)
async def test_what_is_no_name_of_the_drivers_is_not_repeated(case: Case, name: bytes) -> None:
    case.leaves(10, name)
    assert await case.looks() == []


async def test_no_file_and_other_peoples_say_nothing(case: Case) -> None:
    case.start(30, MAIN, "99999999-2222-3333-4444-555555555555")
    case.leaves(30, b"cuMemAlloc")
    assert await case.looks() == []
    assert unknown_entry_point(10, case.proc) == ""


async def test_whose_id_went_to_another_meanwhile_is_not_charged_with_it(case: Case) -> None:
    case.leaves(10, b"cuMemAlloc")

    def given_away(pid: int) -> str:
        found = unknown_entry_point(pid, case.proc)
        case.processes.start(pid, POD, SIDE, started=2)
        return found

    case.newer._unknown = given_away
    assert case.processes.look(10).container == Container(POD, MAIN)
    assert await case.looks() == []
