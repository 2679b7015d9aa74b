"""Mounts of ours that something else lies on: by the text that the kernel gives, and of real processes."""

import os
import subprocess

import pytest

from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.covered import REASON, Covered, covered
from tessera.node_agent.kernel import HostKernel
from tessera.node_agent.processes import HostProcesses

PRELOAD = "/etc/ld.so.preload"
SHIM = "/var/lib/tessera/shim/0123456789abcdef"
AS_MOUNTED = [
    "10 1 0:50 / / rw - overlay overlay rw,lowerdir=/a",
    "11 10 0:51 / /proc rw - proc proc rw",
    f"12 10 8:1 {SHIM}/libtessera.so /usr/local/lib/tessera/libtessera.so ro - ext4 /d rw",
    f"13 10 8:1 {SHIM}/ld.so.preload {PRELOAD} ro - ext4 /d rw",
    "14 10 0:52 / /run/tessera-usage rw - tmpfs tmpfs rw,size=64k",
    "15 10 8:1 /var/lib/tessera/slices/a1 /run/tessera ro - ext4 /d rw",
]


def found(*lines: str) -> tuple[str, ...]:
    return covered("\n".join([*AS_MOUNTED, *lines, ""]), ["a1"])


def test_nothing_lies_on_what_the_agent_mounted():
    assert found() == ()


@pytest.mark.parametrize(
    ("line", "points"),
    [
        (f"20 13 8:1 /pods/u/file {PRELOAD} rw - ext4 /d rw", (PRELOAD,)),
        ("20 10 8:1 /pods/u/volume /etc rw - ext4 /d rw", (PRELOAD,)),
        ("20 10 0:60 / /run rw - tmpfs tmpfs rw", ("/run/tessera", "/run/tessera-usage")),
        ("20 14 0:60 / /run/tessera-usage rw - tmpfs tmpfs rw,size=64k", ("/run/tessera-usage",)),
        ("20 10 8:1 /x /run/tess rw - ext4 /d rw", ()),
        ("20 10 8:1 /x /etc/ld.so.preload.d rw - ext4 /d rw", ()),
        ("20 15 8:1 /x /run/tessera/own rw - ext4 /d rw", ()),
        ("20 10 8:1 /x /a\\040b rw - ext4 /d rw", ()),
    ],
)
def test_what_lies_on_it_or_on_a_folder_above_covers_it(line, points):
    assert found(line) == points


@pytest.mark.parametrize("point", ["/etc", PRELOAD])
def test_a_volume_that_was_there_before_ours_covers_nothing(point):
    lines = [line.replace("13 10", "13 20") for line in AS_MOUNTED]
    assert covered("\n".join([f"20 10 8:1 /pods/u/volume {point} rw - ext4 /d rw", *lines]), ["a1"]) == ()


def test_what_is_hidden_with_the_mount_that_it_is_in():
    lines = [line.replace("13 10", "19 20") for line in AS_MOUNTED]
    two = ["20 10 8:1 /v /etc rw - ext4 /d rw", "21 20 8:1 /w /etc rw - ext4 /d rw"]
    assert covered("\n".join([*lines, *two]), ["a1"]) == (PRELOAD,)


def test_another_slices_folder_and_lines_of_no_sense_are_not_ours():
    over = "20 15 8:1 /x /run/tessera rw - ext4 /d rw"
    assert covered("\n".join([*AS_MOUNTED, over, "nonsense", "a b c d e f - g"]), ["other"]) == ()


_COVER = """
set -e
mkdir -p "$1/shim/0123456789abcdef" "$1/over" && cd "$1" && touch over/file shim/0123456789abcdef/ld.so.preload target
mount --bind shim/0123456789abcdef/ld.so.preload target
[ "$2" ] && mount --bind over/file target
echo ready
exec cat
"""


@pytest.fixture(params=["yes", ""], ids=["covered", "not"])
def child(request, tmp_path):
    """A program with one of our files mounted, and perhaps another over it."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _COVER, "sh", str(tmp_path), request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None and started.stdin is not None
        assert started.stdout.readline() == b"ready\n"
        yield started, bool(request.param)
        started.stdin.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
async def test_of_a_real_process_it_is_told_once(child, tmp_path):
    started, over = child
    processes = HostProcesses()
    process = processes.look(started.pid)
    assert process is not None
    usages = [Usage(Container("pod", "c" * 64), "G0", 1, 2, (Client(process, 1),), ("a1",))]
    looks = Covered(lambda: usages, processes, HostKernel())
    told = [incident for _ in range(3) for incident in await looks.look()]
    assert [(one.reason, one.slices) for one in told] == ([(REASON, ("a1",))] if over else [])
    assert all(str(tmp_path / "target") in one.text for one in told)
    usages.clear()
    assert await looks.look() == ()
