"""What the dashboard shows of a cluster's objects."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tessera.dashboard.facts import Cause, PodFacts
from tessera.dashboard.holdings import holding_of
from tessera.model import names
from tessera.model.assignment import Share
from tessera.model.charges import charge_of
from tessera.model.ledger import Ledger
from tessera.model.pods import ContainerSpec
from tessera.model.quantities import GIB
from tests.unit.dashboard.clusters import gpu, node, pod, running, snapshot


def test_a_gpu_shows_the_sum_of_its_slices_and_who_holds_them() -> None:
    shown = snapshot(
        [node("a", gpu("G0"), gpu("G1"))],
        [running("x", Share("G0", 4 * GIB, 30)), running("y", Share("G0", 8 * GIB), Share("G1", 8 * GIB))],
    )
    assert (shown.gpus["G0"].allocated_bytes, shown.gpus["G0"].core_percent) == (12 * GIB, 30)
    assert [t.pod for t in shown.gpus["G0"].tenants] == ["x", "y"]
    assert shown.gpus["G0"].free_bytes == 28 * GIB
    assert shown.nodes["a"].allocated_bytes == 20 * GIB and shown.nodes["a"].pods == 2
    assert shown.totals.allocated_bytes == 20 * GIB and shown.totals.largest_free_bytes == 32 * GIB


def test_a_whole_gpu_takes_all_of_its_compute() -> None:
    shown = snapshot([node("a", gpu("G0"))], [running("x", Share("G0", 40 * GIB, 0, whole=True))])
    assert shown.gpus["G0"].core_percent == 100 and shown.gpus["G0"].free_bytes == 0
    assert shown.pods["default/x"].gpus[0].whole


def test_a_pod_that_ended_holds_nothing_and_a_deleted_one_still_does() -> None:
    ended = PodFacts(pod("x", Share("G0", GIB), on="a", phase="Succeeded"))
    leaving = PodFacts(replace(pod("y", Share("G0", 2 * GIB), on="a", phase="Running"), deleting=True))
    shown = snapshot([node("a", gpu("G0"))], [ended, leaving])
    assert shown.gpus["G0"].allocated_bytes == 2 * GIB
    assert shown.pods["default/x"].gpus == () and shown.pods["default/x"].reason == "Completed"
    assert shown.pods["default/y"].phase == "Terminating"


def test_a_share_on_a_gpu_that_nobody_reports_is_shown_as_gone() -> None:
    shown = snapshot([node("a", gpu("G0"))], [running("x", Share("G9", GIB))])
    gone = shown.gpus["G9"]
    assert (gone.node, gone.index, gone.healthy, gone.overcommitted) == ("a", -1, False, True)
    assert shown.totals.unhealthy_gpus == 1 and shown.nodes["a"].gpus == 2


def test_an_unhealthy_gpu_has_nothing_free() -> None:
    shown = snapshot([node("a", gpu("G0", ill="Xid 79"))], [])
    assert shown.totals.free_bytes == 0 and shown.totals.largest_free_bytes == 0
    assert shown.totals.unhealthy_gpus == 1 and shown.totals.idle_gpus == 0


def test_overcommitment_is_counted_not_hidden() -> None:
    shown = snapshot(
        [node("a", gpu("G0", 4))], [running("x", Share("G0", 3 * GIB)), running("y", Share("G0", 2 * GIB))]
    )
    assert shown.totals.overcommitted_gpus == 1 and shown.gpus["G0"].free_bytes == 0


def test_pods_without_slices_do_not_appear() -> None:
    assert holding_of(PodFacts(pod("web", limits={"cpu": "1"}))) is None


def test_a_waiting_pod_says_why() -> None:
    waiting = PodFacts(pod("x"), unscheduled=Cause("Unschedulable", "0/3 nodes are available"))
    assert _why(waiting) == ("Unschedulable", "0/3 nodes are available")
    assert _why(replace(waiting, no_room="2 GPUs: 2 not enough memory")) == ("NoRoom", "2 GPUs: 2 not enough memory")
    assert _why(replace(waiting, gated=True))[0] == "SchedulingGated"
    assert _why(PodFacts(pod("x")))[0] == "NotTried"


def test_a_malformed_request_is_the_reason_whatever_the_scheduler_said() -> None:
    wrong = PodFacts(pod("x", mem="-4Gi"), unscheduled=Cause("Unschedulable", "0/3"))
    reason, message = _why(wrong)
    assert reason == "InvalidRequest" and "-4Gi" in message


def test_a_bound_pod_with_no_readable_assignment_says_so() -> None:
    bare = PodFacts(pod("x", on="a", phase="Running"))
    assert _why(bare)[0] == "NoAssignment"
    newer = replace(bare.pod, annotations={names.ASSIGNMENT: '{"version":9}'})
    reason, message = _why(PodFacts(newer))
    assert reason == "InvalidAssignment" and "version 9" in message


def test_a_request_reads_in_one_line() -> None:
    both = {names.GPU_MEM: "24Gi", names.GPU_CORE: "60", names.GPU_COUNT: "2", names.SLICE: "1"}
    assert _asks(both) == "2 x 12Gi, 30%"
    assert _asks({names.GPU: "2", names.SLICE: "1"}) == "2 GPUs"
    assert _asks({names.GPU_CORE: "25", names.SLICE: "1"}) == "25%"


def test_containers_of_one_pod_on_one_gpu_are_one_share_of_the_pod() -> None:
    two = pod("x", Share("G0", GIB, 10), on="a", phase="Running")
    second = ContainerSpec("side", "spec.containers[1]", limits={names.GPU_MEM: "1Gi", names.SLICE: "1"})
    text = (
        '{"version":1,"containers":{"main":{"gpus":[{"uuid":"G0","mem":1073741824,"core":10}]},'
        '"side":{"gpus":[{"uuid":"G0","mem":1073741824,"core":5}]}}}'
    )
    both = replace(two, containers=(*two.containers, second), annotations={names.ASSIGNMENT: text})
    shown = snapshot([node("a", gpu("G0"))], [PodFacts(both)])
    assert [(s.mem_bytes, s.core_percent) for s in shown.pods["default/x"].gpus] == [(2 * GIB, 15)]
    assert [t.container for t in shown.gpus["G0"].tenants] == ["main", "side"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 8), st.integers(0, 20)), max_size=12))
def test_the_sums_equal_the_schedulers_ledger(slices: list[tuple[int, int, int]]) -> None:
    nodes = [node("a", gpu("G0", 200), gpu("G1", 200), gpu("G2", 200))]
    facts = [
        PodFacts(pod(f"p{i}", Share(f"G{at}", gib * GIB, core), on="a", phase="Running"))
        for i, (at, gib, core) in enumerate(slices)
    ]
    ledger = Ledger()
    ledger.upsert_node(nodes[0])
    for f in facts:
        charge = charge_of(f.pod)
        assert charge is not None
        ledger.charge(f.pod.uid, charge)
    row = ledger.row("a")
    assert row is not None
    shown = snapshot(nodes, facts)
    free = [gpu.mem_bytes - gpu.allocated_bytes for gpu in shown.gpus.values()]
    assert free == [int(ledger.free_bytes[row, column]) for column in range(3)]


def _why(facts: PodFacts) -> tuple[str, str]:
    holding = holding_of(facts)
    assert holding is not None
    return holding.state.reason, holding.state.message


def _asks(limits: dict[str, str]) -> str:
    holding = holding_of(PodFacts(pod("x", limits=limits)))
    assert holding is not None
    return holding.state.asks
