"""Slices on other nodes beside an API server that refuses, loses answers and tells late, with leaders that change.

Pods and GPULeases are told of by two watches, of which either may be behind, and leases move: they are given a second
slice, get executors there, and are moved, or stay. Whatever the order: no GPU is over its capacity, each slice counts
once, and the ledger that is rebuilt from the API's objects is the running one once that has heard everything.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from tessera.model.assignment import Share
from tessera.model.charges import charge_of
from tessera.model.gpu_leases import GpuLease, Slice
from tessera.model.hosts import Host, HostNeed
from tessera.model.ledger import Ledger
from tessera.model.pods import Pod
from tessera.model.quantities import GIB
from tessera.reasons import Reason
from tessera.scheduler.engine import Engine
from tests.unit.scheduler.clusters import Clock, bound, client, executor, node, pooled, remote

NODES = [client("c", 6), client("d", 3), node("g", 24, 16), node("h", 24)]
NAMES = [n.name for n in NODES]
HOSTS = [Host(name, 4_000, 8 * GIB, f"z-{name in 'cg'}") for name in NAMES]
ASKS = ("gpu-mem=4Gi", "gpu-mem=14Gi", "gpu-core=50", "gpu-mem=8Gi gpu-core=40")
MAY = ("required", "required", "allowed", "never")
ENDS = (
    *["accepted"] * 5, "refused", "lost after", "lost before", "lease lost", "leader dies before", "leader dies after",
    "held only",
)  # fmt: skip
AIM_ENDS = (*["written"] * 4, "refused", "lost after", "lost before", "leader dies after")
NEWS_S = 60.0
STEPS = 160


def engine_of(pods: Sequence[Pod], leases: Sequence[GpuLease], clock: Clock, *, leases_first: bool = True) -> Engine:
    """What a new leader makes of the API's objects."""
    found = pooled(*NODES, clock=clock)
    found.replace_hosts(HOSTS)
    if leases_first:
        found.leases.replace(leases)
    found.replace_pods(pods)
    found.leases.replace(leases)
    return found


def in_use(ledger: Ledger) -> Counter[str]:
    """Bytes by GPU."""
    used = ((gpu, gpu.mem_bytes - int(ledger.free_bytes[ledger.row(n.name), column]))
            for n in NODES for column, gpu in enumerate(n.gpus))  # fmt: skip
    return Counter({gpu.uuid: mem for gpu, mem in used if mem})


class History:
    """An API server, its two watches, and the leader; ``seen`` counts what has happened."""

    def __init__(self, seed: int) -> None:
        self.rng, self.clock = Random(seed), Clock()
        self.engine = engine_of([], [], self.clock)
        self.pods: dict[str, Pod] = {}
        self.leases: dict[str, GpuLease] = {}
        self.born: dict[str, Pod] = {}
        self.untold_pods: deque[tuple[str, Pod | None]] = deque()
        self.untold_leases: deque[tuple[GpuLease, bool]] = deque()
        self.mine: set[str] = set()
        self.in_doubt: dict[str, GpuLease] = {}
        self.listed: list[GpuLease] | None = None
        self.count = 0
        self.seen: Counter[str] = Counter()

    def step(self) -> None:
        acts = self.acts()
        self.rng.choices(list(acts), list(acts.values()))[0]()

    def acts(self) -> dict[Callable[[], None], int]:
        """What may happen, and how often against the others."""
        return {
            self.a_pod_is_created: 4, self.a_pod_is_tried_again: 4, self.the_pool_makes_an_executor: 4,
            self.a_pod_ends: 3, self.the_pool_releases_a_lease: 4, self.a_pods_event: 8, self.a_leases_event: 8,
            self.a_watch_breaks: 1, self.another_leader: 1, self.time_passes: 2,
            self.the_leader_aims: 6, self.the_leader_withdraws: 3, self.the_pool_makes_a_targets_executor: 8,
            self.the_pool_moves_a_lease: 3,
        }  # fmt: skip

    # The API server

    def _write(self, uid: str, pod: Pod | None) -> None:
        if pod is None:
            self.pods.pop(uid, None)
        else:
            self.pods[uid] = pod
        self.untold_pods.append((uid, pod))

    def _make(self, promised: GpuLease) -> GpuLease:
        self.count += 1
        made = replace(promised, uid=f"lease-{self.count}")
        assert made.key not in self.leases, "the API server would refuse a second one of that name"
        self.leases[made.key] = made
        self.untold_leases.append((made, True))
        return made

    def _unmake(self, lease: GpuLease) -> None:
        del self.leases[lease.key]
        self.untold_leases.append((lease, False))

    def _change(self, lease: GpuLease) -> None:
        self.leases[lease.key] = lease
        self.untold_leases.append((lease, True))

    def _executors(self, lease: GpuLease) -> list[Pod]:
        return [p for p in self.pods.values() if p.lease == lease.key and p.labels == executor(lease).labels]

    def _serves(self, lease: GpuLease, where: Slice) -> bool:
        """Whether an executor of ``lease`` is bound with that very slice."""
        bound = (p for p in self._executors(lease) if p.node == where.node and not p.ended)
        charges = (charge_of(p) for p in bound)
        return any(c.assignment.shares == (where.share,) for c in charges if c and c.assignment)

    def a_pod_is_created(self) -> None:
        self.count += 1
        asks = [self.rng.choice(ASKS)] * self.rng.choice([1, 1, 2])
        created = remote(f"p{self.count}", *asks, may=self.rng.choice(MAY))
        self._create(replace(created, host=HostNeed(10, self.count)))

    def the_pool_makes_an_executor(self) -> None:
        """For a lease whose pod is bound; also where another one is there still."""
        found = [lease for lease in self.leases.values() if lease.placed and self._is_served(lease)]
        if found:
            self.count += 1
            self._create(executor(self.rng.choice(found), name=f"x{self.count}"))

    def the_pool_makes_a_targets_executor(self) -> None:
        found = [lease for lease in self.leases.values() if lease.target and lease.placed and self._is_served(lease)]
        if found:
            self.count += 1
            lease = self.rng.choice(found)
            self._create(executor(lease, name=f"y{self.count}", target=lease.target))

    def the_pool_moves_a_lease(self) -> None:
        """Where an executor has the target, or none has anything."""
        for lease in list(self.leases.values()):
            target = lease.target
            if target is None:
                continue
            over = self._serves(lease, target)
            if over or not any(p.node and not p.ended for p in self._executors(lease)):
                self.seen["moved over" if over else "moved at once"] += 1
                self._change(replace(lease, node=target.node, share=target.share, target=None))
                return

    def _is_served(self, lease: GpuLease) -> bool:
        now = self.pods.get(lease.pod_uid)
        return now is not None and bool(now.node) and not now.ended

    def _create(self, pod: Pod) -> None:
        self.born[pod.uid] = pod
        self._write(pod.uid, pod)
        self._try(pod)

    def a_pod_ends(self) -> None:
        """A client's, an executor, or one with its slice on its own node."""
        if self.pods:
            pod = self.pods[self.rng.choice(sorted(self.pods))]
            how = self.rng.choice(["Succeeded", "Failed", "gone"])
            self.seen[f"{'executor' if pod.lease else 'pod'} {'ends' if pod.node else 'leaves unbound'}"] += 1
            self._write(pod.uid, None if how == "gone" else replace(pod, phase=how))

    def the_pool_releases_a_lease(self) -> None:
        """Its pod is gone or has ended, or was never bound with it and nobody is about to; executors go first."""
        for lease in list(self.leases.values()):
            if lease.standing or not self._is_left(lease):
                continue
            for each in self._executors(lease):
                self._write(each.uid, None)
            self.seen["lease released"] += 1
            self._unmake(lease)
            return

    def _is_left(self, lease: GpuLease) -> bool:
        client = self.pods.get(lease.pod_uid)
        return client is None or client.ended or not (client.node or client.uid in self.engine.promises())

    # The leader's moves

    def _known(self) -> list[GpuLease]:
        """Of which the leader knows what the API server has, as a live read shows it."""
        return [lease for lease in self.engine.leases.all() if self.leases.get(lease.key) == lease]

    def the_leader_aims(self) -> None:
        known = self._known()
        free = [each for each in known if each.target is None and each.uid not in self.in_doubt and not each.stopped]
        if not free:
            return
        lease, node = self.rng.choice(free), self.rng.choice(NODES[2:])
        had = lease.share.mem_bytes or 4 * GIB
        share = Share(self.rng.choice(node.gpus).uuid, self.rng.choice([had, 3 * GIB, 10 * GIB]))
        where = Slice(node.name, share)
        if where == lease.slice or self.engine.leases.target(lease) or self.engine.leases.aim(lease, where):
            return
        end = self.rng.choice(AIM_ENDS)
        self.seen[f"aim {end}"] += 1
        if end in ("written", "lost after", "leader dies after"):
            self._change(replace(lease, target=where))
        if end == "leader dies after":
            self.another_leader()
        elif end == "refused":
            self.engine.leases.miss(lease)
        else:
            self.in_doubt[lease.uid] = lease

    def the_leader_withdraws(self) -> None:
        """What nobody has begun with."""
        for lease in self._known():
            if lease.target is not None and not any(p.lease_slice for p in self._executors(lease)):
                self.seen["withdrawn"] += 1
                self._change(replace(lease, target=None))
                return

    def _look_up_aims(self) -> None:
        for uid, lease in self.in_doubt.items():
            now = self.leases.get(lease.key)
            aimed = self.engine.leases.target(lease)
            if now is not None and now.uid == uid and aimed not in (now.target, now.slice):
                self.engine.leases.miss(lease)  # the room of one that is gone goes with the news of that
        self.in_doubt.clear()

    # What the leader hears

    def a_pods_event(self) -> None:
        if self.untold_pods:
            uid, pod = self.untold_pods.popleft()
            if pod is None or pod.ended:
                self._leases_are_told(uid)
            if pod is None:
                self.engine.forget_pod(uid)
            else:
                self.engine.observe_pod(pod)

    def _leases_are_told(self, uid: str) -> None:
        """A pod's end is not heard of before its leases: until they are gone their room would be given away."""
        while self.engine.leases.promised(uid) and (self.untold_leases or self.listed is not None):
            self.a_leases_event()

    def a_leases_event(self) -> None:
        if self.listed is not None:
            self.engine.leases.replace(self.listed)
            self.listed = None
        elif self.untold_leases:
            lease, there = self.untold_leases.popleft()
            if there:
                self.engine.leases.observe(lease)
            else:
                self.engine.leases.forget(lease)

    def a_watch_breaks(self) -> None:
        if self.rng.random() < 0.5:
            self.untold_pods.clear()
            for uid in [uid for uid in self.engine.promises() if uid not in self.pods or self.pods[uid].ended]:
                self._leases_are_told(uid)
            self.engine.replace_pods(self.pods.values())
        else:
            self.untold_leases.clear()
            self.listed = list(self.leases.values())  # and old when it is here

    def another_leader(self) -> None:
        self.untold_pods.clear()
        self.untold_leases.clear()
        self.listed = None
        self.mine.clear()
        self.in_doubt.clear()
        self.engine = self.rebuilt()

    def rebuilt(self) -> Engine:
        found = list(self.pods.values()), list(self.leases.values())
        return engine_of(*found, self.clock, leases_first=self.rng.random() < 0.5)

    # The verbs

    def a_pod_is_tried_again(self) -> None:
        """kube-scheduler's view may be old: of a pod that is bound, has ended or is gone the Binding is refused."""
        waiting = [uid for uid in self.born if not (self.pods.get(uid) and self.pods[uid].node)]
        if self.born:
            among = sorted(waiting if waiting and self.rng.random() < 0.7 else self.born)
            self._try(self.born[self.rng.choice(among)])

    def _try(self, pod: Pod) -> None:
        nodes = self.engine.filter(pod, NAMES).nodes
        end = self.rng.choice(ENDS)
        if not nodes:
            return
        best = max(self.engine.prioritize(pod, nodes), key=lambda pair: pair[1])[0]
        now = self.pods.get(pod.uid)
        if end != "held only":
            self._bind(pod, best, end if now is not None and not now.node and not now.ended else "refused")

    def _bind(self, pod: Pod, node: str, end: str) -> None:
        """As the binder does: the leases, then the Binding."""
        reserved = self.engine.reserve(pod.uid, node)
        if isinstance(reserved, Reason):
            return
        leases = self._written(self.engine.leases.promised(pod.uid))
        if leases is None:
            self._undo(pod.uid)
            return
        who = "target's executor" if pod.lease_slice else "executor" if pod.lease else ""
        what = who or ("client" if leases else "local pod")
        self.seen[f"{what} {end}"] += 1
        if end == "lease lost" and leases:
            return
        for lease in leases:
            self.engine.leases.observe(lease, self.clock.now + NEWS_S)
            self.mine.add(lease.uid)
        if end in ("accepted", "lost after", "leader dies after"):
            self._write(pod.uid, replace(bound(pod, node, reserved[1]), host=pod.host))
        if end.startswith("leader dies"):
            self.another_leader()
        elif end == "accepted":
            self.engine.confirm(pod.uid)
        elif end == "refused":
            self._undo(pod.uid)

    def _written(self, promised: Sequence[GpuLease]) -> list[GpuLease] | None:
        """As the API server has them; ``None`` if it refuses."""
        return [self._make(lease) for lease in promised]

    def _undo(self, uid: str) -> None:
        for promised in self.engine.leases.promised(uid):
            found = self.leases.get(promised.key)
            if found is not None:
                self._take_back(found)
        self.engine.undo(uid)

    def _take_back(self, lease: GpuLease) -> None:
        self._unmake(lease)
        self.engine.leases.forget(lease, 1e9)

    def time_passes(self) -> None:
        """What is late is looked up; a list does not take as long."""
        if self.listed is not None:
            self.a_leases_event()
        self.clock.now += self.rng.choice([1, 11, 61])
        for uid in self.engine.expire():
            found = self.pods.get(uid)
            if found is not None and found.node:
                self.engine.observe_pod(found)
            else:
                self._undo(uid)
            if found is None:
                self.engine.forget_pod(uid)
        self._look_up_aims()
        for lease in self.engine.leases.late(self.clock.now):
            if lease.key in self.leases and self.leases[lease.key].uid == lease.uid:
                self.engine.leases.seen(lease)
            else:
                self.engine.leases.forget(lease)

    # What holds

    def check(self) -> None:
        ledger = self.engine.ledger
        assert ledger.over_committed() == []
        assert (ledger.free_bytes >= 0).all() and (ledger.free_percent >= 0).all() and (ledger.node_slots >= 0).all()
        known = {lease.uid for lease in self.engine.leases.all()}
        assert {lease.uid for lease in self.leases.values()} & self.mine <= known, "what it made, a leader knows"
        rebuilt = self.rebuilt().ledger
        assert rebuilt.over_committed() == []
        assert in_use(rebuilt) == self._used(rebuilt)

    def _used(self, rebuilt: Ledger) -> Counter[str]:
        """In the API: each pod's with GPUs of its node, each executor's, and a lease's if no executor holds it."""
        used: Counter[str] = Counter()
        for each in self.pods.values():
            charge = rebuilt.charge_of(each.uid)
            assert (charge is not None) == (bool(each.node) and not each.ended)
            for share in charge.assignment.shares if charge and charge.assignment else ():
                used[share.uuid] += share.mem_bytes
        for lease in self.leases.values():
            for room in (lease.slice if lease.placed else None, lease.target):
                if room is not None and not self._serves(lease, room):
                    used[room.share.uuid] += room.share.mem_bytes
        return used

    def settle(self) -> None:
        """All is told and looked up."""
        for _ in range(2):
            while self.untold_pods or self.untold_leases or self.listed is not None:
                self.a_pods_event()
                self.a_leases_event()
            self.clock.now += 100
            self.time_passes()


def test_every_slice_counts_once_whatever_happens() -> None:
    """All histories in one test: what is counted over them is counted by one process."""
    seen = Counter[str]()
    for seed in range(60):
        try:
            seen.update(lived(History(seed)))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert_full(seen)


def lived(history: History) -> Counter[str]:
    """What happened in one history, whose ledger was right all the time."""
    for _ in range(STEPS):
        history.step()
        history.check()
    history.settle()
    running, rebuilt = history.engine, history.rebuilt()
    assert dict(running.ledger.charges()) == dict(rebuilt.ledger.charges())
    assert dict(running.ledger.occupants()) == dict(rebuilt.ledger.occupants())
    assert running.leases.load() == rebuilt.leases.load()
    assert in_use(running.ledger) == in_use(rebuilt.ledger)
    return history.seen


def assert_full(seen: Counter[str]) -> None:
    """They show nothing of what never happens in them."""
    for what in ("client", "executor", "local pod"):
        for end in set(ENDS) - {"held only"}:
            assert seen[f"{what} {end}"] >= 3, (what, end)
            assert seen[f"target's executor {end}"] >= 1, end
    for end in set(AIM_ENDS):
        assert seen[f"aim {end}"] >= 5, end
    for what in ("executor ends", "pod ends", "pod leaves unbound", "lease released"):
        assert seen[what] >= 20, what
    for what in ("moved over", "moved at once", "withdrawn"):
        assert seen[what] >= 5, what
