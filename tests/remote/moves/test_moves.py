"""Sessions that move in the middle of a training, and what the program notices: nothing but a pause."""

import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tessera.remote.executor.transfer import MoveError
from tests.remote.moves.machines import machine, on_this_machine
from tests.remote.server import Conversation
from tests.remote.wire.client import Client, greeted

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

TRAINING = textwrap.dedent("""
    import torch
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.GELU(), torch.nn.Dropout(0.3), torch.nn.Linear(64, 1))
    model.to("cuda")
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    draws = torch.Generator("cuda").manual_seed(7)
    torch.manual_seed(1)
    while input():
        x = torch.randn(32, 16, device="cuda", generator=draws)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex(), flush=True)
""")
COUNTING = """
    import torch
    x = torch.zeros(4, device="cuda")
    while line := input():
        x += int(line)
        print(int(x[0].item()), torch.cuda.mem_get_info()[1])
"""
CAPTURED = """
    import torch, tessera.remote, warnings
    warnings.simplefilter("error")
    class Shifted(torch.nn.Sequential):
        def forward(self, x):
            return super().forward(x) + torch.tensor([3.0, 4.0]).to(x.device)
    torch.manual_seed(0)
    model = Shifted(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2)).to("cuda").eval()
    fast, x, known = tessera.remote.capture(model), torch.ones(2, 4, device="cuda"), []
    with torch.inference_mode():
        while line := input():
            x = x + int(line)
            print(torch.equal(fast(x).cpu(), model(x).cpu()), len({*known, *fast._known.values()}), flush=True)
            known = [*fast._known.values()]
"""
FILLING = """
    import torch
    held = []
    while line := input():
        try:
            held.append(torch.ones(int(line), 1 << 18, device="cuda"))
            print(sum(one.sum().item() for one in held) / (1 << 18))
        except torch.OutOfMemoryError as error:
            del held[-1:]
            print("OutOfMemoryError", error)
"""
MIB = 1 << 20


def until(true, within_s=60):
    deadline = time.monotonic() + within_s
    while not true() and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return true()


def trained(program, move):
    """The losses of steps before, during and after a move, and what it gave."""
    losses = []

    def step():
        program.tell("step")
        losses.append(program.hears())
        assert losses[-1], program.end()

    for _ in range(5):
        step()
    with ThreadPoolExecutor(1) as pool:
        moved = pool.submit(move)
        while not moved.done():
            step()
    for _ in range(5):
        step()
    return losses, moved.result()


@pytest.mark.parametrize("way", ["direct", "host"])
def test_a_training_goes_on_elsewhere_with_equal_losses(way):
    with machine() as here, machine() as there, Conversation(here.address, TRAINING) as program:
        losses, moved = trained(program, lambda: here.move_to(there, way))
        assert losses == on_this_machine(TRAINING, "step\n" * len(losses) + "\n")
        assert moved.sessions == 1 and moved.used_bytes > 0
        assert until(lambda: not len(here.reception.sessions)) and len(there.reception.sessions) == 1


@pytest.mark.parametrize("way", ["direct", "host"])
def test_a_training_goes_on_in_a_slice_of_another_size_with_equal_losses(way):
    with machine(64 * MIB) as here, Conversation(here.address, TRAINING) as program:
        losses, _ = trained(program, lambda: here.resize(128 * MIB, way))
        assert losses == on_this_machine(TRAINING, "step\n" * len(losses) + "\n")


def test_a_session_moves_on_and_on_while_its_program_waits():
    with machine() as one, machine() as two, machine() as three, Conversation(one.address, COUNTING) as program:
        steps = (lambda: one.move_to(two), lambda: two.resize(64 * MIB), lambda: two.move_to(three))
        for at, step in enumerate(steps, 1):
            program.tell("1")
            assert program.hears().split()[0] == str(at)
            step()
        program.tell("1")
        assert program.hears().split()[0] == "4", program.end()
        assert (one.reception.lease.gone.epoch, three.reception.lease.epoch) == (1, 3)


def test_a_captured_module_goes_on_elsewhere():
    """The program that was sent before the moves, with its constant."""
    with machine() as here, machine() as there, Conversation(here.address, CAPTURED) as program:
        changes = (lambda: None, lambda: here.move_to(there), lambda: there.resize(64 * MIB, "host"))
        for at, change in enumerate(changes):
            change()
            for _ in range(2):
                program.tell("1")
                assert program.hears() == "True 1", (at, program.end())


def test_all_sessions_move_or_none():
    """The other machine has room for one."""
    with machine() as here, machine(sessions=1) as there:
        with Conversation(here.address, COUNTING) as first, Conversation(here.address, COUNTING) as second:
            for program in (first, second):
                program.tell("1")
                assert program.hears().split()[0] == "1"
            with pytest.raises(MoveError, match=r"refused \(Full\)"):
                here.move_to(there)
            for program in (first, second):
                program.tell("1")
                assert program.hears().split()[0] == "2"
        assert here.reception.lease.gone is None


def test_a_resize_changes_what_a_session_may_hold():
    with machine(16 * MIB) as here, Conversation(here.address, FILLING) as program:
        program.tell("12")
        assert program.hears() == "12.0"
        program.tell("12")
        assert program.hears().startswith("OutOfMemoryError the slice has 16777216 bytes")
        here.resize(32 * MIB)
        program.tell("12")
        assert program.hears() == "24.0", program.end()
        with pytest.raises(MoveError, match=rf"gpu-mem: found {16 * MIB} bytes; allowed: at least 25165\d\d\d, which"):
            here.resize(16 * MIB)
        program.tell("4")
        assert program.hears() == "28.0"
        program.tell("8")
        assert program.hears().startswith("OutOfMemoryError the slice has 33554432 bytes")


def test_a_move_to_a_slice_of_another_size():
    with machine(16 * MIB) as here, machine(64 * MIB) as there, Conversation(here.address, COUNTING) as program:
        program.tell("1")
        assert program.hears() == f"1 {16 * MIB}"
        here.move_to(there, limit_bytes=64 * MIB)
        program.tell("1")
        assert program.hears() == f"2 {64 * MIB}"


def test_who_comes_with_an_older_epoch_is_sent_on_and_gets_nothing():
    with machine() as here, machine() as there:
        client = Client(here.peer)
        here.move_to(there)
        assert client.lost.wait(60)
        with pytest.raises(ConnectionError, match=there.address):
            greeted(here.peer, client.welcome.session)
        with pytest.raises(ConnectionError, match=there.address):
            greeted(here.peer)
        with pytest.raises(ConnectionError, match='"epoch": 1'):
            greeted(there.peer, client.welcome.session)


def test_a_ticket_that_nobody_gave():
    with machine() as here, machine() as there, Conversation(here.address, COUNTING) as program:
        program.tell("1")
        assert program.hears().split()[0] == "1"
        there.reception.arrivals.expect(1)
        ticket = "0" * 32
        there.reception.arrivals.expect = lambda *_: ticket
        with pytest.raises(MoveError, match="ticket: found one that is not good here"):
            here.move_to(there)
        program.tell("1")
        assert program.hears().split()[0] == "2"
