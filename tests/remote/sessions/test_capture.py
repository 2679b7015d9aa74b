"""A captured module gives what it gives operator by operator, or says once why it is not one program."""

import os
import re
import subprocess
import sys
import warnings

import pytest
import torch

import tessera.remote
from tessera.remote.client.tensor import RemoteTensor
from tests.remote.server import run, serving
from tests.remote.sessions.captures import assert_same, said, tensor
from tests.remote.sessions.modules import CASES, Of, mlp

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_gives_what_the_module_gives_and_sends_one_record_a_call(cuda, sent, case, mode):
    make, sizes = CASES[case]
    module = make().to(cuda).eval()
    with mode():
        assert said(module, tensor(cuda, *sizes), calls=3) == []
        fast, others = tessera.remote.capture(module), tensor(cuda, *sizes) * 3
        fast(tensor(cuda, *sizes))
        sent.clear()
        found = fast(others)
        assert sent == [15]
        assert_same(found, module(others))


def test_without_gradients_to_ask_for_no_mode_is_needed(cuda, sent):
    module = mlp().to(cuda).eval().requires_grad_(False)
    assert said(module, tensor(cuda, 5, 6)) == [] and sent.count(15) == 1


def test_parameters_and_buffers_are_read_at_each_call(cuda):
    module = mlp().to(cuda).eval()
    optimizer = torch.optim.SGD(module.parameters(), 0.5)
    fast, x = tessera.remote.capture(module), tensor(cuda, 5, 6)

    def step():
        module(x).square().sum().backward()
        optimizer.step()

    def load():
        module.load_state_dict({name: one * 2 for name, one in module.state_dict().items()})

    def assign():
        module[0].weight = torch.nn.Parameter(tensor(cuda, 8, 6))

    def replace():
        module[3] = torch.nn.Linear(8, 3, bias=False).to(cuda)

    def take_away():
        module[0].bias = None

    before = None
    for change in (lambda: None, step, load, assign, replace, take_away):
        change()
        with torch.no_grad():
            found = fast(x)
            assert_same(found, module(x))
        assert before is None or not torch.equal(found, before)
        before = found


def test_tied_weights_are_untied(cuda):
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)).to(cuda)
    module[1].weight = module[0].weight
    with torch.no_grad():
        fast, x = tessera.remote.capture(module), tensor(cuda, 2, 3)
        for _ in range(2):
            assert_same(fast(x), module(x))
        module[1].weight = torch.nn.Parameter(tensor(cuda, 3, 3))
        assert_same(fast(x), module(x))


def test_each_signature_is_a_program_up_to_a_number(cuda, sent):
    module = mlp().to(cuda).eval()
    with torch.no_grad(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fast = tessera.remote.capture(module)
        for _ in range(2):
            for rows in range(1, 11):
                x = tensor(cuda, rows, 6)
                assert_same(fast(x), module(x))
    assert (sent.count(14), sent.count(15)) == (8, 8)
    assert [str(one.message).split(": ")[-1] for one in told] == ["it was called with more than 8 signatures"]


def test_views_and_constants(cuda, sent):
    def forward(self, x):
        steps = torch.arange(3, device=x.device) + torch.tensor([1.0, 2.0, 4.0]).to(cuda)
        made = (x + steps).t()
        return made, (x * 2)[1:], made

    module, x = Of(forward).to(cuda), tensor(cuda, 4, 3)
    with torch.no_grad():
        assert said(module, x.flip(0), calls=3) == [] and said(module, x[::2], calls=3) == []
        fast = tessera.remote.capture(module)
        fast(x)
        first, _, last = fast(x)
    assert first is last and sent.count(15) == 5


def changed(function):
    """In place, so that calling it twice is no difference."""
    return lambda self, x: (function(self, x), x * 2)[1]


def branching(self, x):
    return x + 1 if x.sum() > 0 else x - 1


def without_gradients(self, x):
    with torch.enable_grad():
        return x.sin()


REASONS = {
    "branch": (branching, "torch.export: "),
    "value": (lambda self, x: x * x.sum().item(), "it reads a value of a tensor"),
    "size": (lambda self, x: x.nonzero() + 1, "data"),
    "dropout": (lambda self, x: torch.nn.functional.dropout(x, 0.0, True), r"aten.dropout.default is in training mode"),
    "noise": (lambda self, x: x + 0 * torch.rand(3, device=x.device), "draws random numbers"),
    "noise from here": (lambda self, x: x + 0 * torch.rand(3).to(x.device), "draws random numbers"),
    "argument written": (changed(lambda self, x: x.zero_()), "writes to a tensor that the module was given"),
    "view written": (changed(lambda self, x: x.view(-1)[1:].zero_()), "writes to a tensor that the module was given"),
    "buffer written": (changed(lambda self, x: self.seen.fill_(2)), "writes to a tensor that the module was given"),
    "argument turned": (changed(lambda self, x: x.t_().t_()), "gives parameters, buffers or arguments other tensors"),
    "argument returned": (lambda self, x: (x, x * 2), "a result is a tensor that the module was given"),
    "view returned": (lambda self, x: x.view(-1), "a result is a tensor that the module was given"),
    "parameter returned": (lambda self, x: self.weight.detach(), "a result is a tensor that the module was given"),
    "shared results": (lambda self, x: (x * 2).chunk(2), "two of its results share memory"),
    "result to learn": (lambda self, x: (x * 2).requires_grad_(), "a result requires gradients"),
    "tensor in an attribute": (lambda self, x: x + self.table, "torch.export: "),
    "higher order": (without_gradients, "higher-order operator"),
    "on the processor": (lambda self, x: (x * 2, torch.ones(2)), "a result is a tensor on cpu"),
}  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
def test_what_cannot_be_a_program_runs_as_always_with_one_warning(cuda, reason):
    function, why = REASONS[reason]
    module = Of(function).to(cuda)
    module.table = tensor(cuda, 3)
    with torch.no_grad():
        (told,) = said(module, tensor(cuda, 2, 3), calls=3)
    assert told.startswith("tessera.remote.capture: Of runs operator by operator: ")
    assert re.search(why, told)


def test_in_training_it_runs_as_always_with_one_warning(cuda):
    module, x = mlp().to(cuda).eval(), tensor(cuda, 5, 6)
    (told,) = said(module, x)
    assert "it requires gradients" in told
    norm = torch.nn.BatchNorm1d(6).to(cuda)
    with torch.no_grad():
        (told,) = said(norm, x)
        assert "is in training mode" in told and norm.num_batches_tracked.item() == 4


def tuned(self, x):
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        return x * 2


def test_what_is_around_a_call_counts(cuda):
    module, x = mlp().to(cuda).eval(), tensor(cuda, 5, 6)
    with torch.no_grad():
        with torch.autocast(cuda, torch.bfloat16):
            assert "autocast is on" in said(module, x)[0]
        assert "changes a setting of torch" in said(Of(tuned).to(cuda), x)[0]
        assert "on cpu" in said(Of(lambda self, x: x * 2).to(cuda), torch.ones(()))[0]
        assert "not on the remote device" in said(mlp().eval(), torch.ones(5, 6))[0]
    with pytest.raises(TypeError, match=r"module: found function; allowed: torch\.nn\.Module"):
        tessera.remote.capture(mlp)


def test_without_a_remote_device_it_runs_as_always():
    code = "import torch, tessera.remote; print(tessera.remote.capture(torch.nn.ReLU())(torch.ones(2)).tolist())"
    environment = {name: value for name, value in os.environ.items() if name != "TESSERA_POOL"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert found.stdout == "[1.0, 1.0]\n", found.stderr
    assert "ReLU runs operator by operator: there is no remote device here" in found.stderr


def test_an_error_in_it_is_told_at_the_next_value_and_the_next_call_is_fine(cuda):
    module = Of(lambda self, table, at: torch.nn.functional.embedding(at, table) * 2).to(cuda)
    fast, table = tessera.remote.capture(module), tensor(cuda, 4, 3)
    with torch.no_grad():
        good, bad = torch.tensor([1, 2]).to(cuda), torch.tensor([1, 9]).to(cuda)
        fast(table, good)
        failed = fast(table, bad)
        with pytest.raises(IndexError, match="index out of range"):
            torch.cuda.synchronize()
        with pytest.raises(IndexError, match="index out of range"):
            failed.cpu()
        assert_same(fast(table, good), module(table, good))


OVER = """
    import torch, tessera.remote
    class Doubling(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x, x]) * 2
    fast, x = tessera.remote.capture(Doubling()), torch.ones(1 << 18, device="cuda")
    kept = [fast(x)]
    try:
        kept += [fast(x), fast(x)]
        torch.cuda.synchronize()
    except torch.OutOfMemoryError as error:
        print(str(error)[:9])
    del kept
    print(fast(x).sum().item(), len(fast._known))
"""


def test_over_the_limit_it_is_out_of_memory_and_the_session_goes_on():
    with serving("--gpu-mem", "6Mi") as served:
        found = run(served.address, OVER)
    assert found.stdout.splitlines() == ["the slice", f"{float(1 << 20)} 1"], found.stderr


def test_only_results_are_held_and_programs_go_with_their_module(cuda):
    module, x = mlp().to(cuda).eval(), tensor(cuda, 5, 6)
    with torch.no_grad():
        fast = tessera.remote.capture(module)
        fast(x)
        before = torch.cuda.memory_allocated()
        kept = [fast(x) for _ in range(4)]
        assert torch.cuda.memory_allocated() == before + 4 * kept[0].nbytes
        plans = RemoteTensor.remote.plans
        programs = len(plans.programs)
        del fast
        assert len(plans.programs) == programs - 1
        torch.cuda.synchronize()


def test_numbers_that_begin_anew(cuda, sent):
    module, x = mlp().to(cuda).eval(), tensor(cuda, 5, 6)
    with torch.no_grad():
        fast = tessera.remote.capture(module)
        fast(x)
        with RemoteTensor.remote.plans.lock:
            RemoteTensor.remote.plans._renew()
        for _ in range(3):
            assert_same(fast(x), module(x))
    assert (sent.count(14), sent.count(15)) == (2, 2)
