"""Where an error of the executor is raised: at the next value that is waited for, or at its own call if each is."""

import pytest

from tests.remote.server import run

pytestmark = pytest.mark.torch

BLOCKING = "TESSERA_LAUNCH_BLOCKING"
ERRORS = {
    "an operator": "IndexError", "in place": "IndexError", "two results": "_LinAlgError", "backward": "IndexError",
    "a copy": "OutOfMemoryError", "a program": "IndexError", "a state": "RuntimeError",
}  # fmt: skip

PROGRAM = """
    import torch, tessera.remote

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, given):
            return given * 2

        @staticmethod
        def backward(ctx, grad):
            return grad[wrong].sum().expand(3)

    class Picks(torch.nn.Module):
        def forward(self, given, at):
            return given[at] * 2

    x, wrong, singular = (torch.tensor(of, device="cuda") for of in ([0.0, 1, 2], [0, 9], [[0.0, 0], [0, 0]]))
    held = torch.empty(5 << 19, device="cuda")
    picks = tessera.remote.capture(Picks())
    with torch.no_grad():
        for _ in range(2):
            picks(x, wrong.clamp(0, 1))
    torch.cuda.synchronize()

    def raised(work):
        try:
            work()
        except Exception as error:
            return type(error).__name__

    for name, work in {
        "an operator": lambda: x[wrong],
        "in place": lambda: x.clone().index_fill_(0, wrong, 1),
        "two results": lambda: torch.linalg.inv_ex(singular, check_errors=True),
        "backward": Wrong.apply(x.clone().requires_grad_()).sum().backward,
        "a copy": lambda: held.copy_(torch.ones(5 << 19)),
        "a program": lambda: picks(x, wrong),
        "a state": lambda: torch.cuda.set_rng_state(torch.zeros(3, dtype=torch.uint8)),
    }.items():
        print([name, raised(work), raised(torch.cuda.synchronize)])
    print(torch.ones(2, device="cuda").sum().item())
"""


@pytest.mark.parametrize("blocking", ["0", "1"])
def test_where_an_error_is_raised(address, monkeypatch, blocking):
    monkeypatch.setenv(BLOCKING, blocking)
    found = run(address, PROGRAM, "--gpu-mem", "16Mi")
    expected = [[name, *((error, None) if blocking == "1" else (None, error))] for name, error in ERRORS.items()]
    assert found.stdout.splitlines() == [*map(str, expected), "2.0"], found.stderr


def test_what_is_neither_is_refused_in_a_sentence(address, monkeypatch):
    monkeypatch.setenv(BLOCKING, "yes")
    found = run(address, 'import torch; torch.ones(1, device="cuda")')
    assert found.returncode and f"{BLOCKING}: found 'yes'; allowed: 0 or 1" in found.stderr.splitlines()[-1]
