"""Programs of other people's packages on the device: they learn and say what they do on this processor."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.remote.environments import python_of
from tests.remote.server import ONE_THREAD, PATIENCE_S, pool_command, serving

pytestmark = pytest.mark.programs

ON_A_GPU = Path(__file__).parents[2] / "gpu" / "remote_client.py"
SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.py"))
TOLERANCE = {"llama, bfloat16": 1e-3, "vit_tiny_patch16_224": 1e-5}
"""Relative: for ``cuda`` autocast keeps other operators in float32, and timm's LAMB takes all parameters at once. All
else is equal to the bit."""


@pytest.fixture(scope="module")
def python() -> str:
    return str(python_of("programs"))


def started(*command: str) -> "subprocess.Popen[str]":
    offline = {**os.environ, **ONE_THREAD, "HF_HUB_OFFLINE": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=offline
    )  # fmt: skip


def said(program: "subprocess.Popen[str]") -> dict[str, Any]:
    """The last line of what it printed."""
    out, errors = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 0, errors[-4000:]
    return dict(json.loads(out.splitlines()[-1]))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_program_says_what_it_says_here(python: str, script: Path) -> None:
    with serving() as served:
        here = started(python, str(script))
        there = started(*pool_command(served.address, python, str(script)))
        expected, found = said(here), said(there)
    assert (expected.pop("device"), found.pop("device")) == ("cpu", "cuda")
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        near = TOLERANCE.get(name)
        assert found[name] == (values if near is None else pytest.approx(values, rel=near)), name


@pytest.mark.parametrize("name", ["bert", "decode"])
def test_what_is_measured_on_a_gpu_says_what_it_says_here(python: str, name: str) -> None:
    """In small; on this processor autocast keeps other operators in float32."""
    with serving() as served:
        here = started(python, str(ON_A_GPU), name, "cpu", "small")
        there = started(*pool_command(served.address, python, str(ON_A_GPU), name, "cuda", "small"))
        assert said(there) == pytest.approx(said(here), rel=1e-3)
