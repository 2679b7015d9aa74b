"""Fixtures of the end-to-end suite: one real cluster for the session, one namespace for each test.

`TESSERA_E2E_KEEP=1` leaves the cluster running for a look by hand (`python -m tests.e2e.cluster list` / `down`).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TypeVar

import pytest

from tests.e2e import programs, trainings
from tests.e2e.admission import Admission, admitted
from tests.e2e.cluster.api import Api
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.pooled import GPUS, SPARE, Pooled
from tests.e2e.product.product import Product

_CLUSTER = pytest.StashKey[Cluster]()
_PRODUCT = pytest.StashKey[Product]()
Installed = TypeVar("Installed", bound=Product)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Two Ready nodes and a control plane, shared by the session. Restarts of its processes are allowed."""
    keep = bool(os.environ.get("TESSERA_E2E_KEEP"))
    try:
        started = Cluster(keep=keep).start()
    except programs.Missing as missing:
        pytest.fail(str(missing), pytrace=False)
    request.config.stash[_CLUSTER] = started
    yield started
    if keep:
        print(f"\ncluster left running: export KUBECONFIG={started.kubeconfig}")
    else:
        started.stop()


@pytest.fixture
def api(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Api]:
    """The administrator's client in a new namespace, which goes with all its pods when the test ends."""
    with _namespace(cluster, request.node.name) as client:
        yield client


@pytest.fixture(scope="session")
def product(request: pytest.FixtureRequest) -> Iterator[Product]:
    """A cluster of its own with Tessera installed, shared by the session."""
    with _installed(request, Product) as found:
        yield found


@pytest.fixture
def tenant(product: Product, request: pytest.FixtureRequest) -> Iterator[Api]:
    """The administrator's client in a new namespace of the cluster with Tessera."""
    with _namespace(product.cluster, request.node.name) as client:
        yield client


@pytest.fixture(scope="module")
def admission() -> Iterator[Admission]:
    """A control plane of its own without nodes, with what the chart has for admission."""
    try:
        with admitted() as found:
            yield found
    except programs.Missing as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture(scope="session")
def pooled(request: pytest.FixtureRequest) -> Iterator[Pooled]:
    """A cluster of its own with Tessera and the remote pool, shared by the session."""
    with _installed(request, Pooled) as found:
        yield found


@pytest.fixture
def guest(pooled: Pooled, request: pytest.FixtureRequest) -> Iterator[Api]:
    """As ``tenant``, of the cluster with the remote pool."""
    with _namespace(pooled.cluster, request.node.name) as client:
        yield client


@pytest.fixture
def reopened(pooled: Pooled) -> Iterator[None]:
    """Afterwards leases are of the same node as before."""
    yield
    pooled.cordon(SPARE)
    pooled.cordon(GPUS, closed=False)


@pytest.fixture(scope="session")
def local_losses(pooled: Pooled) -> dict[int, float]:
    """Those of a training on the CPU of a pod without a slice, which are always the same."""
    with _namespace(pooled.cluster, "local") as client:
        return trainings.local_losses(client)


@pytest.fixture
def neighbour(product: Product, request: pytest.FixtureRequest) -> Iterator[Api]:
    """As ``tenant``, of another namespace."""
    with _namespace(product.cluster, request.node.name) as client:
        yield client


@contextlib.contextmanager
def _installed(request: pytest.FixtureRequest, make: type[Installed]) -> Iterator[Installed]:
    """What ``make`` installs on a new cluster, which a failed test shows the logs of."""
    keep = bool(os.environ.get("TESSERA_E2E_KEEP"))
    try:
        cluster = Cluster(make.NODES, keep=keep).start()
    except programs.Missing as missing:
        pytest.fail(str(missing), pytrace=False)
    request.config.stash[_CLUSTER] = cluster
    try:
        installed = request.config.stash[_PRODUCT] = make(cluster)
        installed.start()
        yield installed
    except programs.Missing as missing:
        pytest.fail(str(missing), pytrace=False)
    finally:
        if not keep:
            cluster.stop()


@contextlib.contextmanager
def _namespace(cluster: Cluster, test: str) -> Iterator[Api]:
    name = re.sub(r"[^a-z0-9]+", "-", test.lower())[-40:].strip("-")
    wanted = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": f"{name}-"}}
    namespace = cluster.api.create(wanted)["metadata"]["name"]
    client = cluster.as_user(cluster.admin, namespace)
    client.wait("ServiceAccount", "default", bool)
    yield client
    client.delete("Namespace", namespace)  # from here on nothing new can be made in it
    client.request("DELETE", client.path("Pod"))
    wait_until(f"pods of {namespace} gone", lambda: not client.items("Pod"), timeout_s=60)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test also shows the last lines of every process of the cluster."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    started = item.config.stash.get(_CLUSTER, None)
    if report.failed and started:
        report.sections.append(("cluster", started.logs()))
    installed = item.config.stash.get(_PRODUCT, None)
    if report.failed and installed:
        report.sections.append(("tessera", installed.logs()))
