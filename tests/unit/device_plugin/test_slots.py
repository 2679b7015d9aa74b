"""Slots and the names that stand behind them."""

import pytest

from tessera.device_plugin.slots import (
    device_name,
    device_of_file,
    is_slot,
    number_of,
    only_slot,
    qualified,
    slot_names,
    slot_of,
    spec_file,
)

NONCE = "0123456789abcdef" * 2


def test_slots_are_numbered_through_the_node() -> None:
    names = slot_names(128)
    assert len(names) == len(set(names)) == 128
    assert (names[0], names[42], names[127]) == ("slot-000", "slot-042", "slot-127")


def test_slots_above_999_have_names_and_numbers_too() -> None:
    assert slot_names(1024)[-1] == "slot-1023"
    assert all(is_slot(name) for name in slot_names(1024))
    assert [number_of(name) for name in slot_names(1024)] == list(range(1024))


def test_the_device_name_carries_the_slot_and_the_nonce() -> None:
    device = device_name("slot-042", NONCE)
    assert device == f"slot-042-{NONCE}"
    assert slot_of(device) == "slot-042"
    assert qualified(device) == f"tessera.io/slice=slot-042-{NONCE}"


def test_the_spec_file_is_named_after_its_device_and_back() -> None:
    device = device_name("slot-007", NONCE)
    assert spec_file(device) == f"tessera.io-slice-{device}.json"
    assert device_of_file(spec_file(device)) == device


@pytest.mark.parametrize("name", ["nvidia.yaml", "tessera.io-slice-.json", "tessera.io-slice-slot-1.json", "x.json"])
def test_files_of_others_are_none_of_ours(name: str) -> None:
    assert device_of_file(name) is None


@pytest.mark.parametrize(("slot", "nonce"), [("slot-4", NONCE), ("../etc", NONCE), ("slot-042", "xyz"), ("", NONCE)])
def test_a_bad_name_says_what_is_allowed(slot: str, nonce: str) -> None:
    with pytest.raises(ValueError, match=r"found .*; allowed: "):
        device_name(slot, nonce)


@pytest.mark.parametrize("ids", [[], ["slot-000", "slot-001"], ["gpu-0"]])
def test_a_container_has_exactly_one_slot(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="allowed: "):
        only_slot(ids)


def test_the_one_slot_is_answered() -> None:
    assert only_slot(["slot-063"]) == "slot-063"
