"""NVML shows the slice."""

import pytest

from tests.native.container import Container


@pytest.mark.parametrize("name", ["memory_of_the_slice", "processes_of_the_slice", "names_without_the_library"])
def test_nvml(container: Container, name: str):
    failure = container.run_as_it_is("tests.native.shown", name)
    assert not failure, failure
