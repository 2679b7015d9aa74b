"""The /dev/shm of an MPS group, with mounts in a mount namespace that is the host's."""

import subprocess
import sys

import pytest

from tessera.node_agent.enforcement import shm_mounting
from tessera.node_agent.enforcement.mps_control import MpsError
from tessera.node_agent.enforcement.mps_reasons import SHM_REPLACED, SHM_SHARED
from tessera.node_agent.enforcement.port import EnforcementError, Mount
from tessera.node_agent.enforcement.shm_mounts import HostMounts
from tessera.node_agent.enforcement.shm_sizes import OwnShm
from tests.integration.node_agent.shm_host import MIB, ShmHost, end
from tests.integration.node_agent.test_mps import GPU, uid_of

A, B = "a" * 64, "b" * 64
OTHER = "another /dev/shm"

pytestmark = pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0, reason="needs root"
)


@pytest.fixture
def host(tmp_path):
    host = ShmHost(tmp_path)
    yield host
    host.close()


async def test_the_daemon_has_the_tmpfs_of_its_group_that_containers_get(host):
    assert (await host.limiter.detect(GPU)).level == 1
    device = host.mounts.device(host.path)
    assert host.fake.state["shm"] == device == host.seen.stat().st_dev
    assert device not in (host.own_device("/dev/shm"), host.own_device(host.path))
    options = ("rw", "nosuid", "nodev", "noexec", "bind")
    assert Mount(str(host.path), "/dev/shm", options) in (await host.admit("a")).mounts
    (line,) = host.mounted()
    assert {"nosuid", "nodev", "noexec"} <= set(line.split()[5].split(","))
    assert (host.seen.stat().st_mode & 0o7777, host.mounts.size(host.path)) == (0o1777, MIB)


async def test_where_nothing_can_be_mounted_there_is_no_level_1(host):
    host.mounts = HostMounts(host.folder)
    host.start()
    found = await host.limiter.detect(GPU)
    assert found.level == 0
    assert "the group's /dev/shm" in found.evidence
    with pytest.raises(MpsError):
        await host.limiter._groups[(GPU,)].control.servers()


def test_what_the_right_is_lacking_for_is_said(host):
    command = [sys.executable, "-m", shm_mounting.__name__, "mount", f"/proc/{host.init.pid}", str(host.path), "4096"]
    bare = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"]
    done = subprocess.run([*bare, *command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (shm_mounting.FAILED, "setns: Operation not permitted\n")
    assert host.mounted() == []


async def test_it_grows_by_the_pods_own_volumes_and_never_below_what_is_used(host):
    await host.limiter.detect(GPU)
    host.own[uid_of("a")] = OwnShm(uid_of("a"), "v", 4 * MIB)
    await host.admit("a")
    assert host.mounts.size(host.path) == 5 * MIB
    await host.admit("b")
    assert host.mounts.size(host.path) == 5 * MIB
    host.hold("data", A, size=3 * MIB)
    await host.release("a")
    assert host.mounts.size(host.path) == host.mounts.used(host.path) >= 3 * MIB
    end(host.holders[0])
    await host.look()
    assert host.mounts.size(host.path) == MIB


async def test_a_pod_that_is_known_later_is_given_its_room_then(host):
    await host.limiter.detect(GPU)
    await host.admit("a")
    host.own[uid_of("a")] = OwnShm(uid_of("a"), "v", 4 * MIB)
    await host.look()
    assert host.mounts.size(host.path) == 5 * MIB


async def test_each_container_is_told_once_and_not_again_after_a_restart(host):
    await host.limiter.detect(GPU)
    host.own[uid_of("b")] = OwnShm(uid_of("b"), "v", 4 * MIB)
    await host.admit("a")
    await host.admit("b")
    told = {incident.slices: incident for incident in await host.look()}
    assert told[("a",)].reason == SHM_SHARED
    assert told[("b",)].reason == SHM_REPLACED
    assert "larger by 4Mi" in told[("b",)].text
    assert await host.look() == ()
    host.start()
    await host.limiter.detect(GPU)
    await host.limiter.prepare(host.slices[0])
    assert await host.look() == ()


async def test_files_of_ended_containers_go_and_nothing_that_a_process_has(host):
    await host.limiter.detect(GPU)
    await host.admit("a")
    await host.admit("b")
    ended = [host.hold(f"a-{how}", A, how) for how in ("open", "mapped")]
    host.hold("b-open", B, "open")
    host.hold("b-mapped", B, "mapped")
    host.hold("b-closed", B, "closed")
    await host.look()
    for holder in ended:
        end(holder)
    await host.release("a")
    assert {path.name for path in host.seen.iterdir()} == {"b-open", "b-mapped", "b-closed"}
    for holder in host.holders[2:]:
        end(holder)
    await host.release("b")
    assert list(host.seen.iterdir()) == []


async def test_what_the_daemon_made_before_the_first_slice_stays(host):
    await host.limiter.detect(GPU)
    (host.seen / "daemons").touch()
    await host.look()
    await host.admit("a")
    (host.seen / "others").touch()
    await host.release("a")
    assert [path.name for path in host.seen.iterdir()] == ["daemons"]


async def test_nothing_goes_where_a_process_cannot_be_read(host):
    await host.limiter.detect(GPU)
    await host.admit("a")
    (host.seen / "file").touch()
    (host.proc / "7" / "maps").mkdir(parents=True)
    await host.release("a")
    assert [path.name for path in host.seen.iterdir()] == ["file"]
    (host.proc / "7" / "maps").rmdir()
    (host.proc / "7").rmdir()
    await host.look()
    assert list(host.seen.iterdir()) == []


async def test_a_link_in_the_place_of_a_folder_leads_nowhere(host):
    await host.limiter.detect(GPU)
    await host.admit("a")
    outside = host.folder / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (host.seen / "link").symlink_to(outside)
    await host.release("a")
    assert (list(host.seen.iterdir()), (outside / "kept").exists()) == ([], True)


async def test_a_restart_finds_the_mount_and_does_not_mount_twice(host):
    await host.limiter.detect(GPU)
    await host.admit("a")
    device = host.mounts.device(host.path)
    host.start()
    await host.limiter.prepare(host.slices[0])
    assert (await host.limiter.detect(GPU)).level == 1
    assert (len(host.mounted()), host.mounts.device(host.path)) == (1, device)


async def test_a_crash_before_the_record_or_the_daemon_leaves_one_mount(host):
    host.mounts.mount(host.path, MIB)
    assert (await host.limiter.detect(GPU)).level == 1
    await host.limiter._groups[(GPU,)].control.quit()
    host.start()
    assert (await host.limiter.detect(GPU)).level == 1
    assert len(host.mounted()) == 1


async def test_a_daemon_with_another_one_admits_nobody_and_is_started_anew_when_it_is_free(host):
    await host.limiter.detect(GPU)
    await host.admit("a")
    host.mounts.unmount(host.path)
    assert OTHER in (await host.limiter.detect(GPU)).evidence
    with pytest.raises(EnforcementError, match=OTHER):
        await host.admit("b")
    host.slices.clear()
    assert (await host.limiter.detect(GPU)).level == 1
    assert host.fake.state["shm"] == host.mounts.device(host.path)


async def test_it_goes_with_the_daemon_and_stays_with_a_slice(host):
    await host.limiter.detect(GPU)
    await host.admit("a")
    await host.limiter.close()
    assert len(host.mounted()) == 1
    await host.release("a")
    await host.limiter.close()
    assert host.mounted() == []
