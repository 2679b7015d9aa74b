"""Slices that sum up to a GPU: each can be used in full, contexts included, and nobody is ended for it."""

import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tessera.model.quantities import GIB, MIB
from tessera.simulator.fakes.nvml.state import NvmlState
from tests.integration.local.commands import CUDA, Commands, alive, python, until
from tests.integration.local.conftest import Agent

CUDA_ERROR_OUT_OF_MEMORY = 2
CONTEXT, HELD_BACK = 512 * MIB, 256 * MIB
SLICES = 4
FILLS = f"{CUDA}import os\nfree, total = told()\nprint(os.getpid(), take(free), take(1), free, total, flush=True)\n"
WAITS = "sys.stdin.read()"


@pytest.fixture
def full(tmp_path: Path, shim: Path) -> Iterator[Agent]:
    """An agent with an H100 to fill, whose contexts take half a GiB, and a T4."""
    made = Agent(tmp_path, shim, ("H100", "T4"), CONTEXT)
    NvmlState.let_programs_tell(tmp_path / "nvml.state")
    made.start()
    yield made
    made.end(subprocess.Popen.terminate)


@contextmanager
def started(agent: Agent, gpu: int, mib: int, code: str) -> Iterator[list[int]]:
    """A command in a slice of a GPU; the numbers that it prints first."""
    settings = {"TESSERA_FAKE_CUDA": f"context={CONTEXT}"}
    lease = ("--socket", str(agent.socket), "--gpu-mem", f"{mib}Mi", "--gpu-model", agent.state.gpus[gpu].name)
    process = Commands({**agent.environment, **settings}).start(lease, python(code))
    assert process.stdout and process.stderr
    with process:
        try:
            line = process.stdout.readline()
            yield [int(word) for word in line.split()] or pytest.fail(process.stderr.read())
        finally:
            process.kill()


def held(agent: Agent) -> int:
    """What the driver says that all programs hold of the first GPU."""
    files = Path(f"{agent.folder / 'nvml.state'}.holders").iterdir()
    return sum(struct.unpack_from("<Q", path.read_bytes())[0] for path in files)


def test_slices_that_fill_a_gpu_can_all_be_used_in_full(full: Agent):
    gpu = full.state.gpus[0]
    room = gpu.total_bytes - gpu.reserved_bytes - HELD_BACK
    mib = room // SLICES // MIB
    with ExitStack() as stack:
        found = [stack.enter_context(started(full, 0, mib, FILLS + WAITS)) for _ in range(SLICES)]
        assert [rest for _, *rest in found] == [[0, CUDA_ERROR_OUT_OF_MEMORY, mib - CONTEXT // MIB, mib]] * SLICES
        assert held(full) == SLICES * mib * MIB <= gpu.total_bytes - gpu.reserved_bytes
        with started(full, 1, 1024, f"import os, sys\nprint(os.getpid(), flush=True)\n{WAITS}") as (other,):
            full.state.add_process(other, full.state.gpus[1].uuid, 2 * GIB)
            full.state.write(full.folder / "nvml.state")
            until(lambda: not alive(other))
        assert all(alive(pid) for pid, *_ in found), "the watcher has looked for longer than it grants"


def test_a_slice_that_is_too_small_for_a_context_is_refused_before_the_command_starts(full: Agent):
    lease = ("--socket", str(full.socket), "--gpu-count", "2", "--gpu-mem")
    refused = Commands(full.environment).run((*lease, "1023Mi"), python("print('started')"))
    assert (refused.returncode, refused.stdout) == (125, "")
    said = "--gpu-mem: found '1023Mi'; allowed: at least 512Mi for each GPU, which a program's context takes"
    assert refused.stderr == f"tessera run: {said}\n"
