"""Who is told that a container's usage file is not what the shim writes, and who is not."""

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tessera.model.assignment import Share
from tessera.node_agent.enforcement import usage_file
from tessera.node_agent.enforcement.usage_file import HEAD_SIZE, LEDGER, MAGIC, MOST_BYTES, SIZE, SLOT_SIZE, damage_of
from tessera.node_agent.kernel import HostKernel
from tessera.node_agent.slice_containers import SliceContainers
from tessera.node_agent.slices import Slice
from tessera.node_agent.usage_files import EVERY, REASON, TIMES, UsageFiles
from tessera.simulator.fakes.processes import FakeProcesses

POD, MAIN, SIDE = "11111111-2222-3333-4444-555555555555", "ab" * 32, "cd" * 32


def ledger(slots: int = 1, *held: int, taken: int = 1, size: int = SIZE, magic: bytes = MAGIC) -> bytes:
    """A file whose first process holds so many bytes of each GPU."""
    head = (magic + struct.pack("<I", slots)).ljust(HEAD_SIZE, b"\0")
    slot = struct.pack("<16QII", *held, *[0] * (16 - len(held)), taken, 4711).ljust(SLOT_SIZE, b"\0")
    return (head + slot).ljust(size, b"\0")[:size]


def noise(seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(SIZE)


class Case:
    """A pod with a slice for each of two containers; the first has two GPUs and a process."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.processes = FakeProcesses(self.proc)
        shares = (Share("GPU-a", 10), Share("GPU-b", 10))
        self.slices = [Slice("main", POD, "ns", "p", "main", shares), Slice("side", POD, "ns", "p", "side", shares[:1])]
        self.names: dict[str, str] = {MAIN: "main", SIDE: "side"}
        containers = SliceContainers(
            lambda: self.slices, self.processes, HostKernel(self.proc),
            lambda container: self.names.get(container.container_id),
        )  # fmt: skip
        self.files = UsageFiles(containers, lambda pid: damage_of(pid, self.proc))
        self.start(10, MAIN)

    def start(self, pid: int, container: str, pod: str = POD) -> None:
        self.processes.start(pid, pod, container)

    def path(self, pid: int = 10) -> Path:
        path = self.proc / str(pid) / "root" / LEDGER
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def leaves(self, content: bytes, pid: int = 10) -> None:
        self.path(pid).write_bytes(content)

    async def looks(self, times: int = EVERY + TIMES) -> list[tuple[str, ...]]:
        """The reason and the slices of each thing that is new."""
        return [(one.reason, *one.slices) for _ in range(times) for one in (await self.files.look()).new]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (noise(), "does not begin as that of the library"),
        (bytes(SIZE), "does not begin as that of the library"),
        (noise()[:20], f"has 20 bytes instead of {SIZE}"),
        (b"", f"has 0 bytes instead of {SIZE}"),
        (ledger(size=SIZE // 2), f"has {SIZE // 2} bytes instead of {SIZE}"),
        (ledger(257), "tells of 257 processes, and has room for 256"),
        (ledger(1, 0, MOST_BYTES + 1), f"tells of a process with {MOST_BYTES + 1} bytes of a GPU"),
        (ledger(1, taken=7), "tells of a process that is neither there nor gone"),
        (MAGIC + noise()[8:], "tells of"),
    ],
)
async def test_noise_is_told_to_the_pod_once_and_stands_against_its_gpus(
    case: Case, content: bytes, words: str
) -> None:
    case.leaves(content)
    assert await case.looks() == [(REASON, "main")]
    for _ in range(2 * EVERY):
        found = await case.files.look()
        (stands,) = found.stands
        assert (found.new, stands.gpu_uuid, stands.also) == ((), "GPU-a", ("GPU-b",))
        assert f"the usage file of its slice {words}" in stands.text
    assert case.processes.pids() == {10}


@pytest.mark.parametrize(
    "content",
    [
        ledger(0),
        ledger(1, 1 << 30, 1 << 40),
        ledger(256, *[MOST_BYTES] * 16),
        ledger(2, taken=0),
        ledger() + b"more",
        ledger(9999, magic=b"TESSERS2", size=4096),
    ],
    ids=["fresh", "in use", "as much as can be", "of one that is gone", "longer", "of a newer library"],
)
async def test_what_the_shim_writes_is_not(case: Case, content: bytes) -> None:
    case.leaves(content)
    assert await case.looks() == []


async def test_who_has_no_file_is_not(case: Case) -> None:
    assert await case.looks() == []
    case.path()
    assert await case.looks() == []


def a_link(path: Path) -> None:
    path.with_name("other").write_bytes(ledger())
    path.symlink_to("other")


@pytest.mark.parametrize("made", [a_link, Path.mkdir, os.mkfifo], ids=["a link", "a folder", "a pipe"])
async def test_what_is_no_file_is_told(case: Case, made: Callable[[Path], None]) -> None:
    made(case.path())
    assert await case.looks() == [(REASON, "main")]


async def test_an_image_with_a_link_on_the_way_says_nothing(case: Case) -> None:
    root = case.proc / "10" / "root"
    case.leaves(noise())
    (root / "run").rename(root / "elsewhere")
    (root / "run").symlink_to("elsewhere")
    assert await case.looks() == []


async def test_one_that_is_just_being_made_is_not_told(case: Case) -> None:
    case.leaves(b"")
    await case.looks(EVERY)
    case.leaves(ledger())
    assert await case.looks() == []


async def test_it_goes_when_the_file_is_whole_again_and_is_not_told_twice(case: Case) -> None:
    case.leaves(noise())
    await case.looks()
    case.leaves(ledger())
    await case.looks()
    assert (await case.files.look()).stands == ()
    case.leaves(noise())
    assert await case.looks() == []
    assert len((await case.files.look()).stands) == 1


async def test_it_goes_with_the_container_and_one_that_was_started_again_is_told_of_again(case: Case) -> None:
    case.leaves(noise())
    await case.looks()
    case.processes.remove(10)
    await case.looks()
    assert (await case.files.look()).stands == ()
    case.start(10, MAIN)
    case.leaves(noise())
    assert await case.looks() == [(REASON, "main")]


async def test_the_first_process_that_sees_the_file_decides_and_each_container_is_told_of(case: Case) -> None:
    case.start(11, MAIN)
    case.leaves(noise(), 11)
    case.start(20, SIDE)
    case.leaves(noise(), 20)
    assert sorted(await case.looks()) == [(REASON, "main"), (REASON, "side")]


async def test_other_peoples_and_containers_without_a_slice_say_nothing(case: Case) -> None:
    case.start(30, MAIN, "99999999-2222-3333-4444-555555555555")
    case.leaves(noise(), 30)
    case.names[SIDE] = "a third"
    case.start(40, SIDE)
    case.leaves(noise(), 40)
    assert await case.looks() == []


def test_any_noise_behind_the_magic_is_judged_and_nothing_breaks() -> None:
    for seed in range(50):
        for size in (0, 8, 12, HEAD_SIZE, SIZE):
            assert usage_file.damage((MAGIC + noise(seed)[8:])[:size])
