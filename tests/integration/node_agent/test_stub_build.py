"""The stub library is built on a machine that has nothing, by several processes at once, and once only."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "tessera.simulator.fakes.nvml.build"]


def environment(temporary: Path, **extra: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")}
    return {**kept, "TMPDIR": str(temporary), **extra}


def build(env: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(COMMAND, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.timeout(300)
def test_two_at_once_without_a_home(tmp_path):
    env = environment(tmp_path, HOME="/proc/nowhere")
    both = [build(env) for _ in range(2)]
    answers = {process.communicate(timeout=250) for process in both}
    assert [process.returncode for process in both] == [0, 0], answers
    (answer,) = answers
    folder = Path(answer[0].strip())
    assert folder.parent.parent == tmp_path
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    assert [p.name for p in folder.iterdir()] == ["libnvidia-ml.so.1"]
    started = time.monotonic()
    assert build(env).communicate(timeout=250) == answer
    assert time.monotonic() - started < 5
