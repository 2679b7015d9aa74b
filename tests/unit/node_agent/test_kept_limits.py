"""Files of slices that are no longer what the agent wrote."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tessera.model.assignment import Share
from tessera.node_agent.conditions import Findings
from tessera.node_agent.kept_limits import REASON, KeptLimits
from tessera.node_agent.slices import Slice, SliceStore

GIB = 1 << 30
NAMES = ("slice.json", "limits")


def slice_of(name: str) -> Slice:
    return Slice(name, f"uid-{name}", "ns", "p", "main", (Share("GPU-a", GIB), Share("GPU-b", GIB)))


@pytest.fixture
def store(tmp_path: Path) -> SliceStore:
    made = SliceStore(tmp_path)
    for name in ("a", "b"):
        made.put(slice_of(name))
    return made


def contents(store: SliceStore) -> dict[str, bytes]:
    return {name: (store.folder("a") / name).read_bytes() for name in NAMES}


def halved(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def longer(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\n")


def noise(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(random.Random(1).randbytes(4096))


def a_link_to_the_same(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [Path.unlink, halved, longer, noise, a_link_to_the_same, a_pipe])
def test_what_was_changed_is_written_again_and_told_once(store: SliceStore, name: str, damage: Callable[[Path], None]):
    kept, before = KeptLimits(store), contents(store)
    assert kept.look() == Findings()
    damage(store.folder("a") / name)
    found = kept.look()
    (told,) = found.new
    assert found.stands == (told,)
    assert (told.reason, told.slices, told.gpu_uuid, told.also) == (REASON, ("a",), "GPU-a", ("GPU-b",))
    assert f"ns/p, container main: {name} of its slice" in told.text
    assert (contents(store), kept.look()) == (before, Findings())
    assert not (store.folder("a") / name).is_symlink()


def test_a_page_that_programs_have_mapped_is_left_as_it_is(store: SliceStore):
    page = store.folder("a") / "pace"
    before = page.stat().st_ino
    noise(store.folder("a") / "limits")
    KeptLimits(store).look()
    assert page.stat().st_ino == before


def test_what_cannot_be_mended_is_told_once_stands_and_is_tried_again(store: SliceStore):
    kept, path = KeptLimits(store), store.folder("a") / "limits"
    path.unlink()
    path.mkdir()
    (told,) = kept.look().new
    assert "cannot be written again: Is a directory; programs with the shim that start get no memory" in told.text
    assert kept.look() == Findings(stands=(told,))
    path.rmdir()
    assert ["have been written again" in one.text for one in kept.look().new] == [True]
    assert kept.look() == Findings()
