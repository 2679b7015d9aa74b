"""The harness proves itself: what the product's end-to-end tests stand on works without the product."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import pods
from tests.e2e.cluster.addresses import free_ports, ip
from tests.e2e.cluster.api import Api, ApiError, Json
from tests.e2e.cluster.cluster import Cluster, node_is_ready
from tests.e2e.cluster.node import NodeSpec
from tests.e2e.cluster.processes import NotReady, wait_until
from tests.e2e.cluster.scheduler import Extender
from tests.e2e.stub_plugin import StubPlugin

pytestmark = pytest.mark.e2e


def test_both_nodes_are_ready(cluster: Cluster) -> None:
    nodes = {node["metadata"]["name"]: node for node in cluster.api.items("Node")}
    assert set(nodes) == {"node-a", "node-b"} and all(map(node_is_ready, nodes.values()))
    print({what: f"{seconds:.1f} s" for what, seconds in cluster.timings.items()})


@pytest.mark.parametrize("node", ["node-a", "node-b"])
@pytest.mark.parametrize("scheduler", ["default-scheduler", "tessera"])
def test_a_pod_runs_on_the_node_it_asks_for_and_its_log_can_be_read(
    cluster: Cluster, api: Api, node: str, scheduler: str
) -> None:
    api.create(
        pods.pod("one", pods.container(env={"ANSWER": "42"}, show=["/etc/passwd"]), node=node, scheduler=scheduler)
    )
    pod = api.wait("Pod", "one", pods.running)
    seen = pods.report(api, "one")
    assert pod["spec"]["nodeName"] == node
    assert seen.env["ANSWER"] == "42" and seen.files["/etc/passwd"].startswith("root:")
    assert pods.read_report(cluster.nodes[node].container_log(pod)) == seen


def test_a_pod_reaches_the_api_server_and_holds_a_token_for_it(cluster: Cluster, api: Api) -> None:
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    script = f"nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && exec report {folder}/token"
    api.create(pods.pod("inside", pods.container(command=["sh", "-c", script])))
    api.wait("Pod", "inside", pods.running)
    token = pods.report(api, "inside").files[f"{folder}/token"]
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}}
    me = cluster.as_user(token).create(review)["status"]["userInfo"]
    assert me["username"] == f"system:serviceaccount:{api.namespace}:default"
    assert me["extra"]["authentication.kubernetes.io/pod-name"] == ["inside"]


def test_identities_are_held_to_their_rights(cluster: Cluster, api: Api) -> None:
    token = api.service_account_token("default")
    stranger = cluster.as_user(token, api.namespace)
    with pytest.raises(ApiError) as refused:
        stranger.items("Pod")
    assert refused.value.status == 403 and f"system:serviceaccount:{api.namespace}:default" in refused.value.message


def test_kubectl_applies_by_client_and_by_server_side(cluster: Cluster, api: Api) -> None:
    kubectl = cluster.kubectl(api.namespace)
    body: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it"}, "data": {"a": "1"}}
    assert "created" in kubectl.apply(body)
    assert "serverside-applied" in kubectl.apply({**body, "data": {"b": "2"}}, server_side=True)
    # kubectl hands its client-side fields over to the server side, so what the second file lacks is gone.
    assert api.apply({**body, "data": {"c": "3"}})["data"] == {"b": "2", "c": "3"}


def test_a_deployment_is_filled_by_the_controllers(api: Api) -> None:
    api.create(pods.deployment("web", 3, pods.pod("web")))
    done = api.wait("Deployment", "web", lambda it: it["status"].get("readyReplicas") == 3, version="apps/v1")
    assert done["status"]["replicas"] == 3


@pytest.fixture
def before(api: Api) -> dict[str, Json]:
    """A running pod on each node."""
    pods.create_all(api, [pods.pod(f"old-{x}", node=f"node-{x}") for x in "ab"])
    return pods.wait_all(api, ["old-a", "old-b"])


@pytest.mark.parametrize("process", ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"])
def test_the_control_plane_heals_after_kill_9(
    cluster: Cluster, api: Api, before: dict[str, Json], process: str
) -> None:
    cluster.processes[process].kill9()
    cluster.processes[process].restart()
    assert_all_is_well(api, before)


@pytest.mark.parametrize("process", ["kubelet", "containerd"])
def test_a_node_heals_after_kill_9(cluster: Cluster, api: Api, before: dict[str, Json], process: str) -> None:
    for node in cluster.nodes.values():
        getattr(node, process).kill9()
        getattr(node, process).restart()
    assert_all_is_well(api, before)


def assert_all_is_well(api: Api, before: dict[str, Json]) -> None:
    """New pods start on both nodes, and the old containers were neither ended nor started again."""
    pods.create_all(api, [pods.pod(f"new-{x}", node=f"node-{x}") for x in "ab"])
    pods.wait_all(api, ["new-a", "new-b"], timeout_s=90)
    after = pods.wait_all(api, list(before))
    for name, pod in before.items():
        assert container_id(after[name]) == container_id(pod)


def container_id(pod: Json) -> str:
    return str(pod["status"]["containerStatuses"][0]["containerID"])


def test_each_node_has_a_network_namespace_of_its_own(cluster: Cluster) -> None:
    processes = [process.pid for node in cluster.nodes.values() for process in (node.kubelet, node.containerd)]
    namespaces = [Path(f"/proc/{pid}/ns/net").readlink() for pid in (*processes, "self")]
    assert namespaces[0] == namespaces[1] and namespaces[2] == namespaces[3] and len(set(namespaces)) == 3


@pytest.fixture
def greeter(api: Api) -> tuple[str, int]:
    """Where a pod on node-a says hello to whoever connects."""
    script = "while :; do echo hello | nc -l -p 7000; done"
    api.create(pods.pod("greeter", pods.container(command=["sh", "-c", script]), node="node-a"))
    return api.wait("Pod", "greeter", pods.running)["status"]["podIP"], 7000


def _greets(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=1) as client:
        return client.recv(16) == b"hello\n"
    return False


def test_pods_of_two_nodes_reach_each_other(api: Api, greeter: tuple[str, int]) -> None:
    wait_until("the pod to listen", lambda: _greets(greeter))
    script = f"nc -w 5 {greeter[0]} {greeter[1]} | grep hello && exec report"
    api.create(pods.pod("caller", pods.container(command=["sh", "-c", script]), node="node-b"))
    api.wait("Pod", "caller", pods.running)
    pods.report(api, "caller")


def test_a_link_that_is_cut_lets_nothing_through(cluster: Cluster, greeter: tuple[str, int]) -> None:
    wait_until("the pod to listen", lambda: _greets(greeter))
    with cluster.nodes["node-a"].link.cut():
        assert not _greets(greeter)
    wait_until("the pod to be reached again", lambda: _greets(greeter))


def test_a_burst_of_30_pods(api: Api) -> None:
    names = [f"burst-{number}" for number in range(30)]
    created, running = pods.burst(api, [pods.pod(name) for name in names])
    began = time.monotonic()
    pods.delete_all(api, names)
    deleted = time.monotonic() - began
    print(f"30 pods: created in {created:.1f} s, Running after {running:.1f} s, gone {deleted:.1f} s later")


def test_the_kubelets_sockets_are_reached_from_the_host(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        for path in (node.kubelet_socket, node.pod_resources_socket, node.containerd_socket):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))


@pytest.fixture
def stub(cluster: Cluster) -> Iterator[StubPlugin]:
    node = cluster.nodes["node-a"]
    plugin = StubPlugin(node.device_plugin_dir, node.cdi_dir)
    plugin.start()
    yield plugin
    plugin.stop()


@pytest.mark.usefixtures("stub")
def test_a_device_plugin_on_the_host_hands_out_cdi_devices(cluster: Cluster, api: Api) -> None:
    slots = lambda node: node["status"].get("allocatable", {}).get("stub.tessera.io/slot") == "64"  # noqa: E731
    api.wait("Node", "node-a", slots)
    names = [f"slot-{number}" for number in range(10)]
    one_slot = pods.container(limits={"stub.tessera.io/slot": 1})
    pods.burst(api, [pods.pod(name, one_slot) for name in names])
    seen = {pods.report(api, name).env["STUB_SLOT"] for name in names}
    assert len(seen) == 10


@pytest.fixture
def dead_extender(cluster: Cluster) -> Iterator[None]:
    """A scheduler whose extender does not answer."""
    client = cluster.authority.issue("kube-scheduler-as-client")
    (port,) = free_ports(1)
    cluster.scheduler.use(Extender(f"https://127.0.0.1:{port}", cluster.authority.cert, client))
    yield
    cluster.scheduler.use(None)


@pytest.mark.usefixtures("dead_extender")
def test_only_pods_with_managed_resources_meet_the_extender(api: Api) -> None:
    api.create(pods.pod("plain"), pods.pod("slice", pods.container(limits={"tessera.io/gpu-mem": "4Gi"})))
    api.wait("Pod", "plain", pods.running)
    refused = wait_until("slice refused", lambda: [e["message"] for e in api.events("slice")])
    assert "/filter" in str(refused) and "connection refused" in str(refused)


def test_a_failed_start_raises_and_leaves_nothing() -> None:
    failing = Cluster([NodeSpec("node-a", labels={"kubernetes.io/not-allowed": "x"})])
    with pytest.raises(NotReady, match="kubelet-node-a ended"):
        failing.start()
    assert_nothing_left(failing)


def test_a_stopped_cluster_leaves_nothing() -> None:
    spare = Cluster([NodeSpec("spare", taints=["tessera.io/gpu=:NoSchedule"])]).start()
    taints = spare.api.get("Node", "spare")["spec"]["taints"]
    tolerant = {"tolerations": [{"operator": "Exists"}]}
    spare.api.create(pods.pod("one", **tolerant))
    spare.api.wait("Pod", "one", pods.running)
    spare.stop()
    assert any(taint["key"] == "tessera.io/gpu" for taint in taints)
    assert_nothing_left(spare)


def assert_nothing_left(gone: Cluster) -> None:
    name = gone.directory.name
    assert not gone.directory.exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{name}*"))
    assert name not in Path("/proc/self/mounts").read_text()
    assert f"10.{gone.block.number}." not in ip("-4", "addr") + ip("route")
    assert gone.block.device(0) not in ip("link")
    for process in marked_by_name(name):
        pytest.fail(f"still running: {process}")


def marked_by_name(name: str) -> Iterator[str]:
    """Command lines of living processes that name the cluster's folder."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if name in (command := file.read_text(errors="replace")):
                yield command.replace("\0", " ")
