"""Several entry points together."""

from collections.abc import Callable, Mapping

import pytest

from tests.native.container import Container
from tests.native.scenarios import FORMATS, SCENARIOS

MODULE = "tests.native.scenarios"


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(container: Container, name: str):
    (failure,) = container.run(MODULE, [name], SCENARIOS[name][1]).values()
    assert not failure, failure


@pytest.fixture(scope="module")
def formats(new_container: Callable[[], Container]) -> Mapping[str, str]:
    """What went wrong with each format of arrays."""
    return new_container().run(MODULE, [f"format:{number:#x}" for number in FORMATS])


@pytest.mark.parametrize("number", [f"{number:#x}" for number in FORMATS])
def test_arrays_of_a_format(formats: Mapping[str, str], number: str):
    failure = formats[f"format:{number}"]
    assert not failure, failure
