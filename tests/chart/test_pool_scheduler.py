"""Slices on other nodes: off, without a right on GPULeases, unless the operator says otherwise."""

import pytest

from tessera.model.hosts import HostNeed
from tessera.model.quantities import GIB
from tessera.scheduler.options import PoolOptions
from tessera.scheduler.settings import SchedulerSettings
from tests.chart.chart import NAMESPACE, Json, Rendered, refusal, render
from tests.chart.test_rescue import environment


def rights(found: Rendered, resource: str = "gpuleases") -> set[str]:
    rules = found.one("ClusterRole", "tessera-scheduler")["rules"]
    return {verb for rule in rules if resource in rule["resources"] for verb in rule["verbs"]}


def read(found: Rendered) -> PoolOptions | None:
    """What the scheduler makes of the chart's variables."""
    given = environment(found)
    names = (f"pool_{each}" for each in ("enabled", "namespace", "account", "executor_cpu", "executor_memory"))
    values = {name: given[f"TESSERA_{name.upper()}"] for name in names}
    return SchedulerSettings(**values).pool  # type: ignore[arg-type]


def makers(found: Rendered) -> str:
    """Who may say which lease a pod serves."""
    variables = found.one("ValidatingAdmissionPolicy", "tessera-assignments")["spec"]["variables"]
    (expression,) = (each["expression"] for each in variables if each["name"] == "executor")
    return " ".join(expression.split())


def test_by_default_there_is_no_pool() -> None:
    found = render()
    assert read(found) is None and not rights(found) and makers(found) == "false"
    assert not rights(found, "gpuleases/status") and not rights(found, "resourcequotas")
    assert "tessera-leases-view" not in {each["metadata"]["name"] for each in found.all("ClusterRole")}


def test_with_a_pool_the_scheduler_makes_leases_and_its_controller_says_what_serves_them() -> None:
    found = render({"pool.enabled": True})
    assert read(found) == PoolOptions(NAMESPACE, "tessera-pool-executor", HostNeed(500, 2 * GIB))
    assert rights(found) == {"get", "list", "watch", "create", "patch", "delete"}
    assert rights(found, "gpuleases/status") == {"patch"} and rights(found, "resourcequotas") == {"list"}
    controller = f"request.userInfo.username == 'system:serviceaccount:{NAMESPACE}:tessera-pool-controller'"
    assert controller in makers(found) and f"request.namespace == '{NAMESPACE}'" in makers(found)
    seen = found.one("ClusterRole", "tessera-leases-view")["rules"]
    assert [(rule["resources"], set(rule["verbs"])) for rule in seen] == [(["gpuleases"], {"get", "list", "watch"})]


def test_the_operator_says_where_executors_are_and_what_they_need() -> None:
    values = {"pool.enabled": True, "pool.namespace": "pool", "pool.executor.cpu": 2, "pool.executor.memory": "8Gi"}
    found = render(values)
    assert read(found) == PoolOptions("pool", "tessera-pool-executor", HostNeed(2000, 8 * GIB))
    assert "request.namespace == 'pool'" in makers(found)


@pytest.mark.parametrize(
    "values",
    [{"pool.namespace": "a.b"}, {"pool.executor.cpu": "much"}, {"pool.executor.memory": -1}, {"pool.on": True}],
)
def test_values_that_make_no_sense_are_refused(values: Json) -> None:
    assert "pool" in refusal(values)
