"""The cases of ``make test-gpu`` that a simulated GPU can answer, and what they say where there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.simulator.fakes.cuda import build as cuda
from tessera.simulator.fakes.nvml import build as nvml
from tessera.simulator.fakes.nvml import presets
from tessera.simulator.fakes.nvml.state import ENV, NvmlState
from tests.integration.local.conftest import _mounts
from tests.native.conftest import shim
from tests.native.container import ROOT

__all__ = ["_mounts", "shim"]


def run(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.gpu.main", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def simulated(tmp_path: Path, shim: Path) -> dict[str, str]:
    """One GPU whose driver tells what programs hold."""
    path = tmp_path / "nvml.state"
    NvmlState(gpus=presets.host_gpus(["H100"], host="bench")).write(path)
    NvmlState.let_programs_tell(path)
    libraries = f"{nvml.library_dir()}:{cuda.library_dir()}"
    return {ENV: str(path), "LD_LIBRARY_PATH": libraries, "TESSERA_SHIM": str(shim)}


def test_without_a_gpu_one_line_says_so():
    done = run({"LD_LIBRARY_PATH": ""}, "alone")
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")
    assert done.stdout.startswith("test-gpu: nothing was tested: no GPU here (")


def test_memory_and_escapes_on_a_simulated_gpu(simulated: dict[str, str], tmp_path: Path):
    """How soon the watcher ends a program is a figure: on a busy machine it may be missed, and is then said to be."""
    done = run(simulated, "together", "--cases", "T5", "T13", "--out", str(tmp_path / "report"))
    (report,) = (tmp_path / "report").glob("*.json")
    cases = json.loads(report.read_text())["cases"]
    (charged, ended), escapes = ([f["verdict"] for f in cases[case]["findings"]] for case in ("T5", "T13"))
    assert (charged, escapes) == ("met", ["met"] * 7), done.stdout
    assert ended in ("met", "missed") and done.returncode == (ended == "missed"), done.stdout + done.stderr
    assert "Not run on this GPU: T0, T1" in report.with_suffix(".md").read_text()


def test_a_cap_is_a_context_and_what_it_leaves(simulated: dict[str, str], tmp_path: Path):
    done = run(simulated, "alone", "--cases", "T4", "--out", str(tmp_path / "report"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "usable / cap, worst of all ways: 2Gi 0.688, 8Gi 0.922, 32Gi 0.980, 64Gi 0.990" in done.stdout
    assert "overshoot, worst of all caps and ways: 0 bytes (0)" in done.stdout
