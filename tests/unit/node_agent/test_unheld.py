"""Whose containers end while nobody sees their GPU, and whose do not."""

import os

import pytest

from tessera.model.assignment import Share
from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement.shim import NAME
from tessera.node_agent.kernel import HostKernel
from tessera.node_agent.slices import Slice
from tessera.node_agent.unheld import REASON, ROUNDS, UnheldContainers
from tessera.simulator.fakes.processes import FakeProcesses

GRACE_S = 5.0
POD, OTHER_POD = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
MAIN, SIDE = "ab" * 32, "cd" * 32
LIBCUDA = "7f00-7f01 r-xp 00000000 08:01 77 /usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05\n"


def item(name: str = "a", pod: str = POD, container: str = "main", gpu: str = "G0", *, whole: bool = False) -> Slice:
    return Slice(name, pod, "default", "p", container, (Share(gpu, 1 << 30, 0, whole),))


class Case:
    """A host on which G0 is not seen."""

    def __init__(self, folder):
        self.processes, self.unseen, self.now = FakeProcesses(folder / "proc"), {"G0": "Unknown Error"}, 0.0
        self.blind = {"G0"}
        self.clients: set[int] | None = None
        self.slices, self.levels, self.names = [item()], {}, {MAIN: "main", SIDE: "side"}
        shim = folder / "shim" / "0123" / NAME
        shim.parent.mkdir(parents=True)
        shim.write_bytes(b"shim")
        self.shim = shim.stat()
        self.unheld = UnheldContainers(
            lambda: self.unseen, lambda: self.blind, lambda: self.slices, lambda id_: self.levels.get(id_, 0),
            lambda uuid: self.clients, folder / "shim", self.processes, HostKernel(folder / "proc"), self.name_of,
            GRACE_S, lambda: self.now,
        )  # fmt: skip

    def name_of(self, container: Container) -> str | None:
        return self.names.get(container.container_id)

    def shimmed(self) -> str:
        device = self.shim.st_dev
        where = f"{os.major(device):02x}:{os.minor(device):02x} {self.shim.st_ino}"
        return f"{LIBCUDA}7f02-7f03 r-xp 00000000 {where} /usr/local/lib/tessera/{NAME}\n"

    def run(self, pid: int, container: str = MAIN, pod: str = POD, **more) -> None:
        self.processes.start(pid, pod, container, **more)

    async def looks(self, times: int = ROUNDS):
        await self.unheld.look()
        self.now += GRACE_S
        return [incident for _ in range(times) for incident in await self.unheld.look()]


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"maps": LIBCUDA}, "has /usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05 mapped"),
        ({"opened": ("/dev/null", "/dev/nvidia0")}, "has /dev/nvidia0 open"),
        ({"maps": "7f00-7f01 rw-s 00000000 00:05 9 /dev/nvidia-uvm\n"}, "has /dev/nvidia-uvm mapped"),
    ],
)
async def test_a_container_with_the_driver_and_without_the_shim_ends_with_all_of_it(case, more, found):
    case.run(1, **more)
    case.run(2)
    (told,) = await case.looks()
    assert case.processes.pids() == set()
    assert (told.reason, told.gpu_uuid, told.slices) == (REASON, "G0", ("a",))
    assert f"process 1 {found}" in told.text and "Unknown Error" in told.text and "5 s" in told.text


async def test_one_process_without_it_is_enough(case):
    case.run(1, maps=case.shimmed())
    case.run(2, maps=LIBCUDA)
    assert len(await case.looks()) == 1 and case.processes.pids() == set()


async def test_not_before_the_grace_and_not_at_the_first_look(case):
    case.run(1, maps=LIBCUDA)
    for case.now in (0.0, GRACE_S - 0.1, GRACE_S):
        assert await case.unheld.look() == ()
    assert case.processes.pids() == {1}
    assert len(await case.unheld.look()) == 1


async def test_a_gpu_that_was_seen_again_has_its_grace_anew(case):
    case.run(1, maps=LIBCUDA)
    await case.unheld.look()
    case.unseen, case.now = {}, GRACE_S - 1
    await case.unheld.look()
    case.unseen = {"G0": "Unknown Error"}
    assert await case.looks(0) == [] and case.processes.pids() == {1}


async def test_nobody_is_ended_once_the_gpu_is_seen_but_its_grace_is_over_until_it_is_believed(case):
    case.run(1, maps=LIBCUDA)
    await case.unheld.look()
    case.blind, case.now = set(), GRACE_S
    assert [await case.unheld.look() for _ in range(3)] == [()] * 3
    case.blind = {"G0"}
    assert len([told for _ in range(ROUNDS) for told in await case.unheld.look()]) == 1


def _whole(case):
    case.slices = [item(whole=True)]


def _held_by_the_driver(case):
    case.levels = {"a": 3}


def _a_client_of_mps(case):
    case.levels, case.clients = {"a": 1}, {1}


def _on_another_gpu(case):
    case.slices = [item(gpu="G1")]


def _a_neighbour_in_its_pod(case):
    case.slices = [item(container="side"), item("b", gpu="G1")]


def _perhaps_a_neighbour_in_its_pod(case):
    case.names = {}
    _a_neighbour_in_its_pod(case)


def _of_no_slice(case):
    case.slices = [item(pod=OTHER_POD)]


@pytest.mark.parametrize(
    "arrange",
    [
        _whole,
        _held_by_the_driver,
        _a_client_of_mps,
        _on_another_gpu,
        _a_neighbour_in_its_pod,
        _perhaps_a_neighbour_in_its_pod,
        _of_no_slice,
    ],
)
async def test_an_innocent_container_goes_on(case, arrange):
    arrange(case)
    case.run(1, maps=LIBCUDA)
    assert await case.looks(5) == [] and case.processes.pids() == {1}


async def test_one_that_the_shim_holds_goes_on_and_so_does_one_without_the_driver(case):
    case.run(1, maps=case.shimmed(), opened=("/dev/nvidia0",))
    case.run(2)
    case.run(3, SIDE)
    assert await case.looks(5) == [] and case.processes.pids() == {1, 2, 3}


async def test_a_library_of_the_same_name_is_not_the_shim(case):
    case.run(1, maps=f"{LIBCUDA}7f02-7f03 r-xp 00000000 08:01 5 /usr/local/lib/tessera/{NAME}\n")
    assert len(await case.looks()) == 1


@pytest.mark.parametrize("clients", [{2}, set(), None], ids=["others", "nobody", "not told"])
@pytest.mark.parametrize("level", [1, 2])
async def test_a_program_of_a_slice_of_mps_that_is_no_client_is_not_held(case, level, clients):
    case.levels, case.clients = {"a": level}, clients
    case.run(1, maps=LIBCUDA)
    assert len(await case.looks()) == 1 and case.processes.pids() == set()


async def test_a_client_list_does_not_count_for_a_slice_that_is_only_watched(case):
    case.clients = {1}
    case.run(1, maps=LIBCUDA)
    assert len(await case.looks()) == 1 and case.processes.pids() == set()


async def test_a_shim_that_reads_another_file_than_ours_does_not_hold(case):
    mounts = (
        "1 0 8:1 / / rw - ext4 /dev/root rw\n"
        "2 1 8:1 /var/lib/tessera/agent/slices/a /run/tessera ro - ext4 /dev/root rw\n"
        "3 2 8:1 /tenant /run/tessera rw - ext4 /dev/root rw\n"
    )
    case.run(1, maps=case.shimmed(), mounts=mounts)
    assert len(await case.looks()) == 1 and case.processes.pids() == set()
