"""Containers get the shim, or do not start; and their turns follow who has work."""

import os
import struct
from pathlib import Path

import grpc
import pytest

from tessera.node_agent.enforcement.demand import works_until
from tessera.node_agent.enforcement.pacing import ALWAYS, FREE, PERIOD_US, Turn, encode
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


IDLE = Turn(0, PERIOD_US // 20)


def turns(folder: Path) -> tuple[int, list[Turn]]:
    """Whether any GPU is had in turns, and the turns of the first two."""
    words = struct.unpack_from("<5Q", (folder / "pace").read_bytes())
    assert words[0] == 0x3245434150534554
    found = [Turn(word >> 24 & 0xFFFFFF, word & 0xFFFFFF) for word in words[3:]]
    assert [encode(turn) for turn in found] == list(words[3:])
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
    assert turns(found["/run/tessera"]) == (1, [IDLE, IDLE])
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


async def test_turns_follow_the_work_and_go_with_the_slice_that_asked_for_compute(host) -> None:
    """Of a process that is not there nobody can ask what it does: it has work, as far as anybody knows."""
    asks = mounts(await host.prepare(host.slice("a", core=30)))["/run/tessera"]
    free = mounts(await host.prepare(host.slice("b", pod=OTHER)))["/run/tessera"]
    await until(lambda: turns(free) == (1, [IDLE, FREE]))
    gpu = host.machine.uuids[0]
    host.processes.start(NOBODY, host.slice().pod_uid, "ab" * 32)
    host.machine.state.add_process(NOBODY, gpu, GIB)
    host.machine.write()
    await until(lambda: turns(asks) == (1, [Turn(0, 30_000), FREE]))
    host.processes.start(NOBODY + 1, OTHER, "cd" * 32)
    host.machine.state.add_process(NOBODY + 1, gpu, GIB)
    host.machine.write()
    await until(lambda: turns(free)[1][0] == Turn(30_000, 70_000))
    host.machine.state.remove_process(NOBODY)
    host.machine.write()
    await until(lambda: turns(free)[1][0] == ALWAYS and turns(asks)[1][0] == IDLE)
    await host.stub.Release(agent_pb2.ReleaseRequest(id="a"))
    await until(lambda: turns(free) == (0, [FREE, FREE]))


NOBODY = 1 << 22
"""More than any process id."""


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """Stands for /proc, with one process whose root is a folder."""
    (tmp_path / "7" / "root" / "run" / "tessera-usage").mkdir(parents=True)
    return tmp_path


def ledger(container: Path) -> Path:
    return container / "7" / "root" / "run" / "tessera-usage" / "ledger"


def test_what_a_container_says_of_its_work(container) -> None:
    words = list(range(1, 17))
    ledger(container).write_bytes(struct.pack("<QQ16Q", 0x3153524553534554, 1, *words).ljust(4096, b"\0"))
    assert works_until(7, container) == words
    assert works_until(8, container) is None


@pytest.mark.parametrize("content", [b"", b"x" * 143, b"y" * 4096])
def test_noise_says_nothing(container, content) -> None:
    ledger(container).write_bytes(content)
    assert works_until(7, container) is None


@pytest.mark.parametrize("link", ["ledger", "folder", "fifo", "directory"])
def test_nothing_is_followed_out_of_the_container_or_waited_for(container, tmp_path, link) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "ledger").write_bytes(struct.pack("<QQ16Q", 0x3153524553534554, 1, *range(16)))
    file = ledger(container)
    if link == "ledger":
        file.symlink_to(outside / "ledger")
    elif link == "folder":
        file.parent.rmdir()
        file.parent.symlink_to(outside)
    elif link == "fifo":
        os.mkfifo(file)
    else:
        file.mkdir()
    assert works_until(7, container) is None


async def test_a_restart_leaves_the_page_that_programs_have_mapped(machine, tmp_path, shim) -> None:
    async with Host(machine, tmp_path, shim=str(shim)) as host:
        folder = mounts(await host.prepare(host.slice(core=30)))["/run/tessera"]
        before = (folder / "pace").stat().st_ino
    async with Host(machine, tmp_path, shim=str(shim)):
        assert (folder / "pace").stat().st_ino == before


async def test_switched_off_nobody_goes_on_waiting(machine, tmp_path, shim) -> None:
    async with Host(machine, tmp_path, shim=str(shim), pace_every_s=600) as host:
        folder = mounts(await host.prepare(host.slice(core=30)))["/run/tessera"]
        assert turns(folder) == (1, [IDLE, FREE])
    async with Host(machine, tmp_path):
        assert turns(folder) == (0, [FREE, FREE])


async def test_a_preload_file_that_a_crash_left_out_is_written_again(machine, tmp_path, shim) -> None:
    async with Host(machine, tmp_path, shim=str(shim)) as host:
        found = mounts(await host.prepare(host.slice("a")))["/etc/ld.so.preload"]
        for content in (None, b"", b"/else"):
            found.unlink()
            if content is not None:
                found.write_bytes(content)
            await host.prepare(host.slice("a"))
            assert found.read_text() == "/usr/local/lib/tessera/libtessera.so\n"
