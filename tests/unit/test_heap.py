"""Only pages that hold nothing but a file's bytes are dropped."""

import sys

import pytest

from tessera.heap import as_in_file, filling, unload

SMAPS = """\
7f00-7f10 r--p 00000000 fe:00 12 /opt/lib/libllvmlite.so
Rss:                  16 kB
Anonymous:             0 kB
7f10-7f40 r-xp 00010000 fe:00 12 /opt/lib/libllvmlite.so
Rss:                 192 kB
Anonymous:             0 kB
7f40-7f50 r--p 00040000 fe:00 12 /opt/lib/libllvmlite.so
Anonymous:             4 kB
7f50-7f60 rw-p 00050000 fe:00 12 /opt/lib/libllvmlite.so
Anonymous:             0 kB
7f60-7f70 r-xp 00000000 fe:00 13 /opt/lib/libother.so
Anonymous:             0 kB
7f70-7f80 r--p 00000000 00:00 0
Anonymous:             0 kB
VmFlags: rd mr mw me
"""


def test_neither_what_can_be_written_nor_what_was_nor_another_file() -> None:
    assert list(as_in_file(SMAPS.splitlines(), "libllvmlite")) == [(0x7F00, 0x7F10), (0x7F10, 0x7F40)]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_code_that_left_the_memory_is_still_there_when_called() -> None:
    import zlib

    before = zlib.compress(b"x" * 1000)
    unload("zlib")
    unload("libz")
    unload("no-such-library")
    assert zlib.compress(b"x" * 1000) == before


def test_filling_turns_the_collector_on_again() -> None:
    import gc

    thresholds = gc.get_threshold()
    try:
        with filling():
            assert not gc.isenabled()
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
