"""What programs import from ``tessera.remote``."""

import subprocess
import sys

import pytest

import tessera.remote
from tessera.remote.client import errors


def test_errors_are_the_clients() -> None:
    assert tessera.remote.DeviceLostError is errors.DeviceLostError
    assert tessera.remote.ConnectError is errors.ConnectError
    with pytest.raises(AttributeError, match=r"'tessera\.remote' has no attribute 'DeviceLost'"):
        _ = tessera.remote.DeviceLost


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, tessera.remote; print([m for m in sys.modules if m == 'torch' or m.startswith('tessera.remote.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
