"""Equal values are one object, and values that only compare equal are not mixed up."""

from tessera.model import sharing
from tessera.model.charges import Totals
from tessera.model.hosts import HostNeed


def test_equal_values_are_one_object() -> None:
    first = sharing.same(Totals(1 << 40, 100))
    assert sharing.same(Totals(1 << 40, 100)) is first
    assert sharing.text("".join(["gpu-", "1"])) is sharing.text("".join(["gpu", "-1"]))


def test_a_value_keeps_its_type() -> None:
    assert isinstance(sharing.same(HostNeed(1, 2)), HostNeed)
    assert sharing.same(1) is not sharing.same(True)
