"""What all tests share: the placement policies are compiled once, before any test's clock runs."""

import subprocess
import sys

import pytest

_WARM = "from tessera.scheduler.warming import warm; from tessera.scheduler.policy import POLICIES; warm(*POLICIES)"


def pytest_configure(config: pytest.Config) -> None:
    """Workers of pytest-xdist start later and read from disk what was compiled here; a fault shows in the tests."""
    if not hasattr(config, "workerinput"):
        subprocess.run([sys.executable, "-c", _WARM], stderr=subprocess.DEVNULL, check=False)
