"""Containers get the shim, or do not start; and what their launches cost follows what they do."""

import struct
import time
from pathlib import Path

import grpc
import pytest

from tessera.node_agent.enforcement.pacing import FIRST, FREE, encode
from tessera.node_agent.nvml import DriverNvml, Work
from tessera.pb.agent.v1 import agent_pb2
from tests.integration.node_agent.test_service import GIB, Host, until
from tests.native.conftest import shim

__all__ = ["shim"]

OTHER = "99999999-2222-3333-4444-555555555555"


@pytest.fixture
async def host(machine, tmp_path, shim):
    async with Host(machine, tmp_path, shim=str(shim), pace_every_s=0.02) as host:
        yield host


def mounts(reply) -> dict[str, Path]:
    return {mount.container_path: Path(mount.host_path) for mount in reply.mounts}


def prices(folder: Path) -> tuple[int, list[int]]:
    """Whether any GPU has a price, and the prices of the first two."""
    words = struct.unpack_from("<5Q", (folder / "pace").read_bytes())
    assert words[0] == 0x3145434150534554
    found = [word & (1 << 48) - 1 for word in words[3:]]
    assert [encode(price) for price in found] == list(words[3:])
    return words[2], found


@pytest.fixture
async def unhurried(machine, tmp_path, shim):
    async with Host(machine, tmp_path, shim=str(shim), pace_every_s=600) as host:
        yield host


async def test_a_container_gets_library_preload_file_limits_and_an_empty_ledger(unhurried, shim) -> None:
    host, reply = unhurried, await unhurried.prepare(unhurried.slice(core=30, gpus=(0, 1)))
    found = mounts(reply)
    assert found["/usr/local/lib/tessera/libtessera.so"].read_bytes() == shim.read_bytes()
    assert found["/etc/ld.so.preload"].read_text() == "/usr/local/lib/tessera/libtessera.so\n"
    ledger = next(mount for mount in reply.mounts if mount.container_path == "/run/tessera-usage")
    assert (ledger.type, "size=64k" in ledger.options, "noexec" in ledger.options) == ("tmpfs", True, True)
    text = (found["/run/tessera"] / "limits").read_text()
    first, second = host.machine.uuids[:2]
    assert text.startswith(f"tessera 1\ngpu {first} {4 * GIB} 30\ngpu {second} {4 * GIB} 30\nend 2 ")
    assert prices(found["/run/tessera"]) == (1, [FIRST, FIRST])
    for mount in reply.mounts:
        assert mount.container_path == "/run/tessera-usage" or "ro" in mount.options


async def test_whole_gpus_get_none(host) -> None:
    item = host.slice(mem=host.machine.state.gpus[0].total_bytes // 2)
    item.shares[0].whole = True
    assert "/etc/ld.so.preload" not in mounts(await host.prepare(item))


async def test_without_the_setting_there_is_none(machine, tmp_path) -> None:
    async with Host(machine, tmp_path) as host:
        assert "/etc/ld.so.preload" not in mounts(await host.prepare(host.slice()))


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "cannot be installed"), (b"no library", "cannot be preloaded"), (b"", "cannot be preloaded")],
)
async def test_a_shim_that_cannot_be_preloaded_stops_the_container(machine, tmp_path, shim, content, text) -> None:
    library = tmp_path / "libtessera.so"
    if content is not None:
        library.write_bytes(content)
    async with Host(machine, tmp_path, shim=str(library)) as host:
        code, found = await host.refused(host.slice())
        assert code is grpc.StatusCode.UNAVAILABLE
        assert text in found
        assert not list(host.service.store), "nothing is held for a container that does not start"
        library.write_bytes(shim.read_bytes())
        assert "/etc/ld.so.preload" in mounts(await host.prepare(host.slice()))


async def test_prices_follow_the_work_and_go_with_the_slice_that_asked_for_compute(host) -> None:
    asks = mounts(await host.prepare(host.slice("a", core=30)))["/run/tessera"]
    free = mounts(await host.prepare(host.slice("b", pod=OTHER)))["/run/tessera"]
    host.processes.start(10, host.slice().pod_uid, "ab" * 32)
    host.machine.state.add_process(10, host.machine.uuids[0], GIB, work_percent=60)
    host.machine.write()
    await until(lambda: prices(asks)[1][0] > 2 * FIRST)
    assert prices(asks)[0] == 1
    await until(lambda: prices(free)[1][0] not in (FREE, FIRST))
    host.machine.state.add_process(10, host.machine.uuids[0], GIB, work_percent=10)
    host.machine.write()
    high = prices(asks)[1][0]
    await until(lambda: prices(asks)[1][0] < high / 2)
    await host.stub.Release(agent_pb2.ReleaseRequest(id="a"))
    await until(lambda: prices(free) == (0, [FREE, FREE]))


async def test_a_gpu_that_cannot_tell_is_not_paced(host) -> None:
    host.machine.state.fail_function("nvmlDeviceGetProcessUtilization", 3)
    host.machine.write()
    folder = mounts(await host.prepare(host.slice(core=30)))["/run/tessera"]
    await until(lambda: prices(folder) == (0, [FREE, FREE]))
    host.machine.count_anew()
    await until(lambda: prices(folder)[0] == 1)


async def test_a_gpu_that_fails_for_now_keeps_its_prices(host) -> None:
    host.machine.state.fail_function("nvmlDeviceGetProcessUtilization", 10)
    host.machine.write()
    folder = mounts(await host.prepare(host.slice(core=30)))["/run/tessera"]
    calls = host.machine.calls
    await until(lambda: host.machine.calls > calls + 50)
    assert prices(folder) == (1, [FIRST, FREE])


async def test_a_restart_leaves_the_page_that_programs_have_mapped(machine, tmp_path, shim) -> None:
    async with Host(machine, tmp_path, shim=str(shim)) as host:
        folder = mounts(await host.prepare(host.slice(core=30)))["/run/tessera"]
        before = (folder / "pace").stat().st_ino
    async with Host(machine, tmp_path, shim=str(shim)):
        assert (folder / "pace").stat().st_ino == before


async def test_switched_off_nobody_goes_on_paying(machine, tmp_path, shim) -> None:
    async with Host(machine, tmp_path, shim=str(shim), pace_every_s=600) as host:
        folder = mounts(await host.prepare(host.slice(core=30)))["/run/tessera"]
        assert prices(folder) == (1, [FIRST, FREE])
    async with Host(machine, tmp_path):
        assert prices(folder) == (0, [FREE, FREE])


async def test_a_preload_file_that_a_crash_left_out_is_written_again(machine, tmp_path, shim) -> None:
    async with Host(machine, tmp_path, shim=str(shim)) as host:
        found = mounts(await host.prepare(host.slice("a")))["/etc/ld.so.preload"]
        for content in (None, b"", b"/else"):
            found.unlink()
            if content is not None:
                found.write_bytes(content)
            await host.prepare(host.slice("a"))
            assert found.read_text() == "/usr/local/lib/tessera/libtessera.so\n"


def test_nvml_tells_what_each_process_did(machine) -> None:
    nvml = DriverNvml()
    nvml.open()
    nvml.read()
    first, second = machine.uuids[:2]
    now = time.time_ns() // 1000
    assert nvml.work(first, now) is None
    machine.state.add_process(7, first, GIB, work_percent=30)
    machine.state.add_process(8, first, GIB, work_percent=45)
    machine.state.add_process(7, second, GIB, work_percent=5)
    machine.write()
    assert set(nvml.work(first, now + 500_000)) == {Work(7, 30), Work(8, 45)}
    assert nvml.work(second, now + 500_000) == (Work(7, 5),)
    machine.state.add_process(7, first, GIB, work_percent=900)
    machine.write()
    assert nvml.work(first, now + 500_000) == (Work(8, 45),), "noise is passed over"
    nvml.close()
