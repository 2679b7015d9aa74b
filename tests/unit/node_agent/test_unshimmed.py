"""Who is told of as running without the shim. The processes are this test's own children."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement.shim import NAME
from tessera.node_agent.kernel import HostKernel
from tessera.node_agent.processes import HostProcesses
from tessera.node_agent.unshimmed import REASON, ROUNDS, Unshimmed

MAIN = Container("pod", "aa")
WAIT = """
import mmap, sys
file = open(sys.argv[1], "rb")
mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print(flush=True)
sys.stdin.read()
"""
MOUNT = f"""
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir lower upper shim
mount -t tmpfs tmpfs lower
mount -t tmpfs tmpfs upper
mkdir -p lower/0123 upper/changed upper/work
echo library > lower/0123/{NAME}
mount -t overlay overlay -o lowerdir=lower,upperdir=upper/changed,workdir=upper/work shim
cd /
"""
OVERLAID = f"""
import mmap, os, sys
from pathlib import Path
from tessera.node_agent.preloaded import has_any, installed
folder = Path(sys.argv[1]) / "shim"
library = folder / "0123" / "{NAME}"
ours, maps = installed(folder), Path("/proc/self/maps")
stat = library.stat()
with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
    as_told = f"{{os.major(stat.st_dev):02x}}:{{os.minor(stat.st_dev):02x}} {{stat.st_ino}} "
    print(as_told not in maps.read_text(), has_any(maps.read_text(), ours))
print(has_any(maps.read_text(), ours))
"""
"""Whether stat tells something else than the mapping; whether it is found there, and when it is mapped no more."""


class Case:
    """A container with a process that has a file mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes, self.usages = folder / "shim", HostProcesses(), []
        self.library = self.folder / "0123" / NAME
        self.library.parent.mkdir(parents=True)
        shutil.copy(sys.executable, self.library)
        self.shimmed, self.children = {"a"}, []
        self.unshimmed = Unshimmed(
            self.folder, lambda: self.usages, self.shimmed.__contains__, self.processes, HostKernel()
        )

    def run(self, mapped: Path) -> None:
        child = subprocess.Popen(
            [sys.executable, "-c", WAIT, str(mapped)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        self.children.append(child)
        process = self.processes.look(child.pid)
        assert process is not None
        self.usages = [Usage(MAIN, "G0", 1, 2, (Client(process, 1),), ("a",))]

    async def looks(self, times: int = ROUNDS) -> list[str]:
        return [incident.reason for _ in range(times) for incident in await self.unshimmed.look()]


@pytest.fixture
def case(tmp_path):
    made = Case(tmp_path)
    yield made
    for child in made.children:
        child.communicate()


async def test_a_program_without_it_is_told_of_once(case, tmp_path):
    case.run(Path(__file__))
    assert await case.looks(1) == []
    assert await case.looks(4) == [REASON]
    assert case.unshimmed.count == 1


async def test_a_program_that_has_it_is_not(case):
    case.run(case.library)
    assert (await case.looks(3), case.unshimmed.count) == ([], 0)


async def test_a_library_of_the_same_name_is_not_ours(case, tmp_path):
    other = tmp_path / "else" / NAME
    other.parent.mkdir()
    shutil.copy(case.library, other)
    case.run(other)
    assert await case.looks() == [REASON]


async def test_an_older_one_is_still_ours(case):
    case.run(case.library)
    newer = case.folder / "4567" / NAME
    newer.parent.mkdir()
    shutil.copy(case.library, newer)
    assert await case.looks() == []


def test_a_file_system_that_tells_stat_another_device_than_a_mapping(tmp_path):
    """Overlays do, and btrfs: here an overlay over two tmpfs."""
    enter = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else []), "--"]
    done = subprocess.run([*enter, "sh", "-ec", MOUNT, "sh", tmp_path], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no overlay can be mounted here: {done.stderr.strip()}")
    program = [*enter, "sh", "-ec", f'{MOUNT}exec "$2" -c "$3" "$1"', "sh", tmp_path, sys.executable, OVERLAID]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.split() == ["True", "True", "False"]


async def test_slices_without_a_shim_and_processes_that_have_gone_are_not_spoken_of(case):
    case.run(Path(__file__))
    case.shimmed.clear()
    assert await case.looks() == []
    case.shimmed.add("a")
    case.children[0].communicate()
    assert await case.looks() == []


async def test_where_there_is_no_shim_nobody_is_without(case):
    case.run(Path(__file__))
    bare = Unshimmed(None, lambda: case.usages, lambda _: True, case.processes, HostKernel())
    assert [incident for _ in range(ROUNDS) for incident in await bare.look()] == []
