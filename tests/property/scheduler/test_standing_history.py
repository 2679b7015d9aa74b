"""As ``test_lease_history``, with leases that users make, stop and start, and that pods come to use and leave."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from tessera.model import names
from tessera.model.gpu_leases import NOWHERE, GpuLease, Size
from tessera.model.hosts import HostNeed
from tessera.model.quantities import GIB
from tests.property.scheduler.test_lease_history import History, lived
from tests.unit.scheduler.clusters import remote

ENDED = ("a user deletes a lease", "a pod leaves a lease", "a lease is stopped", "a lease is started")


class StandingHistory(History):
    def acts(self) -> dict[Callable[[], None], int]:
        return {
            **super().acts(), self.a_pod_is_created: 1, self.the_pool_moves_a_lease: 10, self.a_user_makes_a_lease: 4,
            self.a_user_deletes_a_lease: 1, self.a_pod_comes_for_one: 12, self.a_pod_leaves_one: 8,
            self.a_lease_is_stopped: 2, self.a_lease_is_started: 3, self.the_pool_empties_one: 6,
        }  # fmt: skip

    def _standing(self) -> list[GpuLease]:
        return [lease for lease in self.leases.values() if lease.standing]

    def a_user_makes_a_lease(self) -> None:
        self.count += 1
        lease = GpuLease(
            "default", f"mine-{self.count}", f"lease-{self.count}", None, NOWHERE.node, NOWHERE.share, standing=True,
            wanted=Size(4 * GIB, 0),
        )  # fmt: skip
        self._change(lease)

    def a_user_deletes_a_lease(self) -> None:
        """And the pool ends it, executors first."""
        if found := self._standing():
            lease = self.rng.choice(found)
            for each in self._executors(lease):
                self._write(each.uid, None)
            self.seen["a user deletes a lease"] += 1
            self._unmake(lease)

    def a_pod_comes_for_one(self) -> None:
        if found := self._standing():
            self.count += 1
            created = remote(f"u{self.count}", "gpu-mem=2Gi")
            notes = {**created.annotations, names.GPU_LEASE: self.rng.choice(found).name}
            self._create(replace(created, annotations=notes, host=HostNeed(10, self.count)))

    def a_pod_leaves_one(self) -> None:
        """By its end, or by a user's word; its executors go with it."""
        for lease in self._standing():
            if lease.client and (self._is_left(lease) or self.rng.random() < 0.3):
                self.seen["a pod leaves a lease"] += 1
                self._change(replace(lease, client=None))
                for each in self._executors(lease):
                    self._write(each.uid, None)
                return

    def a_lease_is_stopped(self) -> None:
        if found := [lease for lease in self._standing() if lease.client is None and not lease.stopped]:
            self.seen["a lease is stopped"] += 1
            self._change(replace(self.rng.choice(found), stopped=True))

    def a_lease_is_started(self) -> None:
        if found := [lease for lease in self._standing() if lease.stopped]:
            self.seen["a lease is started"] += 1
            self._change(replace(self.rng.choice(found), stopped=False))

    def the_pool_empties_one(self) -> None:
        for lease in self._standing():
            if lease.stopped and (lease.placed or lease.target):
                for each in self._executors(lease):
                    self._write(each.uid, None)
                self.seen["room is given back"] += 1
                self._change(replace(lease, node=NOWHERE.node, share=NOWHERE.share, target=None))
                return

    def _is_served(self, lease: GpuLease) -> bool:
        return not lease.stopped if lease.standing else super()._is_served(lease)

    def _written(self, promised: Sequence[GpuLease]) -> list[GpuLease] | None:
        """The API server refuses a client of a lease that is gone, stopped, or used by another."""
        if not (promised and promised[0].standing):
            return super()._written(promised)
        [wished] = promised
        stored = self.leases.get(wished.key)
        if stored is None or stored.uid != wished.uid or stored.stopped or stored.client not in (None, wished.client):
            self.seen["use refused"] += 1
            return None
        self.seen["used"] += 1
        used = replace(stored, client=wished.client)
        self._change(used)
        return [used]

    def _take_back(self, lease: GpuLease) -> None:
        if not lease.standing:
            super()._take_back(lease)
            return
        self._change(replace(lease, client=None))
        self.engine.leases.observe(self.leases[lease.key])

    def _undo(self, uid: str) -> None:
        """Off one that another pod uses by now nobody is taken."""
        promised = self.engine.leases.promised(uid)
        if promised and promised[0].standing:
            stored = self.leases.get(promised[0].key)
            if stored is None or stored.uid != promised[0].uid or stored.pod_uid != uid:
                self.engine.undo(uid)
                return
        super()._undo(uid)


def test_every_slice_counts_once_whoever_uses_it() -> None:
    seen = Counter[str]()
    for seed in range(60):
        try:
            seen.update(lived(StandingHistory(seed)))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    for what in (*ENDED, "room is given back", "used"):
        assert seen[what] >= 20, (what, seen[what])
    assert seen["use refused"] >= 3
