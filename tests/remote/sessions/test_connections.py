"""Connections that break, sessions that end, and what the others notice of it."""

import json
import os
import random
import signal

import pytest

from tests.remote.proxy import cutting
from tests.remote.server import PATIENCE_S, Conversation, run, serving

pytestmark = pytest.mark.torch

TRAINING = """
    import json, sys, torch
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1)).to(device)
    optimizer, losses = torch.optim.SGD(model.parameters(), 0.05), []
    for step in range(60):
        x = torch.randn(64, 32).to(device)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() if step % 3 == 0 else None)
    print(json.dumps([losses, model[0].weight.sum().item()]))
"""


@pytest.fixture(scope="module")
def unbroken(address):
    """What the training gives on this machine."""
    found = run(address, TRAINING.replace('else "cuda"', 'else "cpu"'))
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_connection_cut_anywhere_changes_nothing(address, unbroken, seed):
    draw = random.Random(seed)
    cuts = [5000 + draw.randrange(40_000), *(draw.randrange(600, 40_000) for _ in range(12))]
    with cutting(address, cuts) as proxy:
        found = run(proxy.address, TRAINING)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == unbroken and proxy.connections > 5


COUNTING = """
    import torch
    x = torch.zeros(4, device="cuda")
    print(int(x.sum().item()))
    input()
    try:
        for _ in range(500):
            x += 1
        print(int(x[0].item()))
    except RuntimeError as error:
        print(type(error).__name__, error)
"""


def test_a_session_that_is_killed_ends_alone():
    with serving() as served:
        programs = [Conversation(served.address, COUNTING) for _ in range(4)]
        assert [program.hears() for program in programs] == ["0"] * 4
        executors = served.executors()
        assert len(executors) == 4
        os.kill(executors[1], signal.SIGKILL)
        for program in programs:
            program.tell()
        heard = sorted(program.hears() for program in programs)
        assert heard[:3] == ["500"] * 3
        assert heard[3].startswith("DeviceLostError the remote device was lost:")
        for program in programs:
            program.end()


STOPPING = TRAINING.replace("        x = torch", "        if step == 20: print('at 20'), input()\n        x = torch")


def test_three_trainings_go_on_to_the_bit_when_the_fourth_is_killed(unbroken):
    with serving() as served:
        programs = [Conversation(served.address, STOPPING) for _ in range(4)]
        assert [program.hears() for program in programs] == ["at 20"] * 4
        executors = served.executors()
        for program in programs:
            program.tell()
        os.kill(executors[1], signal.SIGKILL)
        heard = sorted((program.hears(), program.end()) for program in programs)
    assert [json.loads(said) for said, _ in heard[1:]] == [unbroken] * 3
    assert not heard[0][0] and "DeviceLostError" in heard[0][1]


def test_what_a_program_does_without_its_server_is_an_error():
    with serving() as served:
        program = Conversation(served.address, COUNTING.replace("except RuntimeError", "except ZeroDivisionError"))
        assert program.hears() == "0"
    program.tell()
    program.process.send_signal(signal.SIGINT)
    assert program.process.wait(PATIENCE_S) != 0
    program.end()


def test_a_session_over_its_slice_gets_the_error_alone(address):
    code = """
        import torch
        held = [torch.zeros(1 << 20, device="cuda") for _ in range(3)]
        with_other = torch.ones(2, device="cuda")
        try:
            held += [torch.zeros(1 << 20, device="cuda") for _ in range(3)]
            torch.cuda.synchronize()
        except torch.OutOfMemoryError as error:
            print("OutOfMemoryError", "16777216" in str(error))
        del held
        print(torch.zeros(3 << 20, device="cuda").sum().item(), with_other.sum().item(), torch.cuda.mem_get_info()[1])
    """
    with Conversation(address, COUNTING) as other:
        assert other.hears() == "0"
        found = run(address, code, "--gpu-mem", "16Mi")
        assert found.stdout == "OutOfMemoryError True\n0.0 2.0 16777216\n", found.stderr
        other.tell()
        assert other.hears() == "500"


def test_what_an_operator_resizes_counts_too(address):
    code = """
        import torch
        def used():
            return torch.cuda.memory_allocated() >> 20
        x, outs = torch.ones(1 << 20, device="cuda"), [torch.empty(0, device="cuda") for _ in range(3)]
        torch.add(x, 1, out=outs[0])
        print(used())
        torch.add(x, 1, out=outs[1])
        try:
            torch.add(x, 1, out=outs[2])
            torch.cuda.synchronize()
        except torch.OutOfMemoryError as error:
            print("OutOfMemoryError", "12582912" in str(error), used())
        try:
            outs[2].sum().item()
        except torch.OutOfMemoryError as error:
            print("OutOfMemoryError")
        outs.pop()
        outs.pop()
        print(used(), outs[0].sum().item())
        outs[0].data = x
        print(used())
        del x, outs
        print(used())
        x, two = torch.ones(6, 1 << 17, device="cuda"), [torch.empty(0, device="cuda") for _ in range(1)]
        two.append(torch.empty(0, dtype=torch.int64, device="cuda"))
        try:
            torch.sort(torch.cat([x, x]), out=tuple(two))  # values of 6 MiB and indices of 12
            torch.cuda.synchronize()
        except torch.OutOfMemoryError:
            print("OutOfMemoryError", used())
    """
    found = run(address, code, "--gpu-mem", "12Mi")
    said = ["8", "OutOfMemoryError True 12", "OutOfMemoryError", "8 2097152.0", "4", "0", "OutOfMemoryError 3"]
    assert found.stdout.splitlines() == said, found.stderr
