"""The plugin, the kubelet and the API server die at awkward moments."""

import asyncio
import time

import grpc

from tessera.model.assignment import Share
from tests.integration.device_plugin.host import GIB, Host, eventually, gpus

SHARE = Share("GPU-0", 4 * GIB)


async def test_a_plugin_that_dies_between_allocate_and_prestart_knows_the_name_again() -> None:
    async with Host() as host:
        host.agent.refuse = (grpc.StatusCode.UNAVAILABLE, "not yet")
        await host.place("web", {"main": SHARE})
        await eventually(lambda: "not yet" in host.waiting("web"), "PreStart was asked")
        given = [item.device for item in host.plugin.store.book]
        await host.replace_plugin()
        host.agent.refuse = None
        await host.running("web")
        assert [host.container("web").env["TESSERA_SLICE"]] == given


async def test_running_containers_outlive_the_plugin_and_are_released_by_the_next() -> None:
    async with Host() as host:
        await host.place("web", {"main": SHARE})
        await host.running("web")
        await host.plugin.stop()
        await host.delete("web")
        await eventually(lambda: host.phase("web") == "gone", "pod gone while the plugin is away")
        await host.start_plugin()
        await eventually(lambda: not len(host.plugin.store.book), "released")
        assert len(host.agent.released) == 1


async def test_spec_files_of_unknown_slices_are_swept_and_others_files_are_not() -> None:
    async with Host() as host:
        await host.plugin.stop()
        orphan = host.cdi / f"tessera.io-slice-slot-000-{'f' * 32}.json"
        half = host.cdi / f".tessera.io-slice-slot-000-{'f' * 32}.json.tmp"
        foreign = host.cdi / "vendor.json"
        for path in (orphan, half, foreign):
            path.write_text("{}")
        await host.start_plugin()
        assert not orphan.exists() and not half.exists() and foreign.exists()


async def test_an_unreadable_journal_entry_harms_its_own_slot_only() -> None:
    async with Host() as host:
        await host.plugin.stop()
        path = host.dir / "state" / "slices" / f"slot-009-{'e' * 32}.json"
        path.write_text('{"version":1,"dev')
        await host.start_plugin()
        assert str(path) in host.plugin.store.broken[path.stem]
        await host.place("web", {"main": SHARE})
        await host.running("web")


async def test_slices_whose_journal_entries_are_lost_are_released_and_their_slots_are_well_again() -> None:
    async with Host(gpus(2), reclaim_every_s=0.1) as host:
        await host.plugin.stop()
        lost = [f"slot-{n:03d}-{'e' * 32}" for n in range(128)]
        for device in lost:
            (host.dir / "state" / "slices" / f"{device}.json").write_text('{"version":1,"dev')
        await host.start_plugin()
        await host.place("web", {"main": SHARE})
        await host.running("web")
        await eventually(lambda: sorted(host.agent.released) == lost, "the agent forgets them")
        await eventually(lambda: not host.plugin.store.broken, "the journal forgets them")
        left = [path.name for path in (host.dir / "state" / "slices").iterdir()]
        assert left == [f"{host.container('web').env['TESSERA_SLICE']}.json"]


async def test_a_container_whose_journal_entry_is_lost_is_ended_for_its_controller_to_replace() -> None:
    async with Host() as host:
        await host.place("web", {"main": SHARE})
        await host.running("web")
        device = host.container("web").env["TESSERA_SLICE"]
        await host.plugin.stop()
        path = host.dir / "state" / "slices" / f"{device}.json"
        path.write_text("")
        await host.start_plugin()
        host.runtime.running[host.container("web").id].exit(1)
        await eventually(lambda: host.phase("web") == "gone", "pod ended")
        await eventually(lambda: any(str(path) in text for text in host.events("NotSynced")), "the file is named")
        assert len(host.runtime.started) == 1


async def test_a_restarted_kubelet_has_the_slots_again_at_once() -> None:
    async with Host() as host:
        await host.place("web", {"main": SHARE})
        await host.running("web")
        before = host.plugin.registration.registered
        await host.kubelet.stop()
        await host.kubelet.start()
        began = time.monotonic()
        await eventually(lambda: host.kubelet.table.healthy.get("tessera.io/slice"), "announced again")
        assert host.plugin.registration.registered == before + 1
        assert time.monotonic() - began < 1.0
        await host.place("next", {"main": Share("GPU-0", GIB)})
        await host.running("web", "next")
        assert len([c for c in host.runtime.started if c.pod["metadata"]["name"] == "web"]) == 1


async def test_capacity_that_a_kubelet_without_checkpoint_zeroed_comes_back() -> None:
    async with Host() as host:
        await host.kubelet.stop()
        (host.kubelet.settings.plugins / "kubelet_internal_checkpoint").unlink(missing_ok=True)
        await host.kubelet.start()
        await eventually(lambda: host.allocatable().get("tessera.io/gpu-mem") == str(80 * GIB), "capacity is back")


async def test_a_plugin_socket_that_is_deleted_is_made_again() -> None:
    async with Host() as host:
        path = host.kubelet.settings.plugins / "tessera.sock"
        before = host.plugin.registration.registered
        path.unlink()
        await eventually(lambda: host.plugin.registration.registered > before, "registered again")
        await eventually(lambda: host.kubelet.table.healthy.get("tessera.io/slice"), "announced")
        assert path.is_socket()
        await host.place("web", {"main": SHARE})
        await host.running("web")


async def test_an_api_server_that_fails_for_a_while_delays_and_loses_nothing() -> None:
    async with Host() as host:
        uid_count = 6
        for n in range(uid_count):
            await host.place(f"pod-{n}", {"main": Share("GPU-0", (n + 1) * GIB)})
            if n == 2:
                host.api.faults.drop_watches()
                host.api.faults.fail_next(5, 503, verb="get")
        await host.running(*(f"pod-{n}" for n in range(uid_count)))
        for n in range(uid_count):
            assert host.container(f"pod-{n}").env["TESSERA_MEM_LIMIT_BYTES"] == str((n + 1) * GIB)


async def test_plugin_and_kubelet_die_again_and_again_in_the_middle_of_thirty_creations() -> None:
    async with Host(gpus(2, 80)) as host:
        wanted = {f"pod-{n:02d}": Share(f"GPU-{n % 2}", (n // 2 + 1) * GIB // 4) for n in range(30)}

        async def create() -> None:
            for name, share in wanted.items():
                await host.place(name, {"main": share})
                await asyncio.sleep(0.02)

        creating = asyncio.create_task(create())
        for turn in range(4):
            await asyncio.sleep(0.15)
            await host.replace_plugin()
            if turn == 2:
                await host.kubelet.restart()
        await creating
        await eventually(
            lambda: all(host.phase(name) in ("Running", "Failed") for name in wanted), "every pod settled", 60
        )
        for container in host.runtime.started:
            share = wanted[container.pod["metadata"]["name"]]
            assert container.env["CUDA_VISIBLE_DEVICES"] == share.uuid
            assert container.env["TESSERA_MEM_LIMIT_BYTES"] == str(share.mem_bytes)
        failed = [name for name in wanted if host.phase(name) == "Failed"]
        assert {(host.pod(name) or {})["status"]["reason"] for name in failed} <= {"UnexpectedAdmissionError"}
        assert len({c.env["TESSERA_SLICE"] for c in host.runtime.started}) == len(host.runtime.started)
