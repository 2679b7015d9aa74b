"""Whatever crashes and repeats itself: what a container reads of its lease is the newest that can be known, an older
epoch never follows a newer one, nothing follows a lease's end but another lease's start, and each start of the
container, and no repetition, has an epoch of its own."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tessera.device_plugin.checks import Grant
from tessera.device_plugin.claims import Claiming
from tessera.device_plugin.cluster import Environment, NodePod
from tessera.device_plugin.identity import Claimant
from tessera.device_plugin.journal import Journal
from tessera.device_plugin.lease_dirs import LeaseDirs
from tessera.device_plugin.lease_keeping import LeaseKeeping
from tessera.device_plugin.leased_slices import LeasedSlices
from tessera.device_plugin.leases import Lease
from tessera.device_plugin.refusals import Refused, wait
from tessera.device_plugin.slices import Holder, Slice
from tessera.device_plugin.store import SliceStore
from tessera.model.assignment import Share
from tessera.model.demands import PodDemand
from tessera.model.gpu_leases import Attach, Client, GpuLease, Phase
from tessera.model.placements import Preferences
from tessera.model.pods import Pod
from tests.fakes.disk import FlakyDisk, PowerCut

MEMORY = Path("/dev/shm")
NODE, NAME = "node-a", "pod-1"
HOLDER = Holder("uid", "ns", "pod", "main")
GRANT = Grant((), PodDemand("ns", "pod", "uid", (), Preferences()), "", NAME)
CLIENT = Client("pod", "uid", "main", NODE)
LEASE = Lease(GpuLease("ns", NAME, "0", CLIENT, "gpu-node", Share("GPU-0", 1)), "0")


class Outside:
    """The API server with one lease, its controller, the container runtime, and the writing of specs."""

    def __init__(self) -> None:
        self.lease = LEASE
        self.gone = False
        self.unheard: list[Lease | None] = []
        self.heard: Lease | None = None
        self.served: list[tuple[str, Attach]] = []
        self.willing = True
        self.conflicts = 0
        self.created: list[str] = []
        self.armed = ""

    def write(self, lease: Lease) -> None:
        self.lease = replace(lease, version=str(int(lease.version) + 1))
        self.unheard.append(self.lease)

    @property
    def over(self) -> bool:
        """Whether the newest lease is."""
        return self.gone or self.lease.known.deleting or self.lease.known.phase is Phase.RELEASED

    def end(self, how: str) -> None:
        """It comes to its end, and may have gone before."""
        self.gone = self.gone or how in ("gone", "another")
        if self.gone:
            self.unheard.append(None)
        elif how == "deleted":
            self.write(replace(self.lease, known=replace(self.lease.known, deleting=True)))
        else:
            self.write(replace(self.lease, known=replace(self.lease.known, phase=Phase.RELEASED)))
        if how == "another":
            self.gone, known = False, replace(LEASE.known, uid=str(int(self.lease.known.uid) + 1))
            self.write(replace(LEASE, known=known, version=self.lease.version))

    def new_executor(self) -> None:
        """The controller has one that serves the newest start, in an epoch of its own."""
        if self.over:
            return
        epoch = self.lease.known.epoch + 1
        phase = Phase.ACTIVE if self.lease.attach else Phase.READY
        known = replace(self.lease.known, epoch=epoch, phase=phase)
        if self.lease.attach and self.lease.attach != self.lease.attached:
            self.served.append((known.uid, self.lease.attach))
        endpoint, attached = f"10.0.0.{epoch}:7000", self.lease.attach
        name = known.server_name
        self.write(replace(self.lease, known=known, endpoint=endpoint, attached=attached, server_name=name))

    def watched(self, key: str) -> Lease | None:
        return self.heard

    async def read(self, namespace: str, name: str) -> Lease | None:
        return None if self.gone else self.lease

    async def attach(self, lease: Lease, start: Attach) -> bool:
        if self.conflicts:
            self.conflicts -= 1
            self.write(replace(self.lease, message="changed by another"))
        if lease.version != self.lease.version:
            return False
        self.write(replace(self.lease, attach=start))
        if self.willing:
            self.new_executor()
        return True

    async def changed(self) -> None:
        await asyncio.sleep(0)

    async def newest(self, pod_uid: str, container: str) -> str:
        return self.created[-1] if self.created else ""

    async def python_path(self, image: str) -> str:
        return ""

    synced = True

    def all(self) -> list[NodePod]:
        return [NodePod(Pod("ns", "pod", "uid"))]

    def by_uid(self, uid: str) -> NodePod | None:
        return NodePod(Pod("ns", "pod", "uid"))

    async def release_dead(self) -> None:
        return None

    async def supersede(self, item: Slice) -> None:
        raise wait("the kubelet still shows the other slot")


class Specs:
    """The writing of the CDI spec, the last step before the container may be created."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def write(self, device: str, lease_dir: Path, python_path: str, former: Iterable[str]) -> None:
        self._outside.armed = device


class Machine(RuleBasedStateMachine):
    """A container starts and restarts, executors come and go, the lease ends and another takes its name, the watch
    lags, the plugin's power fails."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        (self.folder / "ca").write_text("-----BEGIN CERTIFICATE-----")
        self.disk, self.outside, self.runner = FlakyDisk(), Outside(), asyncio.Runner()
        self.highest = (-1, 0)
        self.epochs: list[tuple[int, int]] = []
        self.ends: dict[int, object] = {}
        self.device = ""
        self._boot()

    def _boot(self) -> None:
        store = SliceStore(Journal(self.folder / "slices", self.disk))
        claiming = Claiming(store, self.outside, self.outside)
        dirs = LeaseDirs(self.folder / "leases", self.folder / "ca", self.disk)
        dirs.sweep(lambda device: store.book.get(device) is not None)
        specs = Specs(self.outside)
        self.store, self.dirs = store, dirs
        self.slices = LeasedSlices(NODE, claiming, self.outside, dirs, specs, self.outside, wait_s=0.01)
        self.keeping = LeaseKeeping(NODE, store.book, self.outside, dirs)
        if not self.device:
            self.device = self.runner.run(store.allocate("slot-000")).device

    def _crash(self, lose: bool) -> None:
        self.disk.power_up(lose_unflushed=lose)
        self.outside.armed, self.outside.heard = "", None
        self._boot()

    def _written(self) -> dict[str, object]:
        path = self.dirs.path(self.device) / "lease.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _epoch(self) -> tuple[int, int]:
        """What the container reads: which lease, and which epoch of it."""
        written = self._written()
        if not written:
            return (-1, 0)
        return int(str(written["server_name"]).partition(".")[0]), int(str(written["epoch"]))

    @rule(crash=st.none() | st.integers(0, 6), lose=st.booleans(), conflicts=st.integers(0, 2))
    def prestart(self, crash: int | None, lose: bool, conflicts: int) -> None:
        """The kubelet asks, perhaps not for the first time."""
        environment = {"main": Environment("image")}
        claimant = Claimant(HOLDER, NodePod(Pod("ns", "pod", "uid"), {}, environment), None)
        self.disk.crash_in, self.outside.conflicts, self.outside.armed = crash, conflicts, ""
        item = self.store.book.current("slot-000")
        assert item
        try:
            self.runner.run(self.slices(item, claimant, GRANT))
        except PowerCut:
            self._crash(lose)
        except Refused:
            assert not self.outside.armed
            assert self.outside.over or not self.outside.lease.serves_start(self._start())
        self.disk.crash_in, self.outside.conflicts = None, 0
        if self.outside.armed:
            self._started_with_the_newest()

    def _started_with_the_newest(self) -> None:
        lease, written = self.outside.lease, self._written()
        assert (written["endpoint"], written["epoch"]) == (lease.endpoint, lease.known.epoch)
        assert lease.attached == self._start() and "over" not in written

    def _start(self) -> Attach:
        return Attach(self.device, self.outside.created[-1] if self.outside.created else "")

    @precondition(lambda self: self.outside.armed)
    @rule()
    def create(self) -> None:
        """The runtime finds the spec and creates the container, which ends at once or later."""
        self.epochs.append(self._epoch())
        self.outside.created.append(f"container-{len(self.outside.created)}")
        self.outside.armed = ""

    @rule()
    def executor_is_replaced(self) -> None:
        self.outside.new_executor()

    @precondition(lambda self: not self.outside.over)
    @rule(how=st.sampled_from(["deleted", "released", "gone"]))
    def lease_ends(self, how: str) -> None:
        self.outside.end(how)

    @rule()
    def another_lease_takes_its_name(self) -> None:
        self.outside.end("another")

    @precondition(lambda self: not self.outside.over)
    @rule()
    def executor_is_lost(self) -> None:
        lease = self.outside.lease
        self.outside.write(replace(lease, known=replace(lease.known, phase=Phase.LOST), endpoint=""))

    @rule(willing=st.booleans())
    def controller_comes_or_goes(self, willing: bool) -> None:
        self.outside.willing = willing
        if willing and self.outside.lease.attach != self.outside.lease.attached:
            self.outside.new_executor()

    @rule(hears=st.booleans(), crash=st.none() | st.integers(0, 4), lose=st.booleans())
    def watch_tells(self, hears: bool, crash: int | None, lose: bool) -> None:
        """Of one change, the oldest that was not told, or of none; what is read live may be newer."""
        if hears and self.outside.unheard:
            self.outside.heard = self.outside.unheard.pop(0)
        self.disk.crash_in = crash
        try:
            self.runner.run(self.keeping.refresh())
        except PowerCut:
            self._crash(lose)
        self.disk.crash_in = None

    @rule()
    def watch_catches_up(self) -> None:
        self.outside.heard, self.outside.unheard = None if self.outside.gone else self.outside.lease, []
        self.runner.run(self.keeping.refresh())
        lease, written = self.outside.lease, self._written()
        if written and (self.outside.over or written["server_name"] != lease.known.server_name):
            assert written["over"]
        elif written and lease.serves and lease.attached and lease.attached.device == self.device:
            assert (written["endpoint"], written["epoch"]) == (lease.endpoint, lease.known.epoch)

    @rule(lose=st.booleans())
    def power_cut(self, lose: bool) -> None:
        self._crash(lose)

    @invariant()
    def no_older_epoch_follows(self) -> None:
        epoch = self._epoch()
        assert epoch >= self.highest
        self.highest = epoch

    @invariant()
    def an_end_is_true_and_stays(self) -> None:
        lease, _ = self._epoch()
        said = self._written().get("over")
        assert not said or self.outside.over or lease < int(self.outside.lease.known.uid)
        assert said == self.ends.get(lease, said), "nothing takes it back"
        if said:
            self.ends[lease] = said

    @invariant()
    def each_start_has_an_epoch_of_its_own(self) -> None:
        assert self.epochs == sorted(set(self.epochs))

    @invariant()
    def no_start_was_attached_twice(self) -> None:
        assert len(self.outside.served) == len(set(self.outside.served))

    def teardown(self) -> None:
        self.runner.close()
        shutil.rmtree(self.folder, ignore_errors=True)


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLeasesStayCurrent = Machine.TestCase
