"""Two namespaces and one GPU with room for both, through the real kube-scheduler and kubelet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tessera.model import names
from tessera.model.assignment import decode
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.product import Product
from tests.e2e.product.seen import assert_sees_its_own, given
from tests.e2e.test_waiting import unschedulable

pytestmark = pytest.mark.e2e
THE_T4 = {"tessera.io/gpu-model": "Tesla T4"}


def pod(name: str) -> Json:
    spec = {"terminationGracePeriodSeconds": 1}
    return pods.pod(name, pods.container(limits={"gpu-mem": "4Gi"}), annotations=THE_T4, **spec)


@pytest.fixture
def apart(product: Product) -> Iterator[None]:
    product.start_scheduler_anew(TESSERA_TRUST_DOMAIN="namespace")
    yield
    product.start_scheduler_anew()


def test_by_default_both_share(product: Product, tenant: Api, neighbour: Api) -> None:
    for each in (tenant, neighbour):
        each.create(pod("p"))
    found = [each.wait("Pod", "p", pods.running) for each in (tenant, neighbour)]
    assert given(found[0])[0].uuid == given(found[1])[0].uuid


def test_as_domains_one_waits_says_why_and_runs_when_the_other_has_left(
    product: Product, apart: None, tenant: Api, neighbour: Api
) -> None:
    tenant.create(pod("first"))
    first = tenant.wait("Pod", "first", pods.running)
    neighbour.create(pod("other"))
    assert "another trust domain's" in unschedulable(neighbour.wait("Pod", "other", unschedulable))
    told = wait_until("NoRoom event", lambda: [e for e in neighbour.events("other") if e["reason"] == "NoRoom"])
    assert isinstance(told, list) and "1 another trust domain's" in told[0]["message"]
    tenant.create(pod("second"))
    second = tenant.wait("Pod", "second", pods.running)
    assert given(second)[0].uuid == given(first)[0].uuid
    for name in ("first", "second"):
        tenant.delete("Pod", name)
    other = neighbour.wait("Pod", "other", pods.running)
    assert given(other)[0].uuid == given(first)[0].uuid
    assert decode(other["metadata"]["annotations"][names.ASSIGNMENT]).domain == f"namespace/{neighbour.namespace}"
    assert_sees_its_own(neighbour, other)
