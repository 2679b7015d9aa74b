"""Level 3 through the whole agent: its own hook is run for real, the kernel's files are a stand-in's."""

import platform
import time

import grpc
import pytest

from tessera.model.gpus import LEVEL_DRIVER, LEVEL_NONE, LEVEL_WATCH
from tessera.node_agent.detections import DETECT_S
from tessera.node_agent.enforcement.dmem_files import KernelCgroupFiles
from tessera.node_agent.enforcement.dmem_tree import DmemError, DmemTree
from tessera.node_agent.service import Service
from tessera.node_agent.settings import Enforcement, NodeAgentSettings
from tests.integration.node_agent.hook import GIB, PODS, DmemHost
from tests.integration.node_agent.test_service import POD, Host, until
from tests.native.conftest import module


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    return module("build").build_hook(tmp_path_factory.mktemp("hook"), platform.machine())


class DriverHost(Host):
    """A host with level 3, unless ``fake`` takes something of it away. ``incidents``: what was told, by reason."""

    def __init__(self, machine, tmp_path, program, *, fake=None, **settings):
        self.kernel = DmemHost(tmp_path / "kernel", machine.uuids, **(fake or {}))
        given = {"enforcement": "driver", "hook": str(program), "proc_root": self.kernel.proc}
        super().__init__(machine, tmp_path, cgroup_mount=self.kernel.mount, **{**given, **settings})
        self.start_anew()

    def start_anew(self):
        clock = lambda: time.monotonic() + self.later_s  # noqa: E731
        self.service = Service(self.settings, processes=self.processes, cgroup_files=self.kernel.files, clock=clock)
        self.incidents = []
        tell = self.service._announcer.incident
        self.service._announcer.incident = lambda one, store: (self.incidents.append(one.reason), tell(one, store))

    async def restart(self, **settings):
        await self.service.stop()
        self.settings = self.settings.model_copy(update=settings)
        self.start_anew()
        await self.service.start()

    @property
    def levels(self):
        return [gpu.level for gpu in self.service.gpus.now.values()]

    def evidence(self):
        return self.service.gpus.finding(self.machine.uuids[0]).evidence


@pytest.fixture
async def host(machine, tmp_path, program):
    async with DriverHost(machine, tmp_path, program) as host:
        yield host


async def test_a_container_is_held_by_its_cgroup_and_the_pod_by_the_sum(host):
    assert host.levels == [LEVEL_DRIVER] * 3
    pod = host.kernel.start_pod(POD)
    first = await host.prepare(host.slice("a", gpus=(0, 1), container="a"))
    assert (first.level, host.kernel.limit(pod), host.kernel.limit(pod, 1)) == (3, str(4 * GIB), str(4 * GIB))
    second = await host.prepare(host.slice("b", container="b", mem=2 * GIB))
    assert (host.kernel.limit(pod), host.kernel.limit(pod, 1), host.kernel.limit(pod, 2)) == (
        str(6 * GIB), str(4 * GIB), "max",
    )  # fmt: skip
    started = [host.kernel.start_container(r.hooks[0], pod, n, p) for r, n, p in ((first, "a", 41), (second, "b", 42))]
    assert [done.returncode for done, _ in started] == [0, 0]
    (_, a), (_, b) = started
    assert [host.kernel.limit(cgroup) for cgroup in (a, b)] == [str(4 * GIB), str(2 * GIB)]
    assert host.kernel.files.use(b, host.kernel.regions[0], 2 * GIB)
    assert not host.kernel.files.use(b, host.kernel.regions[0], 1)
    assert not host.kernel.files.use(pod, host.kernel.regions[0], 4 * GIB + 1)


async def test_the_same_slice_again_answers_the_same_and_release_takes_the_limits_away(host):
    pod, item = host.kernel.start_pod(POD), host.slice()
    assert await host.prepare(item) == await host.prepare(item)
    for _ in range(2):
        await host.service.preparation.release(item.id)
        assert host.kernel.limit(pod) == "max"
    assert host.service.limiter._keepers.get(item.id) is None


async def test_a_pod_without_a_cgroup_is_asked_for_again(host):
    code, text = await host.refused(host.slice())
    assert (code, "no cgroup of pod" in text) == (grpc.StatusCode.UNAVAILABLE, True)


async def test_limits_that_somebody_changed_are_set_again(host):
    pod = host.kernel.start_pod(POD)
    reply = await host.prepare(host.slice())
    _, cgroup = host.kernel.start_container(reply.hooks[0], pod, "c", 41)
    for path in (pod, cgroup):
        host.incidents.clear()
        host.kernel.files.write(path / "dmem.max", f"{host.kernel.regions[0]} max\n")
        await until(lambda: "DriverLimitChanged" in host.incidents)
        assert host.kernel.limit(path) == str(4 * GIB)


async def test_a_controller_that_was_lost_is_enabled_again_with_the_limits(host):
    pod = host.kernel.start_pod(POD)
    reply = await host.prepare(host.slice())
    _, cgroup = host.kernel.start_container(reply.hooks[0], pod, "c", 41)
    host.kernel.files.disable(host.kernel.mount / PODS)
    await until(lambda: "DriverLimitChanged" in host.incidents)
    assert [host.kernel.limit(path) for path in (pod, cgroup)] == [str(4 * GIB)] * 2


async def test_while_limits_cannot_be_set_nobody_is_admitted(host):
    pod = host.kernel.start_pod(POD)
    await host.prepare(host.slice())
    host.kernel.files.stuck.add(pod)
    host.kernel.files.disable(host.kernel.mount / PODS)
    await until(lambda: host.levels[0] == LEVEL_NONE)
    assert "DriverLimitsLost" in host.incidents and "limits of slices there are lost" in host.evidence()
    code, text = await host.refused(host.slice("b", pod="99999999-2222-3333-4444-555555555555"))
    assert (code, "reaches enforcement level -1" in text) == (grpc.StatusCode.UNAVAILABLE, True)
    host.kernel.files.stuck.clear()
    await until(lambda: host.levels[0] == LEVEL_DRIVER)
    assert "DriverLimitsSet" in host.incidents


async def test_an_agent_that_starts_again_looks_after_the_same_limits(host):
    pod = host.kernel.start_pod(POD)
    reply = await host.prepare(host.slice())
    _, cgroup = host.kernel.start_container(reply.hooks[0], pod, "c", 41)
    await host.service.stop()
    for path in (pod, cgroup):
        host.kernel.files.write(path / "dmem.max", f"{host.kernel.regions[0]} max\n")
    host.start_anew()
    await host.service.start()
    await until(lambda: [host.kernel.limit(path) for path in (pod, cgroup)] == [str(4 * GIB)] * 2)


async def test_records_that_no_slice_has_any_more_go(host):
    records = host.settings.state_dir / "driver/cgroups"
    pod = host.kernel.start_pod(POD)
    reply = await host.prepare(host.slice("held"))
    host.kernel.start_container(reply.hooks[0], pod, "c", 41)
    for name in ("gone", "gone.tmp"):
        (records / name).write_text("/kubepods/burstable/podx/c")
    await until(lambda: [path.name for path in records.iterdir()] == ["held"])


async def test_where_the_level_is_no_longer_asked_for_its_slices_keep_it(host):
    pod = host.kernel.start_pod(POD)
    reply = await host.prepare(host.slice("a", min_level=3))
    _, cgroup = host.kernel.start_container(reply.hooks[0], pod, "c", 41)
    await host.restart(enforcement=Enforcement.AUTO)
    assert host.levels == [LEVEL_WATCH] * 3
    for path in (pod, cgroup):
        host.kernel.files.write(path / "dmem.max", f"{host.kernel.regions[0]} max\n")
    await until(lambda: [host.kernel.limit(path) for path in (pod, cgroup)] == [str(4 * GIB)] * 2)
    assert (await host.prepare(host.slice("a", min_level=3))).hooks == reply.hooks
    assert (await host.prepare(host.slice("b", pod="99999999-2222-3333-4444-555555555555"))).level == LEVEL_WATCH
    await host.service.preparation.release("a")
    assert host.kernel.limit(pod) == "max"


async def test_limits_that_are_lost_count_as_long_as_a_slice_has_them_whatever_is_asked_for(host):
    pod = host.kernel.start_pod(POD)
    await host.prepare(host.slice("a"))
    await host.restart(enforcement=Enforcement.AUTO)
    host.kernel.files.stuck.add(pod)
    host.kernel.files.disable(host.kernel.mount / PODS)
    await until(lambda: host.levels == [LEVEL_NONE, LEVEL_WATCH, LEVEL_WATCH])
    assert "DriverLimitsLost" in host.incidents and "limits of slices there are lost" in host.evidence()
    code, text = await host.refused(host.slice("b", pod="99999999-2222-3333-4444-555555555555"))
    assert (code, "reaches enforcement level -1" in text) == (grpc.StatusCode.UNAVAILABLE, True)
    host.kernel.files.stuck.clear()
    await until(lambda: host.levels == [LEVEL_WATCH] * 3)
    assert (await host.prepare(host.slice("b", pod="99999999-2222-3333-4444-555555555555"))).level == LEVEL_WATCH


async def test_a_gpu_rises_once_the_slices_that_are_only_watched_have_ended(host):
    await host.restart(enforcement=Enforcement.AUTO)
    await host.prepare(host.slice("a", gpus=(0,)))
    await host.restart(enforcement=Enforcement.DRIVER)
    assert host.levels == [LEVEL_WATCH, LEVEL_DRIVER, LEVEL_DRIVER]
    assert "not level 3: slices lie on GPU" in host.evidence() and "held at level 0" in host.evidence()
    await host.service.preparation.release("a")
    host.later_s += DETECT_S
    await until(lambda: host.levels == [LEVEL_DRIVER] * 3)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"fake": {"controllers": "cpu memory"}}, "the kernel has no cgroup controller dmem"),
        ({"hook": ""}, "no hook is set"),
        ({"hook": "/absent"}, "the hook tessera-dmem cannot be used"),
        ({"hook": "/bin/true"}, "does not run: exit status 0"),
        ({"cgroup_root": "/elsewhere"}, "no cgroups of pods (kubepods) below"),
    ],
)
async def test_a_condition_that_fails_leaves_the_gpu_watched(machine, tmp_path, program, change, why):
    async with DriverHost(machine, tmp_path, program, **change) as host:
        assert host.levels == [LEVEL_WATCH] * 3
        assert "not level 3: " in host.evidence() and why in host.evidence()
        assert (await host.prepare(host.slice())).level == LEVEL_WATCH


async def test_a_gpu_that_the_kernel_does_not_count_is_watched(machine, tmp_path, program):
    host = DriverHost(machine, tmp_path, program)
    (host.kernel.mount / "dmem.capacity").write_text(f"{host.kernel.regions[1]} {80 * GIB}\n")
    async with host:
        assert host.levels == [LEVEL_WATCH, LEVEL_DRIVER, LEVEL_WATCH]
        assert "dmem.capacity does not list nvidia/0000:01:00.0/vidmem" in host.evidence()


async def test_a_kernel_that_does_not_take_limits_is_seen_on_a_scratch_cgroup(machine, tmp_path, program):
    host = DriverHost(machine, tmp_path, program)
    host.kernel.files.stuck.add(host.kernel.mount / "kubepods/tessera-trial")
    async with host:
        assert host.levels == [LEVEL_WATCH] * 3
        assert not (host.kernel.mount / "kubepods/tessera-trial").exists()


async def test_a_gpu_in_mig_mode_takes_no_slices(machine, tmp_path, program):
    machine.state.change(machine.uuids[0], mig=True)
    machine.write()
    async with DriverHost(machine, tmp_path, program) as host:
        assert host.levels == [LEVEL_NONE, LEVEL_DRIVER, LEVEL_DRIVER]


def test_cgroup_v1_has_none_of_it(tmp_path):
    (tmp_path / "memory/kubepods").mkdir(parents=True)
    with pytest.raises(DmemError, match="is not cgroup v2 alone: it has no"):
        DmemTree(KernelCgroupFiles(), tmp_path).check("nvidia/0000:01:00.0/vidmem")


def test_the_pod_of_a_systemd_driver_is_found(tmp_path):
    pod = tmp_path / "kubepods.slice/kubepods-burstable.slice" / f"kubepods-burstable-pod{POD.replace('-', '_')}.slice"
    pod.mkdir(parents=True)
    tree = DmemTree(KernelCgroupFiles(), tmp_path)
    assert (tree.pod(POD), tree.pod("99999999-2222-3333-4444-555555555555")) == (pod, None)


def test_leases_have_no_runtime_that_runs_the_hook(tmp_path):
    with pytest.raises(ValueError, match="enforcement: found driver with lease_socket; allowed with it: auto"):
        NodeAgentSettings(node="a", enforcement="driver", lease_socket=tmp_path / "lease.sock")
