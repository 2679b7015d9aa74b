"""Containers without a slice, in a pod that has one."""

from tests.e2e.cluster import pods
from tests.escape.cage import Cage
from tests.escape.rows.table import row
from tests.escape.verdict import Outcome, Wall

_TAKE = "exec /programs/taker plain 512 4096"


@row("a second container without a slice", Wall.WATCHER, "kubelet, agent")
def _second(cage: Cage) -> Outcome:
    own, other = cage.container("sleep 600"), cage.container(_TAKE, "other", slice_=False)
    return cage.judge(cage.start(cage.pod(own, other)), "other")


@row("an ephemeral container", Wall.WATCHER, "kube-apiserver, kubelet, agent")
def _ephemeral(cage: Cage) -> Outcome:
    name = cage.start(cage.pod(cage.container("sleep 600")))
    pods.wait_all(cage.tenant, [name])
    body = cage.container(_TAKE, "probe", slice_=False)
    path = cage.tenant.path("Pod", name, sub="ephemeralcontainers")
    patch = {"spec": {"ephemeralContainers": [body]}}
    cage.tenant.request("PATCH", path, patch, "application/strategic-merge-patch+json")
    return cage.judge(name, "probe")
