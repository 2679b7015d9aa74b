"""Lists of names are read as an ordinary decoder reads them, or not at all."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.scheduler.name_lists import NameTable

NAMES = [*(f"gpu-{index:03}" for index in range(40)), "", "gpu-00", "\u00e4", "x" * 253]
ROWS = {name: row for row, name in enumerate(NAMES) if name}
TABLE = NameTable(NAMES)
LISTS = st.lists(st.sampled_from([*ROWS, "gpu-04", "gpu-0000", "other", ""]), max_size=60)


def written(names: list[str]) -> bytes:
    return json.dumps(names, separators=(",", ":"), ensure_ascii=False).encode()


@given(LISTS)
@settings(deadline=None)
def test_each_name_has_its_row(names: list[str]) -> None:
    rows = TABLE.rows(written(names))
    assert rows is not None and rows.tolist() == [ROWS.get(name, -1) for name in names]


@given(st.binary(max_size=12) | st.text('"[],a\\ ', max_size=12).map(str.encode))
@settings(deadline=None, max_examples=500)
def test_what_is_read_is_what_a_decoder_reads(raw: bytes) -> None:
    rows = TABLE.rows(raw)
    if rows is not None:
        assert [ROWS.get(name, -1) for name in json.loads(raw)] == rows.tolist()


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[", b'["a"', b'["a",]', b'["a" ]', b'["\\u0061"]', b"[1]", b'["a""b"]']
)
def test_what_go_does_not_write_is_left_to_a_decoder(raw: bytes) -> None:
    assert TABLE.rows(raw) is None


def test_without_names_nothing_has_a_row() -> None:
    found = NameTable([]).rows(b'["a"]')
    assert found is not None and found.tolist() == [-1]
