"""Growth beyond a pod's request is held against the namespace's quotas."""

from dataclasses import replace
from typing import Any

import pytest

from tessera.model.assignment import Share
from tessera.model.gpu_leases import GpuLease, Size, Slice
from tessera.model.pods import Pod
from tessera.model.quantities import GIB, format_bytes
from tessera.scheduler.engine import Engine
from tessera.scheduler.growth import grown_keys, growth, refusal
from tests.unit.scheduler.clusters import bind_away, client, node, pooled, remote

MEM, CORE = "requests.tessera.io/gpu-mem", "requests.tessera.io/gpu-core"


def quota(hard: dict[str, str], used: dict[str, str] | None = None, name: str = "q") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"hard": hard}, **({"status": {"used": used}} if used else {})}


class Team:
    """Pods of one namespace that ask for 8 GiB and 20 percent each, with their leases."""

    def __init__(self, *names: str, asks: str = "gpu-mem=8Gi gpu-core=20") -> None:
        self.engine: Engine = pooled(client("c"), *(node(f"g{i}", 80) for i in range(4)))
        self.pods: list[Pod] = [remote(name, asks) for name in names]
        nodes = [found.name for found in self.engine.ledger.nodes()]
        self.leases = {pod.name: bind_away(self.engine, pod, nodes)[0] for pod in self.pods}

    def has(self, name: str, gib: int, core: int = 20, wanted: Size | None = None) -> GpuLease:
        lease = self.leases[name]
        lease = replace(lease, share=Share(lease.share.uuid, gib * GIB, core), wanted=wanted)
        self.leases[name] = lease
        self.engine.leases.observe(lease)
        return lease

    def why(self, name: str, hard: str, used: str, key: str = MEM) -> str:
        lease = self.leases[name]
        return refusal([quota({key: hard}, {key: used})], growth(self.engine.leases, lease, self.pods), [key])


@pytest.mark.parametrize(("hard", "fits"), [("24Gi", True), ("23Gi", False)])
def test_growth_is_added_to_what_is_used(hard: str, fits: bool) -> None:
    team = Team("p", "q")
    team.has("p", 8, wanted=Size(16 * GIB, 20))
    text = "ResourceQuota q: requests.tessera.io/gpu-mem: found 24Gi with this growth; allowed: 23Gi"
    assert team.why("p", hard, "16Gi") == ("" if fits else text)


def test_what_others_have_beyond_their_requests_counts_too() -> None:
    team = Team("p", "q")
    team.has("p", 8, wanted=Size(16 * GIB, 20))
    team.has("q", 10, wanted=Size(40 * GIB, 20))
    assert "found 26Gi" in team.why("p", "25Gi", "16Gi"), "the slice of q, not what it wants"
    lease = team.leases["q"]
    team.engine.leases.aim(lease, Slice("g3", Share("GPU-g3-0", 20 * GIB, 20)))
    assert "found 36Gi" in team.why("p", "25Gi", "16Gi"), "where it moves to"
    team.pods = [each for each in team.pods if each.name == "p"]
    assert "found 24Gi" in team.why("p", "20Gi", "16Gi"), "gone with its pod"


def test_what_is_small_pays_for_nobody_else() -> None:
    team = Team("p", "q")
    team.has("p", 8, wanted=Size(16 * GIB, 20))
    team.has("q", 2)
    assert "found 24Gi" in team.why("p", "20Gi", "16Gi")


def test_back_to_the_request_is_always_allowed() -> None:
    team = Team("p")
    team.has("p", 2, wanted=Size(8 * GIB, 20))
    assert team.why("p", "1Gi", "8Gi") == ""


def test_compute_counts_by_its_own_key() -> None:
    team = Team("p")
    lease = team.has("p", 8, wanted=Size(8 * GIB, 50))
    assert grown_keys(lease) == [CORE]
    assert team.why("p", "50", "20", CORE) == ""
    assert team.why("p", "49", "20", CORE).endswith("found 50 with this growth; allowed: 49")
    assert grown_keys(replace(lease, wanted=Size(4 * GIB, 0))) == [], "without a cap none is counted"


def test_a_slice_by_compute_alone_is_no_growth_that_a_quota_sees() -> None:
    team = Team("p", "q", asks="gpu-core=20")
    assert team.leases["q"].share.mem_bytes == 16 * GIB
    team.has("p", 16, wanted=Size(18 * GIB, 20))
    assert f"found {format_bytes(18 * GIB)}" in team.why("p", "1Gi", "0")


def test_every_quota_that_names_the_key_must_allow_it() -> None:
    team = Team("p")
    lease = team.has("p", 8, wanted=Size(16 * GIB, 20))
    found = growth(team.engine.leases, lease, team.pods)
    wide, other = quota({MEM: "1Ti"}, {MEM: "8Gi"}, "wide"), quota({"pods": "1"}, {"pods": "1"}, "pods")
    narrow = quota({MEM: "9Gi"}, {MEM: "8Gi"}, "narrow")
    assert refusal([wide, other], found, [MEM]) == ""
    assert refusal([wide, other, narrow], found, [MEM]).startswith("ResourceQuota narrow: ")
    assert refusal([quota({MEM: "1Ti"})], found, [MEM]) == (
        "ResourceQuota q: requests.tessera.io/gpu-mem: found no status.used yet; "
        "allowed: growth once the quota is counted"
    )
