"""Limits and ledgers that are missing, half written, noise or empty."""

import os
import random
import sys
from collections.abc import Callable

import pytest

from tessera.node_agent.enforcement.usage_file import damage
from tests.native.container import Container
from tests.native.slices import LEDGER_SIZE, fresh_ledger

MODULE = "tests.native.broken"


def no_limits(c: Container) -> None:
    c.limits_file.unlink()


def empty_limits(c: Container) -> None:
    c.limits_file.write_bytes(b"")


def half_of_the_limits(c: Container) -> None:
    text = c.limits_file.read_bytes()
    c.limits_file.write_bytes(text[: len(text) // 2])


def limits_of_another_size(c: Container) -> None:
    c.limits_file.write_text(c.limits_file.read_text().replace("67108864", "97108864"))


def limits_of_another_version(c: Container) -> None:
    """With the right check."""
    body, _, end = c.limits_file.read_bytes().replace(b"tessera 1\n", b"tessera 2\n").rpartition(b"end ")
    check = 0xCBF29CE484222325
    for byte in body:
        check = (check ^ byte) * 0x100000001B3 % 2**64
    c.limits_file.write_bytes(body + f"end {end.split()[0].decode()} {check:x}\n".encode())


def limits_of_noise(c: Container) -> None:
    c.limits_file.write_bytes(random.Random(1).randbytes(4096))


def limits_that_are_too_long(c: Container) -> None:
    c.limits_file.write_bytes(c.limits_file.read_bytes() + b"\n" * 8192)


def a_link_in_place_of_the_limits(c: Container) -> None:
    c.limits_file.rename(c.limits_file.with_name("elsewhere"))
    c.limits_file.symlink_to("elsewhere")


def a_folder_in_place_of_the_limits(c: Container) -> None:
    c.limits_file.unlink()
    c.limits_file.mkdir()


def a_pipe_in_place_of_the_limits(c: Container) -> None:
    c.limits_file.unlink()
    os.mkfifo(c.limits_file)


def no_folder_for_the_ledger(c: Container) -> None:
    c.usage_file.unlink()
    c.usage_file.parent.rmdir()


def a_link_in_place_of_the_ledger(c: Container) -> None:
    c.usage_file.rename(c.usage_file.with_name("elsewhere"))
    c.usage_file.symlink_to("elsewhere")


def a_folder_in_place_of_the_ledger(c: Container) -> None:
    c.usage_file.unlink()
    c.usage_file.mkdir()


def a_pipe_in_place_of_the_ledger(c: Container) -> None:
    c.usage_file.unlink()
    os.mkfifo(c.usage_file)


def no_ledger(c: Container) -> None:
    c.usage_file.unlink()


def an_empty_ledger(c: Container) -> None:
    c.usage_file.write_bytes(b"")


def half_a_ledger(c: Container) -> None:
    c.usage_file.write_bytes(fresh_ledger()[: LEDGER_SIZE // 2])


def a_ledger_of_noise(c: Container) -> None:
    c.usage_file.write_bytes(random.Random(2).randbytes(LEDGER_SIZE))


BREAKS = [
    *(no_limits, empty_limits, half_of_the_limits, limits_of_another_size, limits_of_noise, limits_that_are_too_long),
    *(a_link_in_place_of_the_limits, a_folder_in_place_of_the_limits, a_pipe_in_place_of_the_limits),
    *(a_link_in_place_of_the_ledger, a_folder_in_place_of_the_ledger, a_pipe_in_place_of_the_ledger),
    *(limits_of_another_version, no_folder_for_the_ledger, a_ledger_of_noise),
]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_nothing_is_given(container: Container, damage: Callable[[Container], None]):
    damage(container)
    failure = container.run_as_it_is(MODULE, "refuses_everything", driver={"start": False})
    assert not failure, failure


@pytest.mark.parametrize("seed", range(5))
def test_noise_behind_the_first_word_of_the_ledger_gives_nobody_more(container: Container, seed: int):
    container.usage_file.write_bytes(fresh_ledger()[:8] + random.Random(seed).randbytes(LEDGER_SIZE - 8))
    failure = container.run_as_it_is(MODULE, "never_has_more", driver={"start": False})
    assert not failure, failure


def test_noise_that_comes_later_gives_nobody_more(container: Container):
    failure = container.run_as_it_is(MODULE, "meets_noise", driver={"start": False})
    assert not failure, failure


def test_limits_that_break_later(container: Container):
    failure = container.run_as_it_is(MODULE, "keeps_what_it_has")
    assert not failure, failure


@pytest.mark.parametrize("begun", [no_ledger, an_empty_ledger, half_a_ledger], ids=lambda begun: begun.__name__)
def test_the_first_process_makes_the_ledger(container: Container, begun: Callable[[Container], None]):
    begun(container)
    code = "import ctypes; cuda = ctypes.CDLL('libcuda.so.1'); assert not cuda.cuInit(0); c = ctypes.c_void_p()"
    code += "; assert not cuda.cuDevicePrimaryCtxRetain(ctypes.byref(c), 0); assert not cuda.cuCtxSetCurrent(c)"
    code += "; p = ctypes.c_uint64(); assert not cuda.cuMemAlloc_v2(ctypes.byref(p), ctypes.c_size_t(4096))"
    process = container.start([sys.executable, "-c", code])
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 0
    assert container.usage_file.stat().st_size == LEDGER_SIZE
    assert container.usage_file.stat().st_mode & 0o777 >= 0o644
    assert container.usage_file.read_bytes()[:8] == fresh_ledger()[:8]
    assert damage(container.usage_file.read_bytes()) == ""


def test_limits_that_come_later(container: Container):
    container.limits_file.rename(container.limits_file.with_name("waiting"))
    failure = container.run_as_it_is(MODULE, "waits_for_limits", driver={"start": False})
    assert not failure, failure


def test_no_pace_is_no_turn(container: Container):
    container.pace_file.unlink()
    command = [sys.executable, "-c", "import ctypes; cuda = ctypes.CDLL('libcuda.so.1'); assert not cuda.cuInit(0)"]
    process = container.start([*command[:2], f"{command[2]}; assert not cuda.cuLaunch(0)"])
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
    assert container.ledger.works() == 0
