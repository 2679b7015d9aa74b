"""One pod's way on its host: Allocate, PreStart, the CDI spec, the container, the end."""

import json
from pathlib import Path

from tessera.model.assignment import Share
from tests.integration.device_plugin.host import GIB, NODE, Host, eventually, gpus


async def test_a_container_sees_exactly_its_slice_and_its_spec_is_gone_once_it_was_created() -> None:
    async with Host() as host:
        await host.place("web", {"main": Share("GPU-1", 4 * GIB, 30)})
        await host.running("web")
        container = host.container("web")
        assert container.env["CUDA_VISIBLE_DEVICES"] == "GPU-1"
        assert container.env["TESSERA_MEM_LIMIT_BYTES"] == str(4 * GIB)
        assert container.env["TESSERA_CORE_LIMIT_PERCENT"] == "30"
        assert container.cdi_devices == (f"tessera.io/slice={container.env['TESSERA_SLICE']}",)
        held = host.agent.prepared[container.env["TESSERA_SLICE"]]
        assert (held.pod, held.container, held.shares[0].mem_bytes) == ("web", "main", 4 * GIB)
        mount = next(m for m in container.mounts if m["containerPath"] == "/run/tessera")
        info = json.loads((Path(mount["hostPath"]) / "slice.json").read_text())
        assert info["gpus"] == [{"uuid": "GPU-1", "mem_bytes": 4 * GIB, "core_percent": 30}]
        await eventually(lambda: not host.specs(), "one-shot spec removed")
        told = "container main: held at level 1 (an MPS server answers): GPU-1 4096 MiB 30%"
        await eventually(lambda: host.events("SlicePrepared") == [told], "event on the pod")


async def test_a_tenants_own_variable_loses_against_the_slice() -> None:
    async with Host() as host:
        share = Share("GPU-0", GIB)
        limits = {"tessera.io/gpu-mem": str(GIB), "tessera.io/slice": "1"}
        env = [{"name": "CUDA_VISIBLE_DEVICES", "value": "all"}, {"name": "MINE", "value": "1"}]
        spec = {"containers": [{"name": "main", "image": "b", "env": env, "resources": {"limits": limits}}]}
        await host.place("sly", {"main": share}, spec=spec)
        await host.running("sly")
        assert host.container("sly").env["CUDA_VISIBLE_DEVICES"] == "GPU-0"
        assert host.container("sly").env["MINE"] == "1"


async def test_two_containers_and_a_sidecar_of_one_pod_each_get_their_own() -> None:
    async with Host() as host:
        shares = {"a": Share("GPU-0", 2 * GIB), "b": Share("GPU-1", 3 * GIB, 50)}
        await host.place("pair", shares)
        await host.running("pair")
        assert host.container("pair", "a").env["CUDA_VISIBLE_DEVICES"] == "GPU-0"
        assert host.container("pair", "b").env["TESSERA_MEM_LIMIT_BYTES"] == str(3 * GIB)
        assert len(host.agent.prepared) == 2


async def test_a_pod_without_a_slice_never_meets_the_plugin() -> None:
    async with Host() as host:
        await host.place("plain", None, spec={"containers": [{"name": "main", "image": "b"}]})
        await host.running("plain")
        assert host.agent.prepares == 0 and not host.container("plain").cdi_devices


async def test_the_end_of_a_pod_releases_everything() -> None:
    async with Host() as host:
        await host.place("web", {"main": Share("GPU-0", 4 * GIB)})
        await host.running("web")
        device = host.container("web").env["TESSERA_SLICE"]
        await host.delete("web")
        await eventually(lambda: host.agent.released == [device], "agent released")
        await eventually(lambda: not len(host.plugin.store.book), "journal freed")
        assert not list((host.dir / "state" / "slices").iterdir())
        assert not list((host.dir / "state" / "info").iterdir())
        await eventually(lambda: host.events("SliceReleased"), "event")


async def test_a_restarted_container_is_prepared_again_under_the_same_name() -> None:
    async with Host() as host:
        await host.place("crashy", {"main": Share("GPU-0", 4 * GIB)})
        await host.running("crashy")
        first = host.container("crashy")
        host.runtime.running[first.id].exit(1)
        await eventually(lambda: host.container("crashy").id != first.id, "started again")
        again = host.container("crashy")
        assert again.env == first.env and again.start == 1
        assert host.agent.prepares == 2
        assert len(host.plugin.store.book) == 1


async def test_a_slot_that_is_used_again_has_a_new_name() -> None:
    async with Host() as host:
        seen: set[str] = set()
        for turn in range(6):
            name = f"pod-{turn}"
            share = Share(f"GPU-{turn % 2}", (turn + 1) * GIB)
            await host.place(name, {"main": share})
            await host.running(name)
            container = host.container(name)
            assert container.env["TESSERA_MEM_LIMIT_BYTES"] == str(share.mem_bytes)
            assert container.env["TESSERA_SLICE"] not in seen
            seen.add(container.env["TESSERA_SLICE"])
            await host.delete(name)
            await eventually(lambda name=name: host.phase(name) == "gone", "pod gone")  # type: ignore[misc]
        assert {device[:8] for device in seen} == {"slot-000"}


async def test_sixty_pods_at_once_each_see_their_own() -> None:
    async with Host(gpus(4, 80)) as host:
        wanted = {f"pod-{n:02d}": Share(f"GPU-{n % 4}", (n // 4 + 1) * GIB // 2, n % 4 + 1) for n in range(60)}
        for name, share in wanted.items():
            await host.place(name, {"main": share})
        await host.running(*wanted, deadline_s=60)
        for name, share in wanted.items():
            env = host.container(name).env
            got = (env["CUDA_VISIBLE_DEVICES"], env["TESSERA_MEM_LIMIT_BYTES"], env["TESSERA_CORE_LIMIT_PERCENT"])
            assert got == (share.uuid, str(share.mem_bytes), str(share.core_percent)), name
        assert len({host.container(name).env["TESSERA_SLICE"] for name in wanted}) == 60


async def test_the_node_and_its_gpunode_say_what_is_there() -> None:
    async with Host() as host:
        assert host.allocatable()["tessera.io/gpu-mem"] == str(80 * GIB)
        assert host.allocatable()["tessera.io/gpu-core"] == "200"
        assert host.allocatable()["tessera.io/gpu"] == "2"
        await eventually(lambda: host.allocatable().get("tessera.io/slice") == "128", "slots in the node's status")
        await host.place("web", {"main": Share("GPU-1", 4 * GIB)})
        await host.running("web")

        def allocated() -> object:
            node = host.api.store.get("gpunodes", "", NODE) or {}
            found = [gpu.get("allocatedBytes") for gpu in (node.get("status") or {}).get("gpus") or []]
            whys = [gpu.get("enforcementEvidence") for gpu in (node.get("status") or {}).get("gpus") or []]
            return found[-1:] == [4 * GIB] and whys == ["an MPS server answers"] * 2

        await eventually(allocated, "allocated bytes in GPUNode")
