"""Whatever crashes at whatever step: no name is given twice, no container holds two slots, no GPU is over-committed,
and nothing that was answered is forgotten."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tessera.device_plugin.checks import Grant
from tessera.device_plugin.claims import Claiming
from tessera.device_plugin.cluster import NodePod
from tessera.device_plugin.journal import Journal
from tessera.device_plugin.refusals import Refused, wait
from tessera.device_plugin.slices import Holder, Slice
from tessera.device_plugin.store import SliceStore
from tessera.model.assignment import Share
from tessera.model.demands import PodDemand
from tessera.model.gpus import Gpu
from tessera.model.placements import Preferences
from tessera.model.pods import Pod
from tests.fakes.disk import FlakyDisk, PowerCut

GIB = 1 << 30
MEMORY = Path("/dev/shm")  # flushing costs nothing there, and it is the order of steps that counts
GPUS = {uuid: Gpu(uuid, "L4", 8 * GIB, 9 * GIB) for uuid in ("GPU-a", "GPU-b")}
SLOTS = [f"slot-{n:03d}" for n in range(4)]
DEMAND = PodDemand("ns", "pod", "uid", (), Preferences())

shares = st.lists(
    st.builds(Share, st.sampled_from(list(GPUS)), st.sampled_from([GIB, 5 * GIB, 8 * GIB]), st.sampled_from([0, 60])),
    min_size=1,
    max_size=2,
    unique_by=lambda share: share.uuid,
).map(tuple)


class World:
    """The pods that live, as the watch tells them, and the release of those that do not."""

    def __init__(self) -> None:
        self.live: set[str] = set()
        self.store: SliceStore | None = None

    @property
    def synced(self) -> bool:
        return True

    def all(self) -> list[NodePod]:
        return [NodePod(Pod("ns", uid, uid)) for uid in self.live]

    def by_uid(self, uid: str) -> NodePod | None:
        return NodePod(Pod("ns", uid, uid)) if uid in self.live else None

    async def changed(self) -> None:
        return None

    async def release_dead(self) -> None:
        assert self.store
        for item in self.store.book:
            dead = item.holder is not None and item.holder.uid not in self.live
            if dead or (item.holder is None and not self.store.book.is_current(item)):
                await self.store.release(item.device)

    async def supersede(self, item: Slice) -> None:
        raise wait("the kubelet still shows the other slot")


class Machine(RuleBasedStateMachine):
    """The kubelet hands out slots, containers start, pods end, the power fails."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.disk = FlakyDisk()
        self.world = World()
        self.runner = asyncio.Runner()
        self.answered: set[str] = set()
        self.prepared: dict[str, Slice] = {}
        self.held: dict[str, tuple[str, str]] = {}
        self.counter = 0
        self._boot()

    def _boot(self) -> None:
        self.store = SliceStore(Journal(self.folder, self.disk))
        assert not self.store.broken
        self.world.store = self.store
        self.claiming = Claiming(self.store, self.world, self.world)

    def _crash(self, lose: bool) -> None:
        self.disk.power_up(lose_unflushed=lose)
        self._boot()

    @rule(slot=st.sampled_from(SLOTS), crash=st.none() | st.integers(0, 2), lose=st.booleans())
    def allocate(self, slot: str, crash: int | None, lose: bool) -> None:
        """The kubelet admits a container; it does so only with a slot that it thinks free."""
        if slot in self.held:
            return
        self.disk.crash_in = crash
        try:
            item = self.runner.run(self.store.allocate(slot))
        except PowerCut:
            self._crash(lose)
            return
        self.disk.crash_in = None
        assert item.device not in self.answered
        self.answered.add(item.device)
        self.counter += 1
        self.held[slot] = (f"uid-{self.counter}", "main")
        self.world.live.add(f"uid-{self.counter}")

    @rule(
        slot=st.sampled_from(SLOTS),
        given=shares,
        crash=st.none() | st.integers(0, 2),
        lose=st.booleans(),
        twin=st.booleans(),
    )
    def prestart(self, slot: str, given: tuple[Share, ...], crash: int | None, lose: bool, twin: bool) -> None:
        """A container is about to start; ``twin``: a wrong kubelet names a container that holds another slot."""
        if slot not in self.held:
            return
        uid, container = next(iter(self.held.values())) if twin else self.held[slot]
        current = self.store.book.current(slot)
        assert current is not None, "an answered Allocate was forgotten"
        self.disk.crash_in = crash
        holder = Holder(uid, "ns", uid, container)
        try:
            item = self.runner.run(self.claiming.claim(current, holder, Grant(given, DEMAND), GPUS))
        except PowerCut:
            self._crash(lose)
            return
        except Refused:
            self.disk.crash_in = None
            return
        self.disk.crash_in = None
        self.prepared[item.device] = item

    @rule(slot=st.sampled_from(SLOTS), given=shares)
    def start(self, slot: str, given: tuple[Share, ...]) -> None:
        """A container comes all the way, if it may."""
        self.allocate(slot, None, False)
        self.prestart(slot, given, None, False, False)

    @rule(slot=st.sampled_from(SLOTS))
    def pod_ends(self, slot: str) -> None:
        """The pod is gone and the kubelet has freed its slot; nothing was released yet."""
        if slot in self.held:
            self.world.live.discard(self.held.pop(slot)[0])

    @rule(crash=st.none() | st.integers(0, 2), lose=st.booleans())
    def reclaim(self, crash: int | None, lose: bool) -> None:
        self.disk.crash_in = crash
        try:
            self.runner.run(self.world.release_dead())
        except PowerCut:
            self._crash(lose)
        self.disk.crash_in = None

    @rule(lose=st.booleans())
    def power_cut(self, lose: bool) -> None:
        self._crash(lose)

    @invariant()
    def no_container_holds_two_slots(self) -> None:
        holders = [(s.holder.uid, s.holder.container) for s in self.store.book if s.holder]
        assert len(holders) == len(set(holders))

    @invariant()
    def no_gpu_is_over_committed(self) -> None:
        for uuid, (mem, core, _) in self.store.book.allocated().items():
            assert mem <= GPUS[uuid].mem_bytes and core <= 100

    @invariant()
    def nothing_answered_is_forgotten(self) -> None:
        for device, item in self.prepared.items():
            if item.holder and item.holder.uid in self.world.live:
                found = self.store.book.get(device)
                assert found is not None and found.holder == item.holder

    def teardown(self) -> None:
        self.runner.close()
        shutil.rmtree(self.folder, ignore_errors=True)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSlicesSurvive = Machine.TestCase
