"""What the watcher sees of a GPU, and the level that follows."""

from tessera.node_agent.enforcement.detect import BLIND_READS, Sight, finding_of
from tessera.node_agent.enforcement.port import Finding
from tessera.node_agent.nvml import Device

MIG = Device("MIG-a", 0, "H100 MIG 1g.10gb", 1 << 33, 0, 16, "9.0", 0, (), parent="GPU-a")
GPU = Device("GPU-a", 0, "H100", 1 << 36, 0, 132, "9.0", 0, ())


def level(sight: Sight, *, allow: bool = False) -> int:
    return finding_of(GPU, Finding(1, "MPS"), sight, wsl=False, allow_unwatched=allow).level


def seen(sight: Sight, *looks: bool | None) -> Sight:
    for blind in looks:
        sight = sight.after(blind)
    return sight


def failed(sight: Sight, times: int) -> Sight:
    for _ in range(times):
        sight = sight.failed("timeout")
    return sight


def test_looks_that_fail_in_a_row_lower_the_level_and_as_many_good_ones_raise_it():
    assert level(failed(Sight(), BLIND_READS - 1)) == 1
    unread = failed(Sight(), BLIND_READS)
    assert level(unread) == -1
    assert level(seen(unread, *[None] * (BLIND_READS - 1))) == -1
    assert level(seen(unread, *[None] * BLIND_READS)) == 1


def test_a_good_look_in_between_begins_the_count_anew():
    sight = Sight()
    for _ in range(10):
        sight = failed(sight, BLIND_READS - 1).after(None)
    assert level(sight) == 1


def test_no_processes_say_nothing_of_bytes_that_are_not_told():
    untold = seen(Sight(), *[True] * BLIND_READS)
    assert level(seen(untold, *[None] * 10)) == -1
    assert level(seen(untold, *[False] * BLIND_READS)) == 1


def test_the_operator_may_allow_either():
    assert level(failed(Sight(), BLIND_READS), allow=True) == 0
    assert level(seen(Sight(), *[True] * BLIND_READS), allow=True) == 0


def test_a_mig_device_takes_no_slices_whatever_works_and_is_allowed():
    for sight in (Sight(), failed(Sight(), BLIND_READS)):
        found = finding_of(MIG, Finding(3, "limits"), sight, wsl=False, allow_unwatched=True)
        assert found == Finding(-1, "a MIG device: given out whole only")
