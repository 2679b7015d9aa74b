"""Every entry point, by every way to come to it, in every way the driver answers addresses: charged to the byte."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.native.container import Container
from tests.native.rows import ALLOCATORS, FAILED, ROWS

MODULE = "tests.native.rows"
MODES = ("exported", "internal", "shared")
WAYS = ("linked", "default", "dlsym", "dlvsym", "v1:0", "v1:1", "v2:0", "v2:1")
PER_THREAD_WAYS = ("linked", "default", "dlsym", "dlvsym", "v1:2", "v2:2")

Results = Callable[[str, str], Mapping[str, str]]


def rows_for(way: str) -> list[str]:
    """What can be found that way: a thread's own variants only where they are asked for, and only those there."""
    per_thread = {"0": False, "1": False, "2": True}.get(way[-1])
    return [symbol for symbol in ROWS if per_thread is None or symbol.endswith("_ptsz") == per_thread]


@pytest.fixture(scope="module")
def results(
    new_container: Callable[[], Container],
    table: Sequence[tuple[str, str, int, bool]],
    linked: Path,
    versioned: Path,
) -> Results:
    """Of all rows by a way and a mode, which one program runs one after the other."""

    @cache
    def run(mode: str, way: str) -> Mapping[str, str]:
        driver = {"way": way, "table": table, "linked": str(linked)}
        container = new_container()
        if way == "dlvsym":
            container.libraries = [versioned, *container.libraries]
        return container.run(MODULE, rows_for(way), f"addresses={mode}", driver=driver)

    return run


def test_every_entry_has_a_row(table: Sequence[tuple[str, str, int, bool]]):
    """Somebody has to say what a new entry point does to the charge."""
    assert {symbol for symbol, *_ in table} == ROWS.keys()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("way", "symbol"), [(way, symbol) for way in dict.fromkeys(WAYS + PER_THREAD_WAYS) for symbol in rows_for(way)]
)
def test_row(results: Results, mode: str, way: str, symbol: str):
    failure = results(mode, way)[symbol]
    assert not failure, failure


@pytest.mark.parametrize("symbol", ALLOCATORS)
def test_a_failure_of_the_driver_is_rolled_back(container: Container, symbol: str):
    failures = container.run(MODULE, [f"fail:{symbol}"], f"fail={symbol}:1:{FAILED}")
    assert failures == {f"fail:{symbol}": ""}, failures[f"fail:{symbol}"]
