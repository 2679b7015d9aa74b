"""The real nvidia-ml-py on the stub library."""

import os
import subprocess
import sys

import pytest

from tessera.node_agent.nvml import NvmlError
from tessera.simulator.fakes.nvml.presets import PRESETS, gpu
from tessera.simulator.fakes.nvml.state import NOT_AVAILABLE

GIB = 1 << 30


def test_reads_what_the_machine_has(machine, nvml):
    reading = nvml.read()
    first = reading.devices[0]
    assert reading.failures == ()
    assert [d.uuid for d in reading.devices] == machine.uuids
    assert (first.name, first.sm_count, first.compute_capability) == ("NVIDIA H100 80GB HBM3", 132, "9.0")
    assert (first.total_bytes, first.reserved_bytes) == (81559 << 20, 626 << 20)
    assert first.nvlink_peers == (machine.uuids[1],)
    assert [d.numa_node for d in reading.devices] == [0, 0, 1]
    assert nvml.driver_version() == machine.state.driver


@pytest.mark.parametrize("model", PRESETS)
def test_sm_count_of_every_model(machine, nvml, model):
    machine.state.gpus = [gpu(model)]
    machine.write()
    assert nvml.read().devices[0].sm_count == PRESETS[model].sms


def test_processes_of_both_lists_each_once(machine, nvml):
    nvml.read()
    first, second, _ = machine.uuids
    machine.state.add_process(10, first, 3 * GIB)
    machine.state.add_process(11, first, 2 * GIB, mps=True)
    machine.state.add_process(12, second, NOT_AVAILABLE)
    machine.write()
    found = {p.pid: p for p in nvml.processes(first)}
    assert {pid: (p.used_bytes, p.mps) for pid, p in found.items()} == {10: (3 * GIB, False), 11: (2 * GIB, True)}
    assert [p.used_bytes for p in nvml.processes(second)] == [None]


def test_a_hundred_processes(machine, nvml):
    nvml.read()
    for pid in range(1, 101):
        machine.state.add_process(pid, machine.uuids[0], pid)
    machine.write()
    assert sum(p.used_bytes or 0 for p in nvml.processes(machine.uuids[0])) == 5050


def test_xids_come_once_and_in_order(machine, nvml):
    nvml.read()
    assert nvml.subscribe() == {}
    assert nvml.next_xid() is None
    machine.state.xid(machine.uuids[1], 31)
    machine.state.xid(machine.uuids[0], 79)
    machine.write()
    events = [nvml.next_xid() for _ in range(3)]
    assert [(e.gpu_uuid, e.code) if e else None for e in events] == [
        (machine.uuids[1], 31),
        (machine.uuids[0], 79),
        None,
    ]


def test_a_lost_gpu_is_a_failure_of_its_index_only(machine, nvml):
    machine.state.change(machine.uuids[1], lost=True)
    machine.write()
    reading = nvml.read()
    assert [d.uuid for d in reading.devices] == [machine.uuids[0], machine.uuids[2]]
    assert [(index, error.code) for index, error in reading.failures] == [(1, 15)]


def test_what_a_gpu_cannot_tell_is_unknown(machine, nvml):
    for function in ("nvmlDeviceGetNumaNodeId", "nvmlDeviceGetMigMode", "nvmlDeviceGetP2PStatus"):
        machine.state.fail_function(function, 3)
    machine.write()
    first = nvml.read().devices[0]
    assert (first.numa_node, first.mig, first.nvlink_peers) == (-1, False, ())


def test_no_library_is_one_clear_error():
    code = "from tessera.node_agent.nvml import *\ntry: DriverNvml().open()\nexcept NvmlError as e: print(e)"
    env = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert "nvmlInitWithFlags: NVML Shared Library Not Found" in done.stdout


def test_no_state_is_no_driver(machine, nvml):
    machine.path.unlink()
    with pytest.raises(NvmlError, match="Driver Not Loaded"):
        nvml.read()
    machine.write()
