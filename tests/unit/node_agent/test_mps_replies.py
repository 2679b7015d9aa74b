"""The control program's replies."""

import pytest

from tessera.node_agent.enforcement.mps_replies import (
    ServerStatus,
    error_of,
    percent_of,
    pids_of,
    same_size,
    size_of,
    status_of,
)

MIB = 1 << 20


@pytest.mark.parametrize(
    ("reply", "pids"), [("", ()), ("123\n", (123,)), ("123\n456\n", (123, 456)), (" 123 456 ", (123, 456))]
)
def test_lists(reply, pids):
    assert pids_of(reply) == pids


@pytest.mark.parametrize(
    ("reply", "status"),
    [("ACTIVE\n", "ACTIVE"), ("Server 5: FAULT", "FAULT"), ("Initializing", "INITIALIZING"), ("odd", "UNKNOWN")],
)
def test_states(reply, status):
    assert status_of(reply) is ServerStatus(status)


@pytest.mark.parametrize(
    ("reply", "size"),
    [("1G", 1 << 30), ("512M", 512 * MIB), ("1.5G", 1536 * MIB), ("4096MB\n", 1 << 32), ("none", None)],
)
def test_sizes(reply, size):
    assert size_of(reply) == size


def test_a_coarse_size_stands_for_what_was_set():
    assert same_size("1G", 1044 * MIB)
    assert same_size("1044M", 1044 * MIB)
    assert not same_size("1G", 2048 * MIB)
    assert not same_size("1M", 1044 * MIB)
    assert not same_size("", 1044 * MIB)


def test_percentages():
    assert (percent_of("25.0\n"), percent_of("100"), percent_of("")) == (25.0, 100.0, None)


@pytest.mark.parametrize(
    "reply", ["Cannot find MPS control daemon process", "Failed to start server", "Invalid argument"]
)
def test_complaints(reply):
    assert error_of(f"{reply}\n") == reply


def test_an_answer_is_no_complaint():
    assert error_of("FAULT\n") == error_of("123\n") == error_of("") == ""
