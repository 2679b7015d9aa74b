"""The record of prepared slices, through crashes."""

import json
from dataclasses import replace

import pytest

from tessera.model.assignment import Share
from tessera.model.gpus import Gpu, Health
from tessera.node_agent.slices import Slice, SliceStore, check
from tessera.reasons import Code
from tests.fakes.disk import FlakyDisk, PowerCut

GIB = 1 << 30
GPUS = {"G0": Gpu("G0", "T4", 10 * GIB, 16 * GIB), "G1": Gpu("G1", "T4", 10 * GIB, 16 * GIB, level=-1)}


def item(name="a", mem=GIB, gpu="G0", core=0, whole=False, pod="", **more) -> Slice:
    return Slice(name, pod or f"pod-{name}", "ns", name, "main", (Share(gpu, mem, core, whole),), **more)


def test_slices_are_there_again_after_a_crash(tmp_path):
    first = SliceStore(tmp_path)
    first.put(item("a"))
    first.put(item("b", core=30, whole=True))
    again = SliceStore(tmp_path)
    assert set(again) == {item("a"), item("b", core=30, whole=True)}
    assert json.loads((again.folder("a") / "slice.json").read_text())["gpus"] == [
        {"uuid": "G0", "mem_bytes": GIB, "core_percent": 0}
    ]


def test_what_a_crash_left_half_done_is_put_right(tmp_path):
    store = SliceStore(tmp_path)
    store.put(item("a"))
    (tmp_path / "slices" / "ghost").mkdir()
    (tmp_path / "slices" / "a" / "slice.json").unlink()
    (tmp_path / "prepared" / ".b.json.tmp").write_text('{"ver')
    again = SliceStore(tmp_path)
    assert [s.id for s in again] == ["a"]
    assert sorted(p.name for p in (tmp_path / "slices").iterdir()) == ["a"]
    assert (again.folder("a") / "slice.json").is_file()


@pytest.mark.parametrize("lose_unflushed", [False, True])
def test_power_is_cut_at_every_step_and_no_slice_is_half_there(tmp_path, lose_unflushed):
    """Before ``put`` or ``drop`` returns a slice is there whole or not at all; after it, as was said."""
    for number in range(100):
        folder, disk = tmp_path / str(number), FlakyDisk()
        store = SliceStore(folder, disk)
        store.put(item("a"))
        disk.crash_in, reached = number, []
        try:
            store.put(item("b", mem=2 * GIB))
            reached.append("b put")
            store.drop("a")
            reached.append("a dropped")
        except PowerCut:
            pass
        finished = disk.crash_in is None or disk.crash_in > 0
        disk.power_up(lose_unflushed=lose_unflushed)
        again = SliceStore(folder)
        found = {s.id: s for s in again}
        assert found.get("b") in ((item("b", mem=2 * GIB),) if "b put" in reached else (None, item("b", mem=2 * GIB)))
        assert found.get("a") in ((None,) if "a dropped" in reached else (None, item("a")))
        assert "a" in found or "b put" in reached, "a slice that nobody dropped is there"
        for one in again:
            shown = json.loads((again.folder(one.id) / "slice.json").read_text())["gpus"]
            assert [gpu["mem_bytes"] for gpu in shown] == [share.mem_bytes for share in one.shares]
        assert not list(folder.rglob("*.tmp")), "nothing half written is left"
        if finished and "a dropped" in reached:
            assert number > 6
            return
    pytest.fail("it never ran to its end")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}', '{"version": 1, "id": "a"}'])
def test_a_broken_record_is_set_aside(tmp_path, content):
    store = SliceStore(tmp_path)
    store.put(item("a"))
    (tmp_path / "prepared" / "a.json").write_text(content)
    assert list(SliceStore(tmp_path)) == []
    assert (tmp_path / "prepared" / "a.broken").read_text() == content


def test_drop_leaves_nothing_and_may_be_repeated(tmp_path):
    store = SliceStore(tmp_path)
    store.put(item("a"))
    store.drop("a")
    store.drop("a")
    assert [p for folder in ("slices", "prepared") for p in (tmp_path / folder).iterdir()] == []


def test_limits_can_be_read_by_any_user_and_records_cannot(tmp_path):
    store = SliceStore(tmp_path)
    store.put(item("a"))
    assert (store.folder("a") / "slice.json").stat().st_mode & 0o777 == 0o444
    assert (tmp_path / "prepared" / "a.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("wanted", "others", "code", "permanent"),
    [
        (item(gpu="G9"), [], Code.GPU_GONE, True),
        (item(gpu="G1"), [], Code.ENFORCEMENT_TOO_WEAK, False),
        (item(min_level=3), [], Code.ENFORCEMENT_TOO_WEAK, True),
        (item(mem=11 * GIB), [], Code.TOO_LARGE, True),
        (item(mem=6 * GIB), [item("b", mem=5 * GIB)], Code.OVER_COMMITTED, False),
        (item(core=60), [item("b", core=50)], Code.OVER_COMMITTED, False),
        (item(whole=True), [item("b")], Code.OVER_COMMITTED, False),
        (item(), [item("b", whole=True)], Code.OVER_COMMITTED, False),
        (item(name="A/.."), [], Code.INVALID_ASSIGNMENT, True),
    ],
)
def test_refusals(wanted, others, code, permanent):
    refusal = check(wanted, GPUS, others)
    assert refusal is not None
    assert (refusal.reason.code, refusal.permanent) == (code, permanent)


def test_what_fits_is_not_refused():
    assert check(item(mem=5 * GIB, core=50), GPUS, [item("b", mem=5 * GIB, core=50)]) is None
    assert check(item(gpu="G1", whole=True), GPUS, []) is None


def test_the_same_container_under_another_id_does_not_stand_in_its_own_way():
    assert check(item("a2", mem=8 * GIB, pod="pod-a"), GPUS, [item("a", mem=8 * GIB)]) is None


def test_an_unhealthy_gpu_is_refused_with_its_reason():
    sick = {"G0": Gpu("G0", "T4", 10 * GIB, 16 * GIB, health=Health(False, "Xid 79"))}
    refusal = check(item(), sick, [])
    assert refusal is not None and refusal.reason.text == "GPU G0 is unhealthy: Xid 79"


GROUPED = {uuid: Gpu(uuid, "T4", 10 * GIB, 16 * GIB, mps_group=group) for uuid, group in
           (("G0", "g"), ("G1", "g"), ("G2", ""))}  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "other", "refused"),
    [
        (item("a", domain="x"), item("b", domain="y"), True),
        (item("a", domain="x", gpu="G1"), item("b", domain="y"), True),
        (item("a", domain="x", gpu="G2"), item("b", domain="y"), False),
        (item("a", domain="x"), item("b", domain="x"), False),
        (item("a", domain="x"), item("b"), False),
        (item("a"), item("b", domain="y"), False),
        (item("a", domain="x", gpu="G1", whole=True), item("b", domain="y"), False),
    ],
)
def test_another_trust_domain_on_the_gpu_or_its_group_stands_in_the_way(wanted, other, refused):
    found = check(wanted, GROUPED, [other])
    assert (found is not None) is refused
    if found:
        assert (found.reason.code, found.permanent) == (Code.OTHER_DOMAIN, False)
        assert "another trust domain" in found.reason.text and "ns/b" in found.reason.text


@pytest.mark.parametrize(
    ("uuids", "level", "min_level", "whole", "refused"),
    [
        (("G0", "G1"), 1, 1, False, False),
        (("G0", "G2"), 1, 1, False, True),
        (("G0", "G2"), 1, 0, False, False),
        (("G0", "G2"), 1, 1, True, False),
        (("G0", "G2"), 3, 1, False, False),
        (("G0", "G1"), 2, 1, False, True),
    ],
)
def test_a_slice_over_gpus_of_no_one_group_is_refused_if_it_has_to_be_held(uuids, level, min_level, whole, refused):
    gpus = {uuid: replace(gpu, level=level) for uuid, gpu in GROUPED.items()}
    shares = tuple(Share(uuid, GIB, 0, whole) for uuid in uuids)
    found = check(replace(item(min_level=min_level), shares=shares), gpus, [])
    assert (found is not None) is refused
    if found:
        assert (found.reason.code, found.permanent) == (Code.ENFORCEMENT_TOO_WEAK, True)
        assert "of no one MPS group, is held at level 0; needs 1" in found.reason.text


def test_a_record_tells_its_domain_and_one_without_reads_as_before_there_were_any(tmp_path):
    store = SliceStore(tmp_path)
    store.put(item("a", domain="x"))
    store.put(item("b"))
    assert set(SliceStore(tmp_path)) == {item("a", domain="x"), item("b")}
    assert "domain" not in json.loads((tmp_path / "prepared" / "b.json").read_text())
