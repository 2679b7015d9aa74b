"""A program with a lease: through a gate that asks the pool, to an executor that knows no tokens."""

import time

import pytest

from tessera.remote.executor.handover import Allowance, Expect, Leave, Resize, expect, leave, resize, tell
from tests.remote.leases import stage
from tests.remote.wire.certificates import Authority

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

FILLING = """
import torch
held = []
while line := input():
    try:
        held.append(torch.ones(int(line), 1 << 18, device="cuda"))
        torch.cuda.synchronize()
        print("holds", len(held))
    except torch.OutOfMemoryError as error:
        del held[-1:]
        print("OutOfMemoryError", error)
"""
PROGRAM = """
import torch
torch.manual_seed(0)
w = torch.randn(16, 4).to("cuda").requires_grad_()
(w * w).sum().backward()
print(w.grad.sum().item() == 2 * w.sum().item(), torch.cuda.get_device_properties(0).total_memory)
"""
HELD = """
import torch
x = torch.ones(3, device="cuda")
print(x.sum().item())
input()
try:
    print((x * 2).sum().item())
except RuntimeError as error:
    print(type(error).__name__, error.lease, error.epoch, error)
"""


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "ca")


@pytest.fixture
def gate(tmp_path, authority):
    with stage.executor(tmp_path) as at, stage.gate(at, authority.sign("executor", host=stage.NAME)) as made:
        yield made


@pytest.fixture
def node(tmp_path, authority, gate):
    return stage.Node(tmp_path / "container", authority, gate.endpoint)


def test_an_unchanged_program_runs_and_says_who_it_is(gate, node):
    ran = node.run(PROGRAM)
    assert ran.stdout == f"True {64 << 20}\n", ran.stderr
    (hello,) = gate.heard
    assert (hello.token, hello.lease, hello.container, hello.epoch) == ("the pod's token", "team/trainer", "main", 1)


def test_who_is_denied_is_told_why(gate, node):
    node.token.write_text("another's")
    ran = node.run(PROGRAM)
    assert ran.returncode == 1
    assert "ConnectError: refused (Denied): token: found one that is not the pod's" in ran.stderr


def test_an_epoch_that_begins_ends_the_sessions_of_the_one_before(gate, node):
    program = node.start(HELD)
    assert program.stdout.readline() == "3.0\n"
    gate.enter(2)
    tell(gate.executor, gate.allowance)
    node.epoch = 2
    node.write()
    out, errors = program.communicate("\n", timeout=60)
    assert "DeviceLostError team/trainer 1 the remote device was lost: lease team/trainer, epoch 1:" in out, errors
    assert "epoch 1 of its lease is over" in out
    ran = node.run(PROGRAM)
    assert ran.stdout.startswith("True"), ran.stderr


def test_a_lease_that_is_over_ends_its_sessions(gate, node):
    program = node.start(HELD)
    assert program.stdout.readline() == "3.0\n"
    tell(gate.executor, Allowance(1, 0, 0))
    out, errors = program.communicate("\n", timeout=60)
    assert "its lease is over" in out, errors


def test_a_program_waits_for_its_executor(tmp_path, authority):
    """The folder is there before the executor and its gate are."""
    node = stage.Node(tmp_path / "container", authority, "127.0.0.1:9")
    program = node.start(PROGRAM)
    with stage.executor(tmp_path) as at, stage.gate(at, authority.sign("executor", host=stage.NAME)) as gate:
        node.endpoint = gate.endpoint
        node.write()
        out, errors = program.communicate(timeout=60)
        assert out.startswith("True"), errors


def test_connections_that_break_are_made_again_through_the_gate(gate, node):
    program = node.start(HELD)
    assert program.stdout.readline() == "3.0\n"
    gate.front.cut()
    out, errors = program.communicate("\n", timeout=60)
    assert out == "6.0\n" and len(gate.heard) == 2, errors


def tells(program, line):
    program.stdin.write(f"{line}\n")
    program.stdin.flush()
    return program.stdout.readline().strip()


def test_the_sessions_of_a_lease_share_what_it_may_hold(gate, node):
    first, second = node.start(FILLING), node.start(FILLING)
    assert (tells(first, 40), tells(second, 20)) == ("holds 1", "holds 1")
    said = tells(second, 20)
    assert said.startswith(
        f"OutOfMemoryError the lease has {64 << 20} bytes, {20 << 20} are in use here and {40 << 20} by"
    )
    resize(gate.executor, Resize(2, 96 << 20))
    gate.allowance, node.epoch = Allowance(2, 96 << 20, 2), 2
    node.write()
    assert (tells(second, 20), tells(first, 20)[:16]) == ("holds 2", "OutOfMemoryError")
    first.communicate("\n", timeout=60)
    deadline = time.monotonic() + 60
    while (said := tells(second, 40)) != "holds 3" and time.monotonic() < deadline:
        assert said.startswith("OutOfMemoryError"), said
    assert said == "holds 3"
    second.communicate("\n", timeout=60)


def test_a_session_moves_to_another_executor_through_the_gates(tmp_path, authority, gate, node):
    (tmp_path / "other").mkdir()
    pair = authority.sign("another", host=stage.NAME)
    with stage.executor(tmp_path / "other") as at, stage.gate(at, pair) as there:
        program = node.start(HELD)
        assert program.stdout.readline() == "3.0\n"
        ticket = expect(there.executor, Expect(2, 32 << 20, 2))
        done = leave(gate.executor, Leave(ticket, 2, there.endpoint), there.reached)
        assert done.sessions == 1 and done.used_bytes >= 12
        there.enter(2)
        node.epoch, node.endpoint = 2, there.endpoint
        node.write()
        out, errors = program.communicate("\n", timeout=60)
        assert out == "6.0\n", errors
        assert [hello.epoch for hello in there.heard][-1] == 2
