"""The ladder over the real limiters, with the stand-in for nvidia-cuda-mps-control."""

import asyncio
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_MPS, LEVEL_NONE, LEVEL_WATCH, Gpu
from tessera.model.spans import level_over
from tessera.node_agent.detections import DETECT_S
from tessera.node_agent.enforcement import mps_node
from tessera.node_agent.enforcement.keepers import Keepers
from tessera.node_agent.enforcement.ladder import Ladder
from tessera.node_agent.enforcement.mps import Mps
from tessera.node_agent.enforcement.mps_groups import Extent, partition
from tessera.node_agent.enforcement.watch import Watch
from tessera.node_agent.mps_clients import HostClients
from tessera.node_agent.slices import Slice
from tessera.simulator.fakes.mps import daemon
from tessera.simulator.fakes.mps.clients import FakeMps, install
from tessera.simulator.fakes.processes import FakeProcesses
from tests.fakes.disk import FlakyDisk, PowerCut
from tests.integration.node_agent.test_service import Host, until

GIB = 1 << 30
A, B = "GPU-a", "GPU-b"
ALL = (LEVEL_WATCH, LEVEL_MPS)


def gpu(uuid):
    return Gpu(uuid, "H100", 80 * GIB, 80 * GIB, nvlink_peers=(A, B))


class Node:
    """A node whose agent may be started again on the same disk: ``ladder`` is a fresh one each time."""

    def __init__(self, folder):
        self.folder, self.program = folder, str(install(folder))
        self.slices, self.levels = [], {A: LEVEL_MPS, B: LEVEL_MPS}
        self.extent = Extent.GPU
        self.processes = FakeProcesses(folder / "proc")

    def ladder(self, asked=ALL, disk=None):
        clients = HostClients(self.processes, lambda: self.slices)
        keepers = Keepers(self.folder / "keepers", [item.id for item in self.slices], disk)
        held = lambda: [item for item in self.slices if keepers.may_keep(LEVEL_MPS, item.id)]  # noqa: E731
        node = mps_node.Node(held, clients, lambda: 48)
        mps = self.mps = Mps(self.program, self.folder / "mps", self._partition, node)
        return Ladder((Watch(), mps), asked, self.levels.__getitem__, keepers, lambda: self.slices)

    def _partition(self, kept):
        return partition([gpu(A), gpu(B)], self.extent, kept)

    def give(self, name, mem, gpus=(A,), whole=False):
        shares = tuple(Share(gpu, mem, 0, whole) for gpu in gpus)
        item = Slice(name, f"pod-{name}", "default", name, "main", shares)
        self.slices.append(item)
        return item

    def kept(self):
        files = (self.folder / "keepers").glob("*.json")
        return {path.stem: json.loads(path.read_text())["level"] for path in files}

    def ceiling(self, gpu=A):
        return FakeMps(self.folder / "mps" / gpu / "pipe").state["memory"][gpu]


def runs(folder):
    """The GPUs whose daemon is there."""
    return [path.parents[1].name for path in folder.glob(f"*/pipe/{daemon.STATE}")]


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


async def test_the_highest_level_that_works_is_found(node):
    found = await node.ladder().detect(A)
    assert (found.level, "an MPS server answers" in found.evidence) == (LEVEL_MPS, True)


async def test_why_a_gpu_has_no_higher_level_is_told(node):
    node.program = str(node.folder / "absent")
    found = await node.ladder().detect(A)
    assert found.level == LEVEL_WATCH
    assert found.evidence.startswith("the driver tells the memory of each process; not level 1: MPS does not work: ")
    assert "No such file" in found.evidence


async def test_a_level_that_is_broken_ends_the_search(node):
    await node.ladder().detect(A)
    await node.ladder().prepare(node.give("a", 4 * GIB))
    FakeMps(node.folder / "mps" / A / "pipe").behave(daemon.BABBLES)
    found = await node.ladder().detect(A)
    assert (found.level, "MPS does not work" in found.evidence) == (LEVEL_NONE, True)


async def test_a_level_that_has_slices_and_is_in_trouble_ends_the_search_though_it_is_not_asked_for(node):
    await node.ladder().detect(A)
    again, item = node.ladder(asked=(LEVEL_WATCH,)), node.give("a", 4 * GIB)
    await node.ladder().prepare(item)
    await again.prepare(item)
    fake = FakeMps(node.folder / "mps" / A / "pipe")
    fake.behave(daemon.BABBLES)
    while "MpsDaemonSilent" not in [one.reason for one in await again.observe()]:
        assert (await again.detect(A)).level == LEVEL_WATCH
    found = await again.detect(A)
    assert (found.level, "does not answer, nobody is admitted" in found.evidence) == (LEVEL_NONE, True)
    assert (await again.detect(B)).level == LEVEL_WATCH
    fake.behave()
    await again.observe()
    assert (await again.detect(A)).level == LEVEL_WATCH


async def test_a_level_that_is_not_asked_for_is_not_tried(node):
    found = await node.ladder(asked=(LEVEL_WATCH,)).detect(A)
    assert (found.level, "level 1" in found.evidence) == (LEVEL_WATCH, False)
    assert not (node.folder / "mps").exists()


async def test_a_daemon_that_was_left_over_ends_where_mps_is_no_longer_asked_for(node):
    for uuid in (A, B):
        await node.ladder().detect(uuid)
    await node.ladder().prepare(node.give("a", 4 * GIB))
    again = node.ladder(asked=(LEVEL_WATCH,))
    for uuid in (A, B):
        assert (await again.detect(uuid)).level == LEVEL_WATCH
    assert runs(node.folder / "mps") == [A]
    await again.release(node.slices.pop())
    await again.detect(A)
    assert runs(node.folder / "mps") == []


async def test_one_that_does_not_end_is_told_and_tried_again(node):
    await node.ladder().detect(A)
    fake = FakeMps(node.folder / "mps" / A / "pipe")
    fake.behave(daemon.BABBLES)
    again = node.ladder(asked=(LEVEL_WATCH,))
    assert f"the MPS daemon of GPU {A} at level 1 does not stop" in (await again.detect(A)).evidence
    fake.behave()
    assert "does not stop" not in (await again.detect(A)).evidence
    assert runs(node.folder / "mps") == []


async def test_a_slice_is_held_at_the_lowest_level_of_its_gpus(node):
    node.levels[B] = LEVEL_WATCH
    edits = await node.ladder().prepare(node.give("a", 4 * GIB, (A, B)))
    assert (edits.level, edits.env, node.kept()) == (LEVEL_WATCH, {}, {"a": LEVEL_WATCH})


async def test_a_slice_over_two_daemons_is_not_taken_for_held(node):
    item = node.give("a", 4 * GIB, gpus=(A, B))
    assert ((await node.ladder().prepare(item)).level, node.kept()) == (LEVEL_WATCH, {"a": LEVEL_WATCH})
    assert ((await node.ladder().prepare(item)).level, node.kept()) == (LEVEL_WATCH, {"a": LEVEL_WATCH})


@pytest.mark.parametrize("extent", list(Extent))
@pytest.mark.parametrize("levels", [(LEVEL_MPS, LEVEL_MPS), (LEVEL_MPS, LEVEL_WATCH), (LEVEL_WATCH, LEVEL_WATCH)])
async def test_the_level_of_a_slice_is_the_one_that_the_scheduler_counts_on(node, extent, levels):
    node.extent, node.levels = extent, dict(zip((A, B), levels, strict=True))
    ladder = node.ladder()
    published = [replace(gpu(uuid), level=node.levels[uuid], mps_group=node.mps.group_name(uuid)) for uuid in (A, B)]
    edits = await ladder.prepare(node.give("a", 4 * GIB, gpus=(A, B)))
    assert edits.level == level_over(published)


async def test_whole_gpus_are_only_watched(node):
    assert (await node.ladder().prepare(node.give("a", 4 * GIB, whole=True))).level == LEVEL_WATCH


async def test_a_gpu_below_every_level_has_its_slices_watched(node):
    node.levels[A] = -1
    assert (await node.ladder().prepare(node.give("a", 4 * GIB))).level == LEVEL_WATCH


@pytest.mark.parametrize("asked", [ALL, (LEVEL_WATCH,)])
async def test_a_slice_stays_with_its_level_when_the_gpu_falls_and_the_agent_starts_again(node, asked):
    large, small = node.give("large", 8 * GIB), node.give("small", 4 * GIB)
    first = node.ladder()
    for item in (large, small):
        await first.prepare(item)
    node.levels[A] = LEVEL_WATCH
    again = node.ladder(asked)
    for item in (large, small):
        assert (await again.prepare(item)).level == LEVEL_MPS
    node.slices.remove(large)
    await again.release(large)
    assert (node.ceiling(), node.kept()) == ("4096M", {"small": LEVEL_MPS})


async def test_a_gpu_with_a_slice_that_is_only_watched_does_not_rise(node):
    ladder, item = node.ladder(), node.give("a", 4 * GIB)
    node.levels[A] = LEVEL_WATCH
    await ladder.prepare(item)
    found = await ladder.detect(A)
    assert found.level == LEVEL_WATCH
    assert f"not level 1: slices lie on GPU {A} that are held at level 0" in found.evidence
    assert not (node.folder / "mps").exists()
    assert (await ladder.detect(B)).level == LEVEL_MPS
    node.slices.remove(item)
    await ladder.release(item)
    assert (await ladder.detect(A)).level == LEVEL_MPS


@pytest.mark.parametrize("form", [{"gpus": (A, B)}, {"whole": True}])
async def test_what_mps_would_not_hold_anyway_is_not_in_its_way(node, form):
    ladder = node.ladder()
    assert (await ladder.prepare(node.give("a", 4 * GIB, **form))).level == LEVEL_WATCH
    assert (await ladder.detect(A)).level == LEVEL_MPS


async def test_a_slice_that_comes_while_a_level_is_tried_counts(node):
    ladder, item = node.ladder(), node.give("a", 4 * GIB)
    node.levels[A] = LEVEL_WATCH
    trying = asyncio.create_task(ladder.detect(A))
    await until((node.folder / "mps" / A).exists)
    await ladder.prepare(item)
    found = await trying
    assert (found.level, "held at level 0" in found.evidence) == (LEVEL_WATCH, True)


async def test_a_slice_that_was_watched_stays_so_when_the_gpu_rises(node):
    node.levels[A] = LEVEL_WATCH
    item = node.give("a", 4 * GIB)
    await node.ladder().prepare(item)
    node.levels[A] = LEVEL_MPS
    assert (await node.ladder().prepare(item)).env == {}


async def test_what_was_released_is_prepared_at_the_level_of_the_day(node):
    ladder, item = node.ladder(), node.give("a", 4 * GIB)
    await ladder.prepare(item)
    await ladder.release(item)
    await ladder.release(item)
    node.levels[A] = LEVEL_WATCH
    assert (await ladder.prepare(item)).level == LEVEL_WATCH


async def test_of_slices_that_are_gone_no_level_is_kept(node):
    await node.ladder().prepare(node.give("a", 4 * GIB))
    node.slices.clear()
    node.ladder()
    assert node.kept() == {}


async def test_a_level_that_cannot_be_read_is_found_anew(node):
    item = node.give("a", 4 * GIB)
    await node.ladder().prepare(item)
    (node.folder / "keepers" / "a.json").write_text('{"version": 1, "lev')
    node.levels[A] = LEVEL_WATCH
    assert (await node.ladder().prepare(item)).level == LEVEL_WATCH
    assert node.kept() == {"a": LEVEL_WATCH}


@pytest.mark.parametrize("step", range(3))
async def test_nothing_is_in_force_before_its_level_is_recorded(node, step):
    item, disk = node.give("a", 4 * GIB), FlakyDisk()
    disk.crash_in = step
    with pytest.raises(PowerCut):
        await node.ladder(disk=disk).prepare(item)
    assert not (node.folder / "mps").exists()
    assert (await node.ladder().prepare(item)).level == LEVEL_MPS


@pytest.fixture
def short():
    """A folder whose sockets have names that the kernel takes."""
    with tempfile.TemporaryDirectory(prefix="m", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def test_where_mps_is_turned_off_its_daemons_and_their_memory_stay_as_long_as_its_slices(
    machine, tmp_path, short
):
    more = {"mps_control": str(install(tmp_path)), "mps_dir": short, "mps_proof": False}
    async with Host(machine, tmp_path, enforcement="mps", **more) as host:
        await host.prepare(host.slice("slot-a"))
    async with Host(machine, tmp_path, enforcement="watch", **more) as host:
        give = lambda: [gpu.mem_bytes >> 20 for gpu in host.service.gpus.now.values()]  # noqa: E731
        assert runs(short) == [machine.uuids[0]]
        large = 81559 - 626 - 256
        assert give()[0] == large - 512
        await host.service.preparation.release("slot-a")
        host.later_s += 31.0
        await until(lambda: not runs(short))
        await until(lambda: give()[0] == large)


@pytest.mark.parametrize("enforcement", ["mps", "watch"])
async def test_a_container_under_mps_starts_again_whatever_its_gpu_has_by_now(machine, tmp_path, short, enforcement):
    more = {"mps_control": str(install(tmp_path)), "mps_dir": short, "mps_proof": False}
    async with Host(machine, tmp_path, enforcement="mps", **more) as host:
        first = await host.prepare(host.slice("slot-a", min_level=1))
    async with Host(machine, tmp_path, enforcement=enforcement, **more) as host:
        assert (await host.prepare(host.slice("slot-a", min_level=1))).level == first.level == LEVEL_MPS


async def test_the_agent_keeps_a_slice_under_mps_when_the_operator_turns_it_off(machine, tmp_path, short):
    more = {"mps_control": str(install(tmp_path)), "mps_dir": short, "mps_proof": False}
    async with Host(machine, tmp_path, enforcement="mps", **more) as host:
        assert (await host.prepare(host.slice("slot-a"))).level == LEVEL_MPS
    async with Host(machine, tmp_path, enforcement="watch", **more) as host:
        assert (await host.prepare(host.slice("slot-a"))).level == LEVEL_MPS
        assert (await host.prepare(host.slice("slot-b", pod="b" * 8))).level == LEVEL_WATCH


async def test_a_daemon_that_hangs_does_not_hold_up_what_is_told_of_other_gpus(machine, tmp_path, short):
    more = {"mps_control": str(install(tmp_path)), "mps_dir": short, "mps_proof": False}
    async with Host(machine, tmp_path, enforcement="mps", **more) as host:
        hangs, *others = machine.uuids
        now = lambda uuid: host.service.gpus.now[uuid]  # noqa: E731
        FakeMps(short / hangs / "pipe").behave(daemon.HANGS)
        host.later_s += DETECT_S
        for uuid in others:  # the second is seen by a look that begins after the detection has
            machine.state.change(uuid, lost=True)
            machine.write()
            await until(lambda uuid=uuid: not now(uuid).health.healthy)
        assert now(hangs).level == LEVEL_MPS, "its own detection still waits for an answer"
        await until(lambda: now(hangs).level == LEVEL_NONE)
