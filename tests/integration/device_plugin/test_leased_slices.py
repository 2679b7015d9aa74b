"""One pod's way on a host without GPUs: the lease is attached to this start of the container, then it starts."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tessera.device_plugin.client_side import NotAClientNodeError
from tessera.kube.convert import gpu_lease_object
from tessera.kube.resources import GPU_LEASES, NODES, untyped
from tessera.model.assignment import Share
from tessera.model.gpu_leases import Client, GpuLease, lease_name, server_name
from tests.integration.device_plugin.client_host import CA, IMAGE, SLICE, ClientHost
from tests.integration.device_plugin.host import GIB, NODE, Host, eventually, gpus


async def test_a_container_gets_the_client_and_the_address_of_its_executor_and_no_credential() -> None:
    async with ClientHost() as host:
        await host.place_leased("web")
        await host.running("web")
        container, lease = host.container("web"), host.lease("web")
        assert host.read("web") == {
            "endpoint": "10.0.0.1:7000",
            "epoch": 1,
            "server_name": f"{lease['metadata']['uid']}.pool.tessera.io",
            "lease": f"default/{lease['metadata']['name']}",
            "container": "main",
        }
        assert (host.lease_dir(container) / "ca.crt").read_text() == CA
        assert lease["spec"]["attach"] == {"device": container.env["TESSERA_SLICE"], "after": ""}
        ours = {name: value for name, value in container.env.items() if name.startswith(("TESSERA_", "PYTHONPATH"))}
        assert ours == {
            "PYTHONPATH": "/opt/tessera-client/hook",
            "TESSERA_ALIAS_CUDA": "1",
            "TESSERA_LEASE_DIR": "/run/tessera/lease",
            "TESSERA_REMOTE_HOME": "/opt/tessera-client/tessera",
            "TESSERA_SLICE": container.cdi_devices[0].partition("=")[2],
        }
        told = f"container main: slice on node gpu-node, GPULease default/{lease['metadata']['name']}, epoch 1"
        await eventually(lambda: host.events("SlicePrepared") == [told], "event on the pod")
        await eventually(lambda: not host.specs(), "one-shot spec removed")


async def test_the_mounted_client_is_whole_and_needs_nothing_of_the_image() -> None:
    async with ClientHost() as host:
        await host.place_leased("web")
        await host.running("web")
        mount = next(m for m in host.container("web").mounts if m["containerPath"] == "/opt/tessera-client")
        assert "ro" in mount["options"]
        root = Path(mount["hostPath"])
        code = "import tessera_remote_hook, tessera.remote.protocol.greeting, sys; print(tessera_remote_hook.__file__)"
        paths = f"{root / 'hook'}:{root}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", code, env={"PYTHONPATH": paths}, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert out.decode().strip() == str(root / "hook" / "tessera_remote_hook.py")


async def test_the_images_own_python_path_is_kept_and_the_pods_counts_more() -> None:
    async with ClientHost() as host:
        host.images.images[IMAGE] = ["PATH=/bin", "PYTHONPATH=/image/lib"]
        await host.place_leased("image")
        await host.place_leased("pod", env=[{"name": "PYTHONPATH", "value": "/mine:/too"}])
        await host.place_leased("empty", env=[{"name": "PYTHONPATH"}], envFrom=[{"configMapRef": {"name": "c"}}])
        await host.running("image", "pod", "empty")
        assert host.container("image").env["PYTHONPATH"] == "/opt/tessera-client/hook:/image/lib"
        assert host.container("pod").env["PYTHONPATH"] == "/opt/tessera-client/hook:/mine:/too"
        assert host.container("empty").env["PYTHONPATH"] == "/opt/tessera-client/hook"


async def test_an_image_that_cannot_be_asked_holds_up_its_pods_but_for_those_that_say_it_themselves() -> None:
    async with ClientHost() as host:
        await host.images.stop()
        await host.place_leased("image")
        await eventually(lambda: "container runtime" in host.waiting("image"), "it waits")
        assert host.phase("image") == "Pending" and "attach" not in host.lease("image")["spec"]


async def test_without_the_runtimes_socket_the_pod_must_say_its_python_path() -> None:
    async with ClientHost(cri_socket="") as host:
        await host.place_leased("image")
        await host.place_leased("pod", env=[{"name": "PYTHONPATH", "value": "/mine"}])
        await host.running("pod")
        assert host.container("pod").env["PYTHONPATH"] == "/opt/tessera-client/hook:/mine"
        await eventually(lambda: "TESSERA_CRI_SOCKET" in host.waiting("image"), "said so")
        assert host.phase("image") == "Pending"


async def test_a_container_waits_for_its_executor_and_says_what_for() -> None:
    async with ClientHost() as host:
        host.controller = False
        await host.place_leased("web")
        await eventually(lambda: host.lease("web")["spec"].get("attach"), "attached")
        await host.say("web", phase="Reserved", message="the executor's image is being pulled")
        await eventually(lambda: "found it Reserved (the executor's image is being pulled)" in host.waiting("web"), "")
        await host.serve("web")
        await host.running("web")
        assert host.epoch("web") == 1


async def test_a_kubelet_that_repeats_itself_changes_nothing_and_a_restart_has_an_epoch_of_its_own() -> None:
    async with ClientHost() as host:
        host.reluctant.refusals = 3
        await host.place_leased("web")
        await host.running("web")
        first, attach = host.container("web"), host.lease("web")["spec"]["attach"]
        assert host.reluctant.refusals == 0 and host.epoch("web") == 1
        host.reluctant.refusals = 2
        host.runtime.running[first.id].exit(1)
        await eventually(lambda: host.container("web").id != first.id, "started again")
        again = host.lease("web")["spec"]["attach"]
        assert again == {"device": attach["device"], "after": first.id}
        assert host.epoch("web") == host.read("web")["epoch"] == 2


async def test_a_container_that_ends_before_its_status_was_heard_of_has_an_epoch_of_its_own_all_the_same() -> None:
    async with ClientHost() as host:
        await host.place_leased("web")
        await host.running("web")
        first = host.container("web")
        host.api.faults.fail_next(1000, 503, verb="patch", plural="pods")
        host.runtime.running[first.id].exit(1)
        await eventually(lambda: host.container("web").id != first.id, "started again")
        assert host.lease("web")["spec"]["attach"]["after"] == first.id
        assert host.read("web")["epoch"] == 2


async def test_what_the_container_reads_follows_its_lease_in_one_step_each_and_survives_the_plugin() -> None:
    async with ClientHost() as host:
        await host.place_leased("web")
        await host.running("web")
        folder = host.lease_dir(host.container("web"))
        inode = folder.stat().st_ino
        await host.say("web", phase="Lost", endpoint="", message="the executor is gone")
        await host.serve("web", "10.9.9.9:7000")
        await eventually(lambda: host.read("web")["endpoint"] == "10.9.9.9:7000", "the new executor is read")
        await host.plugin.stop()
        await host.serve("web", "10.8.8.8:7000")
        host.authority.write_text(CA.replace("tests", "later"))
        await host.start_plugin()
        await eventually(lambda: host.read("web")["endpoint"] == "10.8.8.8:7000", "after the plugin's restart")
        await eventually(lambda: "later" in (folder / "ca.crt").read_text(), "the new authority is read")
        assert folder.stat().st_ino == inode and host.read("web")["epoch"] == 3


@pytest.mark.parametrize(
    ("how", "said"), [("released", "was released"), ("deleted", "was deleted"), ("gone", "is gone")]
)
async def test_a_container_that_runs_reads_that_its_lease_is_over_and_nothing_takes_it_back(
    how: str, said: str
) -> None:
    async with ClientHost() as host:
        await host.place_leased("web")
        await host.running("web")
        before, lease = host.read("web"), host.lease("web")
        name, leases = lease["metadata"]["name"], untyped(GPU_LEASES)
        if how == "released":
            await host.say("web", phase="Released")
        else:
            kept = {"metadata": {"finalizers": ["pool.tessera.io/executor"] if how == "deleted" else None}}
            await host.gateway.merge_patch(leases, name, kept, namespace="default")
            await host.gateway.delete(GPU_LEASES, name, namespace="default")
        over = {**before, "over": f"GPULease default/{name} {said}"}
        await eventually(lambda: host.read("web") == over, "it reads so")
        if how == "deleted":
            await host.say("web", epoch=9, endpoint="10.9.9.9:7000")
        await host.plugin.stop()
        await host.start_plugin()
        await host.place_leased("next")
        await host.running("next")
        assert host.read("web") == over


@pytest.mark.parametrize("next_on", ["", NODE, "node-z"])
async def test_a_container_whose_pod_was_taken_off_a_standing_lease_reads_so_and_starts_no_more(next_on: str) -> None:
    """Whether or not another pod, here or elsewhere, uses it by then."""
    async with ClientHost() as host:
        await host.place_leased("web", standing=True)
        await host.running("web")
        before, lease, container = host.read("web"), host.lease("web"), host.container("web")
        name, next_pod = lease["metadata"]["name"], {"pod": "next", "podUID": "uid-next", "container": "main"}
        for client in [None, *([{**next_pod, "node": next_on}] if next_on else [])]:
            patch = {"spec": {"client": client, "attach": None}}
            await host.gateway.merge_patch(untyped(GPU_LEASES), name, patch, namespace="default")
        over = {**before, "over": f"GPULease default/{name} was taken off pod web"}
        await eventually(lambda: host.read("web") == over, "it reads so")
        host.runtime.running[container.id].exit(1)
        await eventually(lambda: host.phase("web") == "gone", "pod ended")
        found = "found it of pod next" if next_on else "found it used by no pod any more"
        await eventually(lambda: any(found in text for text in host.events("InvalidAssignment")), "said so")


async def test_a_lease_that_the_watch_has_not_told_of_is_not_over() -> None:
    async with ClientHost() as host:
        await host.place_leased("web")
        await host.running("web")
        await host.plugin.stop()
        host.api.faults.fail_next(1, 500, verb="list", plural="gpuleases")
        await host.start_plugin()
        await host.serve("web", "10.9.9.9:7000")
        await eventually(lambda: host.read("web")["endpoint"] == "10.9.9.9:7000", "the watch has told")
        assert "over" not in host.read("web")


async def test_another_lease_of_the_same_name_ends_what_runs_and_serves_the_next_start() -> None:
    async with ClientHost() as host:
        uid = await host.place_leased("web")
        await host.running("web")
        before, first = host.read("web"), host.container("web")
        lease = GpuLease(
            "default", lease_name("web", uid, "main"), "", Client("web", uid, "main", NODE), "gpu-node", SLICE
        )
        host.api.store.remove("gpuleases", "default", lease.name)
        await host.gateway.create(GPU_LEASES, gpu_lease_object(lease))
        over = {**before, "over": f"GPULease {lease.key} is gone, and another has its name"}
        await eventually(lambda: host.read("web") == over, "it reads so")
        host.runtime.running[first.id].exit(1)
        await eventually(lambda: host.container("web").id != first.id, "started again")
        after = host.read("web")
        assert after["server_name"] == server_name(host.lease("web")["metadata"]["uid"]) != before["server_name"]
        assert after["epoch"] == 1 and "over" not in after


async def test_the_end_of_a_pod_removes_its_folder_and_a_slot_is_free_again() -> None:
    async with ClientHost(client_slots=1) as host:
        for turn in range(2):
            name = f"pod-{turn}"
            await host.place_leased(name)
            await host.running(name)
            folder = host.lease_dir(host.container(name))
            await host.delete(name)
            await eventually(lambda folder=folder: not folder.exists(), "folder removed")  # type: ignore[misc]
            await eventually(lambda: not len(host.plugin.store.book), "journal freed")


@pytest.mark.parametrize(
    ("lease", "found"),
    [
        ({"pod_uid": "somebody"}, "found it of pod web with UID somebody, container main"),
        ({"container": "other"}, "container other"),
        ({"node": "node-z"}, "found it for node node-z; allowed: node-a"),
    ],
)
async def test_a_lease_of_somebody_else_ends_the_pod(lease: dict[str, str], found: str) -> None:
    async with ClientHost() as host:
        await host.place_leased("web", lease=lease)
        await eventually(lambda: host.phase("web") == "gone", "pod ended")
        await eventually(lambda: any(found in text for text in host.events("InvalidAssignment")), "said so")
        assert not host.runtime.started


async def test_a_lease_that_is_gone_or_released_ends_the_pod() -> None:
    async with ClientHost() as host:
        host.controller = False
        await host.place_leased("forged", release=True)
        await host.place_leased("late")
        await eventually(lambda: host.phase("forged") == "gone", "pod ended")
        await host.say("late", phase="Released")
        await eventually(lambda: host.phase("late") == "gone", "pod ended")
        texts = " ".join(host.events("InvalidAssignment"))
        assert "found none" in texts and "found it released" in texts and not host.runtime.started


@pytest.mark.parametrize(
    ("container", "found"),
    [
        ({"env": [{"name": "PYTHONPATH", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}, "valueFrom"),
        ({"env": [{"name": "PYTHONPATH", "value": "$(HOME)/lib"}]}, "'$(HOME)/lib'"),
        ({"envFrom": [{"configMapRef": {"name": "all"}}]}, "envFrom, which may set it"),
    ],
)
async def test_a_python_path_that_cannot_be_told_ends_the_pod(container: dict[str, object], found: str) -> None:
    async with ClientHost() as host:
        await host.place_leased("web", **container)
        await eventually(lambda: host.phase("web") == "gone", "pod ended")
        await eventually(lambda: any(found in text for text in host.events("InvalidRequest")), "said so")
        assert not host.runtime.started and "attach" not in json.dumps(host.api.store.list("gpuleases"))


async def test_without_the_pools_certificate_nothing_starts_until_it_is_there() -> None:
    async with ClientHost() as host:
        host.authority.unlink()
        await host.place_leased("web")
        await eventually(lambda: str(host.authority) in host.waiting("web"), "the file is named")
        host.authority.write_text("not yet")
        await eventually(lambda: "found no certificate" in host.waiting("web"), "its content is looked at")
        host.authority.write_text(CA)
        await host.running("web")


async def test_slices_of_gpus_and_of_leases_each_start_on_their_own_kind_of_node_only() -> None:
    async with ClientHost() as host:
        await host.place("local", {"main": Share("GPU-0", 4 * GIB)})
        await eventually(lambda: host.phase("local") == "gone", "pod ended")
        await eventually(lambda: "found GPUs GPU-0" in " ".join(host.events("GpuGone")), "said so")
    async with Host(gpus(1)) as host:
        text = '{"version":1,"containers":{"main":{"lease":"web-1"}}}'
        await host.place("web", {"main": Share("GPU-0", 4 * GIB)}, annotation=text)
        await eventually(lambda: host.phase("web") == "gone", "pod ended")
        await eventually(lambda: "found GPULease web-1" in " ".join(host.events("InvalidAssignment")), "said so")


async def test_a_node_with_gpus_is_no_client_node() -> None:
    async with ClientHost() as host:
        await host.stop_plugin()
        (host.proc / "driver/nvidia/gpus/0000:3b:00.0").mkdir(parents=True)
        with pytest.raises(NotAClientNodeError, match=r"found 4 beside 1 GPUs in .*; allowed: 0 on a node with GPUs"):
            await host.make_plugin().start()
        (host.proc / "driver/nvidia/gpus/0000:3b:00.0").rmdir()
        await host.start_plugin()


async def test_the_node_offers_its_slots_and_no_figures_of_gpus() -> None:
    async with ClientHost() as host:
        stale = {"tessera.io/gpu-mem": "0", "tessera.io/gpu": "0"}
        patch = {"status": {"capacity": stale, "allocatable": stale}}
        await host.gateway.merge_patch(untyped(NODES), NODE, patch, subresource="status")
        await eventually(lambda: set(host.allocatable()) & {*stale} == set(), "stale figures removed")
        await eventually(lambda: host.allocatable().get("tessera.io/slice") == "4", "slots in allocatable")
        await eventually(lambda: host.api.store.get("gpunodes", "", NODE), "published")
        status = (host.api.store.get("gpunodes", "", NODE) or {})["status"]
        assert (status["clientSlots"], status["gpuCount"], status["gpus"]) == (4, 0, [])
        await host.place_leased("web")
        await host.running("web")


async def test_fewer_slots_than_are_in_use_leave_those_in_use_healthy() -> None:
    async with ClientHost() as host:
        for name in ("a", "b", "c"):
            await host.place_leased(name)
            await host.running(name)
        await host.stop_plugin()
        host._extra["client_slots"] = 1
        await host.start_plugin()
        assert host.kubelet.table.healthy["tessera.io/slice"] == ["slot-000", "slot-001", "slot-002"]
        await eventually(
            lambda: (host.api.store.get("gpunodes", "", NODE) or {})["status"]["clientSlots"] == 1, "published"
        )


async def test_a_lease_that_is_changed_while_it_is_attached_is_read_again() -> None:
    async with ClientHost() as host:
        host.api.faults.fail_next(2, 409, verb="patch", plural="gpuleases")
        await host.place_leased("web")
        await host.running("web")
        assert host.epoch("web") == 1
        assert len(await host.gateway.list(GPU_LEASES)) == 1
