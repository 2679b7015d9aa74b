"""Threads, forks and interrupts of a program."""

import os
import signal
import threading

import pytest
import torch

from tests.remote.server import Conversation, run, serving

pytestmark = pytest.mark.torch


def in_threads(count, work):
    """What ``work`` gives in each of some threads that begin at once."""
    found, start = [None] * count, threading.Barrier(count)

    def one(number):
        start.wait()
        found[number] = work(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_values_go_to_the_thread_that_asked(cuda):
    def work(number):
        return [torch.full((3,), float(1000 * number + at), device="cuda").sum().item() for at in range(60)]

    assert in_threads(4, work) == [[3.0 * (1000 * number + at) for at in range(60)] for number in range(4)]


def test_threads_send_and_compute_at_once(cuda):
    """Each with kinds of calls of its own, so that all of them are new at once."""

    def work(number):
        sums = []
        for at in range(1, 25):
            x = torch.full((at, number + 2), float(number)).to("cuda")
            sums.append((x.t() @ x + number).sum().item())
        return sums

    expected = [
        [float((number + 2) ** 2 * (at * number**2 + number)) for at in range(1, 25)] for number in range(4)
    ]  # fmt: skip
    assert in_threads(4, work) == expected


def test_training_in_threads(cuda):
    def work(number):
        w = torch.full((3,), 1.0, device="cuda", requires_grad=True)
        for _ in range(10):
            (w * w).sum().backward()
            with torch.no_grad():
                w -= 0.1 * w.grad
                w.grad = None
        return w.tolist()

    found = in_threads(4, work)
    assert found == [found[0]] * 4
    torch.testing.assert_close(torch.tensor(found[0]), torch.full((3,), 0.8**10))


def test_a_forked_child_gets_an_error_and_its_parent_goes_on(address):
    code = """
        import os, torch
        x = torch.ones(3, device="cuda")
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                x.sum().item()
                said = "a value"
            except RuntimeError as error:
                said = f"{error} {torch.cuda._is_in_bad_fork()}"
            os.write(write, said.encode())
            del x
            os._exit(0)
        os.waitpid(child, 0)
        print(os.read(read, 1000).decode())
        print((x * 2).sum().item())
    """
    found = run(address, code)
    first, second = found.stdout.splitlines()
    assert first.startswith("the remote device cannot be used in a forked process") and first.endswith("True")
    assert second == "6.0", found.stderr


def test_workers_of_a_data_loader_and_pinned_memory(address):
    code = """
        import torch
        from torch.utils.data import DataLoader, TensorDataset
        torch.zeros(1, device="cuda").item()
        data = TensorDataset(torch.arange(12.0).reshape(6, 2), torch.arange(6))
        loader = DataLoader(data, batch_size=2, num_workers=2, pin_memory=True)
        print([[x.to("cuda", non_blocking=True).sum().item(), y.cuda().tolist()] for x, y in loader])
    """
    found = run(address, code)
    assert found.stdout == "[[6.0, [0, 1]], [22.0, [2, 3]], [38.0, [4, 5]]]\n", found.stderr


INTERRUPTED = """
    import sys, threading, time, traceback, torch
    x, y = torch.full((2,), 3.0, device="cuda"), torch.full((2,), 5.0, device="cuda")
    torch.cuda.synchronize()
    print("ready")
    input()

    def waits(stack):  # for an answer, and not for a thread to start
        return "client/session.py" in stack and "in wait" in stack

    def watch(main):
        while not waits("".join(traceback.format_stack(sys._current_frames()[main]))):
            time.sleep(0.01)
        print("waiting")

    threading.Thread(target=watch, args=(threading.get_ident(),), daemon=True).start()
    try:
        x.sum().item()
    except KeyboardInterrupt:
        print("interrupted")
    input()
    print(y.sum().item(), x.sum().item())
"""


def test_an_interrupt_while_a_value_is_awaited():
    with serving() as served, Conversation(served.address, INTERRUPTED) as program:
        assert program.hears() == "ready"
        (executor,) = served.executors()
        os.kill(executor, signal.SIGSTOP)
        program.tell()
        assert program.hears() == "waiting"
        program.process.send_signal(signal.SIGINT)
        assert program.hears() == "interrupted", program.end()
        os.kill(executor, signal.SIGCONT)
        program.tell()
        assert program.hears() == "10.0 6.0"
