"""How the driver's functions are found."""

import shutil
from collections.abc import Sequence

import pytest

from tessera.node_agent.enforcement.demand import unknown_entry_point
from tessera.node_agent.enforcement.usage_file import LEDGER
from tests.native.container import Container
from tests.native.lookups import NEWER

MODULE = "tests.native.lookups"
MODES = ("exported", "internal", "shared")
Table = Sequence[tuple[str, str, int, bool]]


def failure_of(container: Container, name: str, settings: str, table: Table) -> str:
    return container.run(MODULE, [name], settings, driver={"table": table})[name]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("driver", [13050, 12020, 11040])
@pytest.mark.parametrize("name", ["every_answer", "a_name_with_its_version", "names_that_are_not_ours"])
def test_answers(container: Container, table: Table, mode: str, driver: int, name: str):
    failure = failure_of(container, name, f"addresses={mode},driver={driver}", table)
    assert not failure, failure


@pytest.mark.parametrize("mode", MODES)
def test_a_variant_that_nobody_knows(container: Container, table: Table, mode: str):
    settings = f"addresses={mode},driver=14000,newer=cuMemAlloc:14000"
    failure = failure_of(container, "newer_than_known", settings, table)
    assert not failure, failure
    seen = container.folder / "7" / "root" / LEDGER
    seen.parent.mkdir(parents=True)
    shutil.copy(container.usage_file, seen)
    assert unknown_entry_point(7, container.folder) == NEWER, "and the agent finds which one it was"


def test_an_address_that_nobody_knows(container: Container, table: Table):
    failure = failure_of(container, "an_unknown_address_of_a_known_version", "newer=cuMemAlloc:13000", table)
    assert not failure, failure
