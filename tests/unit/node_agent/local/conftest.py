"""A folder of cgroups of this test's own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera.node_agent.local.homes import cgroup_parent


@pytest.fixture
def cgroups() -> Iterator[Path]:
    """Where homes can be made, and are gone when the test ends."""
    parent = cgroup_parent()
    if parent is None:
        pytest.skip("this user may not make cgroups here")
    folder = parent / f"test-{os.getpid()}"
    yield folder
    folder.rmdir()
