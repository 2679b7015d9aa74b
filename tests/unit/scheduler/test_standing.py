"""Leases that stand by themselves: how they come to room, what that is charged, and which pods may use them."""

from dataclasses import replace

import pytest

from tessera.model import names
from tessera.model.assignment import Assignment, Share
from tessera.model.charges import Totals
from tessera.model.demands import PodDemand
from tessera.model.domains import Namespace
from tessera.model.gpu_leases import NOWHERE, Client, GpuLease, Size, Slice
from tessera.model.gpus import GpuNode
from tessera.model.pods import Pod
from tessera.model.quantities import GIB
from tessera.reasons import Reason
from tessera.scheduler.drain import DrainPlan, drain_plan
from tessera.scheduler.engine import Engine
from tessera.scheduler.growth import growth
from tessera.scheduler.holders import Holders
from tessera.scheduler.options import Options
from tessera.scheduler.relocation import Aim, Cause, Decision, Kind, Sight, Stay, Withdraw
from tessera.scheduler.standing import standing_demand
from tessera.scheduler.trial import Trial
from tests.unit.scheduler.clusters import bound, client, executor, node, pod, pooled, remote
from tests.unit.scheduler.populations import people

ALL = ["c", "d", "g", "h"]
NEW = Cause(Kind.NEW, "it has no slice yet")


def mine(name: str = "mine", gib: int = 8, core: int = 0, **more: object) -> GpuLease:
    """As its users make it."""
    found = GpuLease(
        "default", name, f"uid-{name}", None, NOWHERE.node, NOWHERE.share, standing=True, wanted=Size(gib * GIB, core)
    )
    return replace(found, **more)  # type: ignore[arg-type]


def user(name: str, asks: str = "gpu-mem=8Gi", lease: str = "mine", **notes: str) -> Pod:
    found = remote(name, asks)
    more = {f"tessera.io/{key.replace('_', '-')}": text for key, text in notes.items()}
    return replace(found, annotations={**found.annotations, names.GPU_LEASE: lease, **more})


class Case:
    def __init__(self, *nodes: GpuNode, options: Options | None = None) -> None:
        self.engine: Engine = pooled(*(nodes or (client("c"), node("g", 24))), options=options)
        self.nodes = [found.name for found in self.engine.ledger.nodes()]

    @property
    def leases(self):  # type: ignore[no-untyped-def]
        return self.engine.leases

    def decide(self, lease: GpuLease, *, live: bool = False, refused: str = "") -> Decision:
        assert self.engine.relocations is not None
        return self.engine.relocations.decide(Sight(lease, live), standing_demand(lease), refused)

    def pressing(self) -> list[Cause]:
        assert self.engine.relocations is not None
        return [cause for _, cause in self.engine.relocations.pressing()]

    def placed(self, lease: GpuLease) -> GpuLease:
        """Until it has its slice."""
        self.leases.observe(lease)
        found = self.decide(lease)
        assert isinstance(found, Aim), found
        assert self.leases.aim(lease, found.where, found.domain) is None
        aimed = replace(lease, target=found.where, domain=found.domain)
        self.leases.observe(aimed)
        settled = replace(aimed, node=found.where.node, share=found.where.share, target=None)
        self.leases.observe(settled)
        return settled

    def free(self, name: str = "g") -> int:
        row = self.engine.ledger.row(name)
        return int(self.engine.ledger.free_bytes[row].sum()) // GIB

    def reserved(self, asked: Pod, on: str = "c") -> tuple[object, Assignment]:
        assert self.engine.filter(asked, self.nodes).nodes
        found = self.engine.reserve(asked.uid, on)
        assert isinstance(found, tuple), found
        return found

    def used(self, lease: GpuLease, asked: Pod, on: str = "c") -> GpuLease:
        """Bound, as all watches tell of it."""
        _, assignment = self.reserved(asked, on)
        taken = replace(lease, client=Client(asked.name, asked.uid, "c0", on))
        self.leases.observe(taken)
        self.engine.observe_pod(bound(asked, on, assignment))
        return taken

    def refusal(self, asked: Pod) -> str:
        answer = self.engine.filter(asked, self.nodes)
        assert not answer.nodes and answer.reason is not None
        return answer.reason.text


@pytest.fixture
def case() -> Case:
    return Case()


# Room


def test_it_comes_to_a_slice_of_the_size_that_is_wanted(case: Case) -> None:
    lease = mine(core=30)
    case.leases.observe(lease)
    assert case.pressing() == [NEW]
    assert case.decide(lease) == Aim(Slice("g", Share("GPU-g-0", 8 * GIB, 30)), NEW)


def test_its_room_counts_once_from_the_aim_on(case: Case) -> None:
    lease = mine()
    case.leases.observe(lease)
    where = Slice("g", Share("GPU-g-0", 8 * GIB))
    assert case.leases.aim(lease, where) is None
    assert case.free() == 16
    aimed = replace(lease, target=where)
    case.leases.observe(aimed)
    assert case.free() == 16
    placed = replace(lease, node="g", share=where.share)
    case.leases.observe(placed)
    assert case.free() == 16 and case.pressing() == []
    serving = executor(placed)
    assert case.engine.filter(serving, case.nodes).nodes == ["g"]
    case.engine.observe_pod(bound(serving, "g", Assignment((("c0", (where.share,)),))))
    assert case.free() == 16
    case.leases.forget(placed)
    assert case.free() == 16, "the executor holds it"
    case.engine.forget_pod(serving.uid)
    assert case.free() == 24


def test_an_aim_that_came_to_nothing_gives_the_room_back(case: Case) -> None:
    lease = mine()
    case.leases.observe(lease)
    case.leases.aim(lease, Slice("g", Share("GPU-g-0", 8 * GIB)))
    case.leases.miss(lease)
    assert case.free() == 24


def test_one_without_room_says_why(case: Case) -> None:
    large = mine(gib=40)
    case.leases.observe(large)
    found = case.decide(large)
    assert isinstance(found, Stay) and found.cause.text.startswith("it has no slice yet: ")
    small = mine("small")
    case.leases.observe(small)
    assert case.decide(small, refused="quota q") == Stay(Cause(Kind.NEW, "it has no slice yet: quota q"))
    strange = mine("strange", annotations={names.PLACEMENT: "best"})
    case.leases.observe(strange)
    stays = case.decide(strange)
    assert isinstance(stays, Stay) and "tessera.io/placement" in stays.cause.text and "'best'" in stays.cause.text


def test_its_annotations_choose_the_gpu() -> None:
    case = Case(client("c"), node("g", 24), node("h", 24, model="NVIDIA A10"))
    found = case.decide(mine(annotations={names.GPU_MODEL: "NVIDIA A10"}))
    assert isinstance(found, Aim) and found.where.node == "h"


def test_a_stopped_one_asks_for_nothing_and_gives_up_what_it_moves_to(case: Case) -> None:
    stopped = mine(stopped=True)
    case.leases.observe(stopped)
    assert case.pressing() == [] and case.decide(stopped) is None
    aimed = replace(stopped, target=Slice("g", Share("GPU-g-0", 8 * GIB)))
    case.leases.observe(aimed)
    assert case.decide(aimed) == Withdraw(Cause(Kind.STOP, "it is stopped"))


def test_another_size_and_a_sick_gpu_move_it_as_any() -> None:
    case = Case(client("c"), node("g", 24), node("h", 24))
    lease = case.placed(mine())
    larger = replace(lease, wanted=Size(12 * GIB, 0))
    case.leases.observe(larger)
    found = case.decide(larger, live=True)
    assert isinstance(found, Aim) and found.where.size == Size(12 * GIB, 0)
    case.engine.observe_node(node(lease.node, 24, sick=(0,)))
    case.leases.observe(lease)
    found = case.decide(lease, live=True)
    assert isinstance(found, Aim) and found.where.node != lease.node and found.where.size == lease.size


def test_it_comes_to_its_namespaces_trust_domain_and_stays_in_it() -> None:
    case = Case(client("c"), node("g", 24), options=Options(trust_domain="label:team"))
    case.engine.observe_namespace(Namespace("default", {"team": "red"}))
    lease = mine()
    found = case.decide(lease)
    assert isinstance(found, Aim) and found.domain == "label/team=red"
    placed = case.placed(lease)
    charge = case.engine.ledger.charge_of(placed.hold)
    assert charge is not None and charge.domain == "label/team=red"
    case.engine.observe_namespace(Namespace("default", {"team": "blue"}))
    text = case.refusal(user("p"))
    assert "is in trust domain label/team=red; the pod's is label/team=blue" in text


def test_one_that_was_placed_while_all_were_one_domain_is_of_its_namespaces_own() -> None:
    case = Case(client("c"), node("g", 24), options=Options(trust_domain="namespace"))
    case.leases.observe(replace(mine(), node="g", share=Share("GPU-g-0", 8 * GIB)))
    case.reserved(user("p"))


def test_a_copy_knows_all_that_the_first_one_knows(case: Case) -> None:
    lease = case.placed(mine())
    case.reserved(user("p"))
    copy = case.leases.copy()
    assert copy.user(lease) == "uid-p" and copy.ledger.charge_of(lease.hold) == case.leases.ledger.charge_of(lease.hold)


# Who uses it


def test_a_pod_uses_the_one_that_it_names_and_takes_no_other_room(case: Case) -> None:
    lease = case.placed(mine())
    _, assignment = case.reserved(user("p"))
    assert assignment == Assignment((), "", (("c0", "mine"),))
    charge = case.engine.ledger.charge_of("uid-p")
    assert charge is not None and charge.totals == Totals(slots=1) and case.free() == 16
    [promised] = case.leases.promised("uid-p")
    assert promised == replace(lease, client=Client("p", "uid-p", "c0", "c"))


def test_the_client_nearest_to_the_slice_is_chosen_of_several() -> None:
    from tessera.model.hosts import Host

    case = Case(client("c"), client("d"), node("g", 24))
    for name, zone in (("c", "east"), ("d", "west"), ("g", "west")):
        case.engine.observe_host(Host(name, 64_000, 64 * GIB, zone))
    case.placed(mine())
    asked = user("p")
    offered = case.engine.filter(asked, case.nodes).nodes
    assert sorted(offered) == ["c", "d"]
    assert max(case.engine.prioritize(asked, offered), key=lambda found: found[1])[0] == "d"


def test_one_pod_at_a_time(case: Case) -> None:
    lease = case.placed(mine())
    case.reserved(user("p"))
    assert "is about to be used by another pod" in case.refusal(user("q"))
    case.engine.undo("uid-p")
    taken = case.used(lease, user("q"))
    assert "GPULease default/mine is used by pod q" in case.refusal(user("p"))
    case.engine.forget_pod("uid-q")
    assert "is used by pod q" in case.refusal(user("p")), "its executor may still be that pod's"
    case.engine.freed.clear()
    case.leases.observe(replace(taken, client=None))
    assert case.engine.freed == {"g"}, "who waits is woken"
    case.reserved(user("p"))


def test_who_waits_is_woken_by_a_lease_that_a_list_shows_first_and_by_a_larger_one(case: Case) -> None:
    lease = case.placed(mine(gib=4))
    case.leases.forget(lease)
    assert "is not there" in case.refusal(user("p"))
    case.engine.freed.clear()
    case.leases.replace([lease])
    assert case.engine.freed == {"g"}, "made and placed while no watch told"
    serving = executor(lease)
    case.engine.observe_pod(bound(serving, "g", Assignment((("c0", (lease.share,)),))))
    assert "has 4Gi; the pod asks for 8Gi" in case.refusal(user("p"))
    case.engine.forget_pod(serving.uid)
    larger = replace(lease, share=replace(lease.share, mem_bytes=8 * GIB))
    next_one = executor(larger)
    case.engine.freed.clear()
    case.engine.observe_pod(bound(next_one, "g", Assignment((("c0", (larger.share,)),))))
    case.leases.observe(larger)
    assert case.engine.freed == {"g"}
    case.engine.freed.clear()
    case.leases.observe(larger)
    assert not case.engine.freed, "nothing is new"


def test_two_holds_of_one_lease_do_not_both_come_true(case: Case) -> None:
    case.placed(mine())
    first, second = user("p"), user("q")
    assert case.engine.filter(first, case.nodes).nodes == ["c"]
    assert not case.engine.filter(second, case.nodes).nodes
    case.engine.forget_pod(first.uid)
    assert case.engine.filter(second, case.nodes).nodes == ["c"]


@pytest.mark.parametrize(
    ("lease", "asked", "why"),
    [
        (mine("other"), user("p"), "GPULease default/mine is not there"),
        (mine(), user("p", "gpu-mem=12Gi"), "has 8Gi; the pod asks for 12Gi"),
        (mine(), user("p", "gpu-core=50"), "has 8Gi; the pod asks for 12Gi"),
        (mine(core=20), user("p", "gpu-mem=8Gi gpu-core=30"), "has 20% of its GPU's compute; the pod asks for 30%"),
        (mine(deleting=True), user("p"), "is being deleted"),
        (mine(stopped=True), user("p"), "is stopped"),
        (mine(), user("p", gpu_model="NVIDIA H100"), "NVIDIA L4, which the pod's annotations exclude"),
        (mine(), user("p", enforcement="2"), "is on a GPU of enforcement level 0; the pod asks for 2"),
    ],
)  # fmt: skip
def test_one_that_will_not_do_says_why(case: Case, lease: GpuLease, asked: Pod, why: str) -> None:
    placed = case.placed(replace(lease, deleting=False, stopped=False))
    case.leases.observe(replace(placed, deleting=lease.deleting, stopped=lease.stopped))
    text = case.refusal(asked)
    assert text.startswith("tessera.io/gpu-lease: GPULease default/mine ") and why in text


def test_one_without_room_and_one_made_for_a_pod_are_used_by_none(case: Case) -> None:
    case.leases.observe(mine())
    assert "has no slice yet" in case.refusal(user("p"))
    owned = replace(mine(), uid="x", standing=False, client=Client("web", "uid-web", "c0", "c"), node="g",
                    share=Share("GPU-g-0", GIB))  # fmt: skip
    case.leases.observe(owned)
    assert "was made for pod web" in case.refusal(user("p"))


def test_less_than_it_has_may_be_asked_for_and_any_compute_of_one_without_a_cap(case: Case) -> None:
    case.placed(mine())
    case.reserved(user("p", "gpu-mem=4Gi gpu-core=90"))


def test_a_pod_of_two_slices_uses_none(case: Case) -> None:
    case.placed(mine())
    asked = replace(remote("p", "gpu-mem=1Gi", "gpu-mem=1Gi"), annotations=user("p").annotations)
    assert "is for one container; found slices in 2" in case.refusal(asked)


def test_slots_are_said_to_be_short() -> None:
    case = Case(client("c", 1), node("g", 24))
    case.used(case.placed(mine()), user("p"))
    case.placed(mine("second"))
    assert "has a slot free" in case.refusal(user("q", lease="second"))


@pytest.mark.parametrize(
    ("notes", "why"),
    [
        ({names.GPU_LEASE: "mine"}, "only with tessera.io/remote: required"),
        ({names.GPU_LEASE: "mine", names.REMOTE: "allowed"}, "only with tessera.io/remote: required"),
        ({names.GPU_LEASE: "no name", names.REMOTE: "required"}, "the name of a GPULease of the pod's namespace"),
        ({names.GPU_LEASE: "", names.REMOTE: "required"}, "the name of a GPULease of the pod's namespace"),
    ],
)
def test_the_annotation_is_read_as_it_stands(case: Case, notes: dict[str, str], why: str) -> None:
    found = case.engine.demand_of(pod("p", "gpu-mem=1Gi", annotations=notes))
    assert isinstance(found, Reason) and names.GPU_LEASE in found.text and why in found.text


def test_what_it_asks_for_is_what_it_says() -> None:
    found = standing_demand(mine(core=30, annotations={names.QOS: "best-effort"}))
    assert isinstance(found, PodDemand) and found.preferences.qos == "best-effort"
    assert (found.containers[0].mem_bytes, found.containers[0].core_percent) == (8 * GIB, 30)


# Who must not be asked to leave, and who pays


def test_its_room_is_nobodys_who_could_be_asked_to_leave(case: Case) -> None:
    lease = case.placed(mine())
    holders = Holders(case.leases, lambda: 0.0)
    for stage in (lease, case.used(lease, user("p"))):
        case.leases.observe(stage)
        assert list(holders.on("g")) == [] and "g" not in holders.departing()
        assert len(holders.shares().holders) == 0


def test_quotas_count_what_no_pod_pays_for(case: Case) -> None:
    unplaced, mem, core = mine("new", 6, 10), "requests.tessera.io/gpu-mem", "requests.tessera.io/gpu-core"
    case.leases.observe(unplaced)
    assert growth(case.leases, unplaced, []).own == {mem: 6 * GIB, core: 10}
    lease = case.placed(mine(gib=8, core=20))
    assert growth(case.leases, unplaced, []).others == {mem: 8 * GIB, core: 20}
    asked = user("p", "gpu-mem=5Gi gpu-core=20")
    case.used(lease, asked)
    assert growth(case.leases, unplaced, [asked]).others == {mem: 3 * GIB, core: 0}
    assert growth(case.leases, unplaced, []).others == {mem: 8 * GIB, core: 20}, "its pod is gone"


def test_a_pod_that_waits_for_a_lease_pays_for_it_and_one_that_waits_for_none_does_not(case: Case) -> None:
    """Both may be made at once under a quota that has room for the slice once."""
    lease, mem = mine(gib=8), "requests.tessera.io/gpu-mem"
    case.leases.observe(lease)
    waits = user("p", "gpu-mem=5Gi")
    assert growth(case.leases, lease, [waits]).own[mem] == 3 * GIB
    assert growth(case.leases, lease, [user("q", lease="other")]).own[mem] == 8 * GIB
    assert growth(case.leases, lease, [remote("q", "gpu-mem=5Gi")]).own[mem] == 8 * GIB
    assert growth(case.leases, lease, [replace(waits, node="c")]).own[mem] == 8 * GIB, "it runs without the lease"
    assert growth(case.leases, lease, [replace(waits, phase="Failed")]).own[mem] == 8 * GIB


# When its pod is to move


def test_a_pod_that_uses_one_may_be_drained_and_its_successor_uses_it() -> None:
    case = Case(client("c"), client("d"), node("g", 24))
    asked = user("p")
    taken = case.used(case.placed(mine()), asked)
    charge = case.engine.ledger.charge_of(asked.uid)
    assert charge is not None
    moved = bound(asked, "c", charge.assignment)
    plan = drain_plan(case.engine, people(moved), "c")
    assert isinstance(plan, DrainPlan) and plan.complete and plan.moves[0].target == "d"
    assert case.leases.user(taken) == asked.uid, "nothing is changed but in the trial"
    trial = Trial(case.engine)
    trial.put_back(trial.take_out(asked.uid))
    assert trial.engine.leases.user(taken) == asked.uid and trial.ledger.charge_of(asked.uid) == charge
