"""Which leases move, where to, and why one stays."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tessera.model.assignment import Share
from tessera.model.demands import demand_of
from tessera.model.gpu_leases import Phase, Size, Slice
from tessera.model.gpus import GpuNode
from tessera.model.hosts import Host
from tessera.model.pods import Pod
from tessera.model.quantities import GIB
from tessera.reasons import Reason, invalid
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tessera.scheduler.relocation import Aim, Cause, Decision, Kind, Relocations, Sight, Stay, Withdraw, sight_of
from tests.unit.scheduler.clusters import bind_away, client, node, pod, pooled, remote

ALL = ["c", "g", "h"]
NODES = (client("c"), node("g", 24), node("h", 24))


def host(name: str, **how: bool) -> Host:
    return Host(name, 64_000, 64 * GIB, **how)


CORDON = {"closed": True, "cordoned": True}


class Case:
    """A cluster with one lease of 8 GiB on ``g``."""

    def __init__(self, *nodes: GpuNode, asked: Pod | None = None, options: Options | None = None) -> None:
        self.engine = pooled(*(nodes or NODES), options=options)
        for name in ALL:
            self.engine.observe_host(host(name, closed=name == "h"))
        self.asked = asked or remote("p", "gpu-mem=8Gi")
        [self.lease] = bind_away(self.engine, self.asked, ALL)
        self.engine.observe_host(host("h"))
        assert self.lease.node == "g"

    @property
    def relocations(self) -> Relocations:
        found = self.engine.relocations
        assert found is not None
        return found

    def has(self, **changed: object) -> None:
        self.lease = replace(self.lease, **changed)  # type: ignore[arg-type]
        self.engine.leases.observe(self.lease)

    def causes(self) -> list[Cause]:
        return [cause for _, cause in self.relocations.pressing()]

    def decide(self, *, live: bool = True, moving: bool = False, refused: str = "", gone: bool = False) -> Decision:
        found = None if gone else demand_of(self.asked)
        return self.relocations.decide(Sight(self.lease, live, moving), found, refused)


@pytest.fixture
def case() -> Case:
    return Case()


def slice_of(name: str, gib: int, core: int = 0) -> Slice:
    return Slice(name, Share(f"GPU-{name}-0", gib * GIB, core))


def test_a_lease_that_is_well_is_left_alone(case: Case) -> None:
    assert case.causes() == [] and case.decide() is None and case.decide(live=False) is None
    case.has(wanted=case.lease.size)
    assert case.causes() == [] and case.decide() is None


@pytest.mark.parametrize("live", [True, False])
def test_a_cordoned_node_is_left(case: Case, live: bool) -> None:
    case.engine.observe_host(host("g", **CORDON))
    cause = Cause(Kind.CORDON, "node g is cordoned")
    assert case.causes() == [cause]
    assert case.decide(live=live) == Aim(slice_of("h", 8), cause)


@pytest.mark.parametrize("live", [True, False])
def test_an_unhealthy_gpu_is_left(case: Case, live: bool) -> None:
    case.engine.observe_node(node("g", 24, sick=(0,)))
    cause = Cause(Kind.HEALTH, "GPU GPU-g-0 of node g is unhealthy")
    assert case.causes() == [cause]
    assert case.decide(live=live) == Aim(slice_of("h", 8), cause)


Loss = Callable[[Engine], None]
LOSSES: dict[str, Loss] = {
    "node g is not ready for pods": lambda engine: engine.observe_host(host("g", closed=True)),
    "node g is gone": lambda engine: engine.forget_host("g"),
    "GPU GPU-g-0 of node g is gone": lambda engine: engine.observe_node(GpuNode("g", (), 4)),
}


@pytest.mark.parametrize("text", LOSSES)
def test_what_is_merely_not_heard_of_is_left_once_nobody_serves(case: Case, text: str) -> None:
    LOSSES[text](case.engine)
    cause = Cause(Kind.GONE, text)
    assert case.causes() == [cause]
    assert case.decide(live=True) is None
    assert case.decide(live=False) == Aim(slice_of("h", 8), cause)


def test_a_node_without_gpus_any_more_is_gone(case: Case) -> None:
    case.engine.forget_node("g")
    assert case.decide(live=True) is None
    assert case.decide(live=False) == Aim(slice_of("h", 8), Cause(Kind.GONE, "node g is gone"))


def test_another_size_moves_it_where_the_policy_says_also_on_its_own_gpu() -> None:
    case = Case(options=Options("pack"))
    case.engine.observe_host(host("h", closed=True))
    cause = Cause(Kind.RESIZE, "12Gi and 30% is wanted")
    case.has(wanted=Size(12 * GIB, 30))
    assert case.causes() == [cause] and case.decide() == Aim(slice_of("g", 12, 30), cause)
    case.has(wanted=Size(2 * GIB, 0))
    assert case.decide() == Aim(slice_of("g", 2), Cause(Kind.RESIZE, "2Gi is wanted"))


def test_both_slices_must_have_room_at_once(case: Case) -> None:
    case.engine.observe_host(host("h", closed=True))
    case.has(wanted=Size(17 * GIB, 0))
    assert case.decide() == Stay(
        Cause(Kind.RESIZE, "17Gi is wanted: 2 GPUs: 1 not enough memory, "
              "1 on nodes that other rules of the cluster exclude")
    )  # fmt: skip


def test_on_its_way_or_released_it_is_not_touched(case: Case) -> None:
    case.has(wanted=Size(12 * GIB, 0), target=slice_of("h", 9))
    assert case.decide(moving=True) is None
    assert case.decide(gone=True) is not None, "the same, but for its being on its way"
    case.has(target=None)
    assert case.decide(gone=True) is None, "whose pod is gone is released soon"
    case.has(deleting=True)
    assert case.causes() == []


def test_with_a_cordon_and_a_size_that_quotas_forbid_it_moves_as_it_is(case: Case) -> None:
    case.has(wanted=Size(12 * GIB, 0))
    case.engine.observe_host(host("g", **CORDON))
    assert case.decide() == Aim(slice_of("h", 12), Cause(Kind.RESIZE, "12Gi is wanted"))
    assert case.decide(refused="no") == Aim(slice_of("h", 8), Cause(Kind.CORDON, "node g is cordoned"))
    case.engine.observe_node(node("h", 4))
    stays = case.decide(refused="no")
    assert isinstance(stays, Stay)
    assert stays.cause.text.startswith("12Gi is wanted: no; node g is cordoned: 2 GPUs: ")


def test_a_refused_growth_says_why(case: Case) -> None:
    case.has(wanted=Size(12 * GIB, 0))
    assert case.decide(refused="quota q") == Stay(Cause(Kind.RESIZE, "12Gi is wanted: quota q"))


def test_a_size_below_a_programs_context_is_refused() -> None:
    case = Case(options=Options(context_bytes=GIB))
    case.has(wanted=Size(GIB // 2, 0))
    stays = case.decide()
    assert isinstance(stays, Stay) and "spec.wanted.memoryBytes: found 536870912; allowed: at least 1Gi" in (
        stays.cause.text
    )


def test_a_pod_that_cannot_be_read_says_so(case: Case) -> None:
    case.engine.observe_host(host("g", **CORDON))
    reason = invalid("metadata.annotations[x]", "y", "z")
    decided = case.relocations.decide(Sight(case.lease, live=True), reason, "")
    assert decided == Stay(Cause(Kind.CORDON, f"node g is cordoned: {reason.text}"))


def test_what_the_pod_prefers_holds_at_the_target_too() -> None:
    asked = replace(remote("p", "gpu-mem=8Gi"), annotations={
        "tessera.io/remote": "required", "tessera.io/gpu-model": "NVIDIA L4"})  # fmt: skip
    case = Case(client("c"), node("g", 24), node("h", 24, model="NVIDIA A2"), asked=asked)
    case.engine.observe_host(host("g", **CORDON))
    stays = case.decide()
    assert isinstance(stays, Stay) and "1 of another model or UUID" in stays.cause.text


def test_a_move_stays_within_its_trust_domain() -> None:
    case = Case(options=Options(trust_domain="namespace"))
    stranger = replace(pod("stranger", "gpu-mem=1Gi"), namespace="other")
    assert case.engine.filter(stranger, ["h"]).nodes == ["h"]
    case.engine.observe_host(host("g", **CORDON))
    stays = case.decide()
    assert isinstance(stays, Stay) and "1 another trust domain's" in stays.cause.text
    case.engine.forget_pod(stranger.uid)
    assert isinstance(case.decide(), Aim)


def test_of_equal_nodes_the_one_near_the_client_is_taken() -> None:
    case = Case(client("c"), node("g", 24), node("h", 24), node("i", 24))
    for name, zone in (("c", "z1"), ("h", "z2"), ("i", "z1")):
        case.engine.observe_host(Host(name, 64_000, 64 * GIB, zone))
    case.engine.observe_host(host("g", **CORDON))
    decided = case.decide()
    assert isinstance(decided, Aim) and decided.where.node == "i"


def test_a_target_that_is_still_right_stays(case: Case) -> None:
    case.engine.observe_host(host("g", **CORDON))
    case.has(target=slice_of("h", 8))
    assert case.causes() == [] and case.decide() is None
    case.has(wanted=Size(12 * GIB, 0))
    assert case.causes() == [], "first out of the way, then larger"
    case.has(target=slice_of("h", 12))
    case.engine.observe_host(host("g"))
    assert case.causes() == [] and case.decide() is None


def test_a_target_that_is_not_needed_any_more_is_withdrawn(case: Case) -> None:
    case.has(target=slice_of("h", 8))
    cause = Cause(Kind.CORDON, "GPU GPU-g-0 of node g is usable again")
    assert case.causes() == [cause] and case.decide() == Withdraw(cause)
    case.has(target=slice_of("h", 12), wanted=Size(14 * GIB, 0))
    assert case.decide() == Withdraw(Cause(Kind.RESIZE, "14Gi is wanted now"))
    case.has(wanted=None)
    assert case.decide() == Withdraw(Cause(Kind.RESIZE, "8Gi is wanted now"))


def test_a_target_that_is_not_well_itself_is_withdrawn(case: Case) -> None:
    case.engine.observe_host(host("g", **CORDON))
    case.has(target=slice_of("h", 8))
    case.engine.observe_host(host("h", closed=True))
    cause = Cause(Kind.GONE, "node h is not ready for pods")
    assert case.causes() == [cause] and case.decide() == Withdraw(cause)
    case.engine.observe_host(host("h"))
    case.engine.observe_node(node("h", 24, sick=(0,)))
    assert case.decide() == Withdraw(Cause(Kind.HEALTH, "GPU GPU-h-0 of node h is unhealthy"))


def test_no_new_lease_goes_to_a_node_that_is_gone_either(case: Case) -> None:
    case.engine.forget_host("h")
    [lease] = bind_away(case.engine, remote("q", "gpu-mem=8Gi"), ALL)
    assert lease.node == "g"
    reason = case.engine.filter(remote("r", "gpu-mem=20Gi"), ALL).reason
    assert isinstance(reason, Reason) and "1 on nodes with too little left" in reason.text


def test_who_serves_is_read_off_the_status(case: Case) -> None:
    def live(phase: Phase, endpoint: str = "") -> bool:
        return sight_of(replace(case.lease, phase=phase), endpoint, False, "").live

    assert live(Phase.READY) and live(Phase.ACTIVE) and live(Phase.RESERVED, "10.0.0.1:9")
    assert not live(Phase.RESERVED) and not live(Phase.LOST)
    assert sight_of(replace(case.lease, phase=Phase.RELEASED), "", False, "").moving
    assert sight_of(case.lease, "", True, "").moving
