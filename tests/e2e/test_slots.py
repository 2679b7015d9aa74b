"""Slots are used again and again, and never show another pod's slice."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.product import Product
from tests.e2e.product.seen import assert_report_is, given

pytestmark = pytest.mark.e2e

ROUNDS, PODS, CONTAINERS = 10, 8, 16


@contextlib.contextmanager
def other_slots_change(cdi_dir: Path, count: int = 300) -> Iterator[None]:
    """Hundreds of other slots' spec files come, change and go in the node's CDI folder all the while."""
    stop = threading.Event()

    def churn() -> None:
        i = 0
        while not stop.wait(0.02):
            name = f"slot-{700 + i % count}-{i % count:032x}"
            wrong = {"name": name, "containerEdits": {"env": [f"CUDA_VISIBLE_DEVICES=wrong-{i}"]}}
            spec = {"cdiVersion": "0.6.0", "kind": "tessera.io/slice", "devices": [wrong]}
            file = cdi_dir / f"other-{name}.json"
            file.with_suffix(".tmp").write_text(json.dumps(spec))
            file.with_suffix(".tmp").rename(file)
            i += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for file in cdi_dir.glob("other-*"):
            file.unlink()


def many(name: str, first: int) -> Json:
    """A pod on node-b whose containers all ask for different bytes."""
    containers = [
        pods.container(f"c{i}", limits={"gpu-mem": f"{(first + i) % 311 + 1}Mi"}, show=["/run/tessera"])
        for i in range(CONTAINERS)
    ]
    return pods.pod(name, *containers, node="node-b")


@pytest.mark.timeout(900)
def test_a_thousand_uses_of_slots_never_show_another_slice(product: Product, tenant: Api) -> None:
    node = product.cluster.nodes["node-b"]
    seen: list[str] = []
    with other_slots_change(node.cdi_dir):
        for turn in range(ROUNDS):
            names = [f"r{turn}-{i}" for i in range(PODS)]
            pods.create_all(tenant, [many(n, (turn * PODS + i) * CONTAINERS) for i, n in enumerate(names)])
            for pod in pods.wait_all(tenant, names).values():
                for i in range(CONTAINERS):
                    report = pods.read_report(_log(product, pod, f"c{i}"))
                    assert_report_is(report, given(pod, f"c{i}"))
                    seen.append(report.env["TESSERA_SLICE"])
            pods.delete_all(tenant, names)
    slots = [name.rsplit("-", 1)[0] for name in seen]
    assert len(seen) == len(set(seen)) == ROUNDS * PODS * CONTAINERS, "a CDI name was used twice"
    assert len(slots) - len(set(slots)) >= 1000, "fewer than 1,000 reuses"


@pytest.mark.timeout(300)
def test_a_container_that_restarts_gets_its_own_slice_again(product: Product, tenant: Api) -> None:
    short = ["sh", "-c", "timeout 2 /bin/report /run/tessera; exit 1"]
    names = [f"p{i}" for i in range(10)]
    limits = [{"gpu-mem": f"{100 + i}Mi"} for i in range(10)]
    with other_slots_change(product.cluster.nodes["node-b"].cdi_dir):
        pods.create_all(
            tenant,
            [
                pods.pod(n, pods.container(limits=x, command=short), node="node-b")
                for n, x in zip(names, limits, strict=True)
            ],
        )
        found = pods.wait_all(tenant, names, lambda pod: _restarts(pod) >= 2, timeout_s=120)
    for pod in found.values():
        reports = _reports_after_restarts(product, pod)
        assert reports
        for report in reports:
            assert_report_is(report, given(pod))


def _reports_after_restarts(product: Product, pod: Json) -> list[pods.Report]:
    """What the container saw at its second start and later; the kubelet keeps the last logs only."""
    node, found = product.cluster.nodes["node-b"], []
    for attempt in range(1, _restarts(pod) + 1):
        with contextlib.suppress(FileNotFoundError):
            log = node.container_log(pod, "main", attempt)
            if "=== end" in log:
                found.append(pods.read_report(log))
    return found


def _restarts(pod: Json) -> int:
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", ()))


def _log(product: Product, pod: Json, container: str) -> str:
    node = product.cluster.nodes[pod["spec"]["nodeName"]]

    def whole() -> str:
        text = node.container_log(pod, container)
        return text if "=== end" in text else ""

    return str(wait_until(f"report of {container}", whole, 30))
