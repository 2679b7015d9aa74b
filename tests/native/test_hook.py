"""The hook that a runtime runs on the host, as it is built, over a folder that stands for the kernel's files."""

import platform
from dataclasses import dataclass

import pytest

from tests.integration.node_agent.hook import DmemHost, run
from tests.native.conftest import module

A, B = "GPU-a", "GPU-b"


@dataclass
class Hook:
    path: str
    args: tuple[str, ...]


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    return module("build").build_hook(tmp_path_factory.mktemp("hook"), platform.machine())


@pytest.fixture
def host(tmp_path):
    return DmemHost(tmp_path, [A, B])


@pytest.fixture
def hook(program, host, tmp_path):
    limits = [part for region, size in zip(host.regions, ("4096", "8192"), strict=True) for part in (region, size)]
    return Hook(str(program), ("tessera-dmem", str(host.proc), str(host.mount), str(tmp_path / "record"), *limits))


@pytest.fixture
def pod(host):
    pod = host.start_pod("11111111-2222-3333-4444-555555555555")
    for path in (*reversed(pod.relative_to(host.mount).parents), pod.relative_to(host.mount)):
        host.files.write(host.mount / path / "cgroup.subtree_control", "+dmem")
    return pod


def test_each_region_is_limited_and_the_cgroup_recorded(host, hook, pod, tmp_path):
    done, cgroup = host.start_container(hook, pod, "c0ffee", 4711)
    assert (done.returncode, done.stderr) == (0, "")
    assert (host.limit(cgroup, 0), host.limit(cgroup, 1)) == ("4096", "8192")
    assert (tmp_path / "record").read_text() == f"/{cgroup.relative_to(host.mount)}"


def test_the_process_is_that_of_the_state_itself(host, hook, pod):
    host.start_container(hook, pod, "c0ffee", 4711)
    state = '{"annotations":{"pid":"1","a":"\\"pid\\":2"},"x":[{"pid":3}],"bundle":"pid","pid" : 4711}'
    assert run(hook, state).returncode == 0


@pytest.mark.parametrize("state", ["", "{}", "[", '{"pid":0}', '{"pid":"4711"}', '{"a":{"pid":4711}}'])
def test_a_state_without_a_process_starts_nothing(hook, state):
    done = run(hook, state)
    assert (done.returncode, done.stderr) == (1, "tessera-dmem: no pid in the container's state\n")


@pytest.mark.parametrize("lines", ["4:memory:/kubepods/a\n", "0::/\n", "0::/../kubepods/a\n", ""])
def test_a_process_without_a_cgroup_of_its_own_in_version_2_starts_nothing(host, hook, lines):
    (host.proc / "4711").mkdir()
    (host.proc / "4711/cgroup").write_text(lines)
    done = run(hook, {"pid": 4711})
    assert (done.returncode, done.stderr) == (1, f"tessera-dmem: no cgroup of version 2 in {host.proc}/4711/cgroup\n")


def test_a_cgroup_without_the_controller_starts_nothing(host, hook, pod):
    host.files.disable(pod)
    done, cgroup = host.start_container(hook, pod, "c0ffee", 4711)
    assert done.returncode == 1
    assert done.stderr == f"tessera-dmem: cannot write {cgroup}/dmem.max: No such file or directory\n"


def test_a_limit_that_is_not_read_back_starts_nothing(host, hook, pod):
    pod.joinpath("c0ffee").mkdir()
    (pod / "c0ffee/dmem.max").symlink_to("/dev/null")
    (pod / "c0ffee/cgroup.subtree_control").touch()
    done, cgroup = host.start_container(hook, pod, "c0ffee", 4711)
    assert (done.returncode, done.stderr) == (1, f"tessera-dmem: the limit was not taken by {cgroup}/dmem.max\n")


def test_without_arguments_it_says_how_it_is_used(program):
    done = run(Hook(str(program), ("tessera-dmem",)), "")
    assert (done.returncode, done.stderr.startswith("tessera-dmem: usage:")) == (2, True)


def test_it_is_built_for_both_architectures(tmp_path):
    build = module("build")
    assert [build.build_hook(tmp_path, one).parent.name for one in build.ARCHITECTURES] == ["x86_64", "aarch64"]
