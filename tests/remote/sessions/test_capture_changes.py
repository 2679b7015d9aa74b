"""What a module does to itself, what is done to it between calls, and who else runs it meanwhile."""

import copy
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import tessera.remote
from tests.remote.sessions.captures import assert_same, tensor, warned_once
from tests.remote.sessions.modules import Of, convolutions, mlp

pytestmark = pytest.mark.torch


def counted(self, x):
    self.count = getattr(self, "count", 0) + 1
    return x * self.count


def kept(self, x):
    self.last = x * 2
    return x + 1


def cached(self, x):
    before = getattr(self, "cache", None)
    self.cache = x * 1 if before is None else torch.cat([before, x])
    return self.cache.sum(0)


def cached_in_a_dict(self, x):
    if "table" not in self.tables:
        self.tables["table"] = [x * 2]
    return self.tables["table"][0] + x


def listed(self, x):
    self.shapes.append(len(x))
    return x * len(self.shapes)


def written(self, x):
    self.seen[0] = x.sum()
    return self.seen * 2


def moved_along(self, x):
    self.seen.copy_(self.seen.roll(1))
    self.seen[:1] = x.sum()
    return self.seen + x


def lengthened(self, x):
    self.seen = torch.cat([self.seen, x.sum(0)])
    return self.seen.sum() + x


def registered(self, x):
    if "more" not in self._buffers:
        self.register_buffer("more", x * 2)
    return self.more + x


WRITES = "writes to a tensor that the module was given"
CHANGES = {
    counted: "it assigns to count",
    kept: "it assigns to last",
    cached: "it assigns to cache",
    cached_in_a_dict: r"it assigns to tables\.table",
    listed: "it assigns to shapes",
    written: WRITES,
    moved_along: WRITES,
    lengthened: "gives parameters, buffers or arguments other tensors",
    registered: r"it assigns to _buffers\.more",
}


@pytest.mark.parametrize("forward", CHANGES, ids=lambda forward: forward.__name__)
def test_what_a_module_does_to_itself_is_done_once_a_call(cuda, forward):
    """As to another that runs operator by operator: nothing twice at the first call, nothing left out later."""
    module, twin = (Of(forward).to(cuda) for _ in range(2))
    for one in (module, twin):
        one.tables, one.shapes = {}, []
    fast = tessera.remote.capture(module)
    with warned_once(CHANGES[forward]):
        for times in (1, 2, 3, 4):
            x = tensor(cuda, 2, 3) * times
            assert_same(fast(x), twin(x))
            assert_same(dict(module.state_dict()), dict(twin.state_dict()))
            for name in ("count", "last", "cache", "tables", "shapes"):
                assert_same(getattr(module, name, None), getattr(twin, name, None))


def test_what_it_does_to_its_arguments(cuda):
    def forward(self, given):
        given["calls"] = given.get("calls", 0) + 1
        return given["x"] * given["calls"]

    fast, x = tessera.remote.capture(Of(forward).to(cuda)), tensor(cuda, 2, 3)
    with warned_once("gives parameters, buffers or arguments other"):
        for _ in range(3):
            given = {"x": x}
            assert_same(fast(given), x)
            assert given["calls"] == 1


def test_hooks_are_called_at_each_call(cuda, sent):
    module, x, seen = mlp().to(cuda).eval(), tensor(cuda, 5, 6), []
    fast = tessera.remote.capture(module)
    with torch.no_grad():
        fast(x)
        hook = module[0].register_forward_hook(lambda part, args, found: seen.append(found) or found * 2)
        with warned_once("a part of it has hooks"):
            for _ in range(2):
                assert_same(fast(x), module(x))
        assert [type(one) for one in seen] == [type(x)] * 4
        hook.remove()
        sent.clear()
        assert_same(fast(x), module(x))
    assert sent[0] == 15


def test_the_statistics_of_batch_norm_are_read_at_each_call(cuda, sent):
    module, x = convolutions().to(cuda).eval(), tensor(cuda, 2, 3, 8, 8)
    fast, before = tessera.remote.capture(module), None
    with torch.no_grad():
        for _ in range(3):
            found = fast(x)
            assert_same(found, module(x))
            assert before is None or not torch.equal(found, before)
            before = found
            module.train()(x * 3)
            module.eval()
    assert (sent.count(14), sent.count(15)) == (1, 2)


def test_a_module_is_given_other_parameters(cuda, sent):
    module, other, x = mlp().to(cuda).eval(), mlp().to(cuda), tensor(cuda, 5, 6)
    fast = tessera.remote.capture(module)

    def check(given, programs, runs):
        with torch.no_grad():
            assert_same(fast(given), module(given))
        assert (sent.count(14), sent.count(15)) == (programs, runs)

    check(x, 1, 0)
    module.load_state_dict(other.state_dict())
    check(x, 1, 1)
    module.load_state_dict(mlp().to(cuda).state_dict(), assign=True)
    check(x, 1, 2)
    module.to(torch.float64)
    check(x.double(), 2, 2)
    module.to(torch.float32)
    check(x, 2, 3)
    module.to("cpu").to(cuda)
    check(x, 2, 4)
    module.load_state_dict(copy.deepcopy(other).state_dict(), assign=True)
    module.requires_grad_(False)
    assert_same(fast(x), module(x))
    module.requires_grad_(True)
    with pytest.warns(UserWarning, match="it requires gradients"):
        fast(x).sum().backward()
    assert module[0].weight.grad is not None
    check(x, 2, 6)


def test_a_module_that_has_left_the_device_runs_where_it_is(cuda):
    module = mlp().to(cuda).eval()
    fast, x = tessera.remote.capture(module), tensor(cuda, 5, 6)
    with torch.no_grad():
        fast(x)
        module.to("cpu")
        with pytest.warns(UserWarning, match="not on the remote device"):
            assert_same(fast(x.cpu()), module(x.cpu()))


@pytest.mark.parametrize("known", [False, True])
def test_a_captured_module_within_another_is_part_of_its_program(cuda, sent, known):
    inner = tessera.remote.capture(Of(lambda self, x: x * 2).to(cuda))
    outer = tessera.remote.capture(Of(lambda self, x: inner(x) + 1).to(cuda).requires_grad_(False))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        if known:
            inner(tensor(cuda, 2, 3))
        for times in (1, 5, 7):
            x = tensor(cuda, 2, 3) * times
            sent.clear()
            assert_same(outer(x), x * 2 + 1)
    assert sent[0] == 15 and 14 not in sent


def test_what_another_thread_makes_is_no_constant(cuda):
    def forward(self, x):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: x * 3).result() + x

    fast = tessera.remote.capture(Of(forward).to(cuda))
    with warned_once("it takes a tensor that another thread makes"):
        for times in (1, 2, 3):
            x = tensor(cuda, 2, 3) * times
            assert_same(fast(x), x * 3 + x)


def at_once(calls):
    """Each in a thread of its own, from one moment on; raises what one raises."""
    together = threading.Barrier(len(calls))

    def run(call):
        together.wait(60)
        with torch.no_grad():
            call()

    with ThreadPoolExecutor(len(calls)) as pool:
        for _ in pool.map(run, calls):
            pass


def test_threads_share_a_module(cuda, sent):
    """The module runs as always in some while another captures it."""
    module = mlp().to(cuda).eval()
    fast = tessera.remote.capture(module)

    def calls(times):
        x = tensor(cuda, 5, 6) * times
        for _ in range(20):
            assert_same(fast(x), module(x))

    at_once([lambda times=times: calls(times) for times in (1, 2, 3)])
    assert (sent.count(14), sent.count(15)) == (1, 59)


def test_threads_capture_modules_at_once(cuda, sent):
    modules, before = [mlp().to(cuda).eval() for _ in range(3)], torch.nn.Module.__call__

    def calls(module):
        fast, x = tessera.remote.capture(module), tensor(cuda, 5, 6)
        for _ in range(3):
            assert_same(fast(x), module(x))

    at_once([lambda module=module: calls(module) for module in modules])
    assert (sent.count(14), sent.count(15)) == (3, 6)
    assert torch.nn.Module.__call__ is before
