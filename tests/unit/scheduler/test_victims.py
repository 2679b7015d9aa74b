"""Who has to leave for a pod of higher priority: the fewest, the lowest, and nobody without need."""

from tessera.scheduler.budgets import Budget, Expression, Selector, breaking, selects
from tests.unit.scheduler.preemptions import Full, node, pod


def test_the_lowest_priority_leaves() -> None:
    full = Full(node("a", 24), node("b", 24))
    full.run("ten", "gpu-mem=20Gi", "a", 10)
    full.run("five", "gpu-mem=20Gi", "b", 5)
    plan = full.plan(pod("high", "gpu-mem=20Gi", priority=100))
    assert plan and plan.node == "b" and [v.name for v in plan.victims] == ["five"]


def test_one_leaves_rather_than_two() -> None:
    full = Full(node("a", 24), node("b", 24))
    full.run("a1", "gpu-mem=12Gi", "a")
    full.run("a2", "gpu-mem=12Gi", "a")
    full.run("b1", "gpu-mem=24Gi", "b")
    assert full.victims(pod("high", "gpu-mem=24Gi", priority=100)) == ["b1"]


def test_on_one_gpu_the_large_one_leaves_rather_than_two_small_ones_of_its_priority() -> None:
    full = Full(node("a", 24))
    for name, ask in (("old", "gpu-mem=4Gi"), ("small", "gpu-mem=6Gi"), ("large", "gpu-mem=14Gi")):
        full.run(name, ask, "a", started="2026-01-01T00:00:00Z" if name == "large" else "2026-02-01T00:00:00Z")
    assert full.victims(pod("high", "gpu-mem=10Gi", priority=100)) == ["large"]


def test_two_low_ones_leave_rather_than_one_higher() -> None:
    full = Full(node("a", 24), node("b", 24))
    full.run("a1", "gpu-mem=12Gi", "a", 1)
    full.run("a2", "gpu-mem=12Gi", "a", 1)
    full.run("b1", "gpu-mem=24Gi", "b", 2)
    assert full.victims(pod("high", "gpu-mem=24Gi", priority=100)) == ["a1", "a2"]


def test_among_equals_who_started_last_leaves() -> None:
    full = Full(node("a", 24), node("b", 24))
    full.run("early", "gpu-mem=24Gi", "a", started="2026-01-01T00:00:00Z")
    full.run("late", "gpu-mem=24Gi", "b", started="2026-01-02T00:00:00Z")
    assert full.victims(pod("high", "gpu-mem=24Gi", priority=100)) == ["late"]


def test_equal_and_higher_priorities_are_never_touched() -> None:
    full = Full(node("a", 24))
    full.run("equal", "gpu-mem=12Gi", "a", 100)
    full.run("low", "gpu-mem=12Gi", "a", 99)
    assert full.plan(pod("high", "gpu-mem=24Gi", priority=100)) is None
    assert full.victims(pod("half", "gpu-mem=12Gi", priority=100)) == ["low"]


def test_a_node_that_was_not_offered_is_left_alone() -> None:
    full = Full(node("a", 24), node("b", 24))
    full.run("a1", "gpu-mem=24Gi", "a", 1)
    full.run("b1", "gpu-mem=24Gi", "b", 2)
    plan = full.plan(pod("high", "gpu-mem=24Gi", priority=100), nodes=["b"])
    assert plan and plan.node == "b"


def test_all_tenants_of_a_gpu_leave_for_one_who_wants_it_whole() -> None:
    full = Full(node("a", 24, 24))
    full.run("whole", "gpu=1", "a", 50)
    full.run("x", "gpu-mem=4Gi", "a")
    full.run("y", "gpu-mem=4Gi", "a")
    assert full.victims(pod("high", "gpu=1", priority=100)) == ["x", "y"]
    assert full.victims(pod("both", "gpu=2", priority=100)) == ["whole", "x", "y"]


def test_room_of_a_pod_that_ends_already_is_waited_for() -> None:
    full = Full(node("a", 24), node("b", 24))
    full.run("a1", "gpu-mem=24Gi", "a", 1)
    full.run("b1", "gpu-mem=24Gi", "b", 500)
    full.change("b1", deleting=True, grace_s=30)
    plan = full.plan(pod("high", "gpu-mem=24Gi", priority=100))
    assert plan and plan.node == "b" and not plan.victims
    full.clock.now += 91
    assert full.victims(pod("high", "gpu-mem=24Gi", priority=100)) == ["a1"]


def test_who_was_told_to_give_way_to_this_pod_is_no_new_victim() -> None:
    full = Full(node("a", 24), node("b", 24))
    full.run("a1", "gpu-mem=12Gi", "a", 5)
    full.run("a2", "gpu-mem=12Gi", "a", 5)
    full.run("b1", "gpu-mem=24Gi", "b", 1)
    asking = pod("high", "gpu-mem=24Gi", priority=100)
    full.change("a1", preempted_for=asking.uid)
    full.change("a2", preempted_for=asking.uid, deleting=True, grace_s=30)
    plan = full.case(asking).free("a")
    assert plan and [victim.name for victim in plan.victims] == ["a1"]
    assert full.case(asking).free("b") is None


def test_two_preemptors_get_two_sets_of_victims() -> None:
    full = Full(node("a", 24, 24))
    full.run("x", "gpu-mem=24Gi", "a")
    full.run("y", "gpu-mem=24Gi", "a")
    first, second = (pod(name, "gpu-mem=24Gi", priority=100) for name in ("p", "q"))
    plan = full.plan(first)
    assert plan and len(plan.victims) == 1
    full.engine.filter(first, ["a"])
    full.nominations.nominate(first, "a", 60, plan.room)
    full.change(plan.victims[0].name, deleting=True, grace_s=30)
    other = full.plan(second)
    assert other and [v.name for v in other.victims] == [{"x": "y", "y": "x"}[plan.victims[0].name]]


def test_a_higher_pod_may_take_the_room_that_is_made_for_a_lower_one() -> None:
    full = Full(node("a", 24))
    full.run("x", "gpu-mem=24Gi", "a")
    first, second = pod("p", "gpu-mem=24Gi", priority=100), pod("q", "gpu-mem=24Gi", priority=200)
    plan = full.plan(first)
    assert plan
    full.nominations.nominate(first, "a", 60, plan.room)
    full.change("x", deleting=True, grace_s=30)
    other = full.plan(second)
    assert other and not other.victims
    assert full.plan(pod("r", "gpu-mem=24Gi", priority=100)) is None


def test_freed_room_goes_to_the_preemptor_on_the_very_gpus() -> None:
    full = Full(node("a", 24, 24))
    full.run("keeps", "gpu-mem=10Gi", "a", 500)
    full.run("x", "gpu-mem=12Gi", "a")
    full.run("y", "gpu-mem=11Gi", "a")
    full.run("z", "gpu-mem=12Gi", "a")
    asking = pod("high", "gpu-mem=24Gi", priority=100)
    plan = full.plan(asking)
    assert plan is not None and len(plan.victims) == 2
    full.engine.filter(asking, ["a"])
    full.nominations.nominate(asking, "a", 60, plan.room)
    gone = plan.victims[0].name
    full.change(gone, phase="Failed")
    late = pod("late", "gpu-mem=11Gi", priority=100)
    free = full.engine.filter(late, ["a"])
    full.change(plan.victims[1].name, phase="Failed")
    assert full.engine.filter(asking, ["a"]).nodes == ["a"], free
    assert not full.engine.ledger.over_committed()


class TestBudgets:
    web = Budget("default", Selector(match_labels={"app": "web"}), 0)

    def test_a_covered_pod_is_spared_where_another_will_do(self) -> None:
        full = Full(node("a", 24), node("b", 24))
        full.run("web", "gpu-mem=24Gi", "a", 1, labels={"app": "web"})
        full.run("job", "gpu-mem=24Gi", "b", 50)
        asking = pod("high", "gpu-mem=24Gi", priority=100)
        assert full.victims(asking) == ["web"]
        assert full.victims(asking, [self.web]) == ["job"]

    def test_a_covered_pod_is_spared_on_its_own_node_too(self) -> None:
        full = Full(node("a", 24, 24))
        full.run("web", "gpu-mem=24Gi", "a", 1, labels={"app": "web"})
        full.run("job", "gpu-mem=24Gi", "a", 50)
        assert full.victims(pod("high", "gpu-mem=24Gi", priority=100), [self.web]) == ["job"]

    def test_without_another_choice_a_budget_is_broken_and_counted(self) -> None:
        full = Full(node("a", 24))
        full.run("web", "gpu-mem=24Gi", "a", 1, labels={"app": "web"})
        plan = full.plan(pod("high", "gpu-mem=24Gi", priority=100), [self.web])
        assert plan and plan.violations == 1

    def test_a_budget_that_allows_one_covers_one(self) -> None:
        full = Full(node("a", 24))
        pods = [full.run(name, "gpu-mem=8Gi", "a", labels={"app": "web"}) for name in "xyz"]
        one = Budget("default", Selector(match_labels={"app": "web"}), 1)
        assert breaking([one], pods) == {"uid-y", "uid-z"}
        assert breaking([one], pods[1:], gone=pods[:1]) == {"uid-y", "uid-z"}
        assert breaking([Budget("other", one.selector, 0)], pods) == set()

    def test_selectors(self) -> None:
        def expression(operator: str, *values: str) -> Selector:
            return Selector(match_expressions=[Expression("k", operator, list(values))])

        labels = {"k": "v"}
        assert selects(Selector(), labels) and selects(expression("In", "v"), labels)
        assert not selects(expression("NotIn", "v"), labels) and selects(expression("NotIn", "v"), {})
        assert selects(expression("Exists"), labels) and not selects(expression("DoesNotExist"), labels)
        assert not selects(expression("Near", "v"), labels)
