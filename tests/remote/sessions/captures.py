"""How the tests of capture call a module and hold what it gives against what it gives operator by operator."""

import re
import warnings
from contextlib import contextmanager

import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only

import tessera.remote


def tensor(cuda, *sizes):
    count = torch.Size(sizes).numel()
    return torch.linspace(-1, 1, count).reshape(sizes).to(cuda)


def assert_same(found, expected):
    """To the bit, and of the same kinds."""
    here = [tree_map_only(torch.Tensor, torch.Tensor.cpu, one) for one in (found, expected)]
    torch.testing.assert_close(*here, rtol=0, atol=0)
    assert (type(found), tree_flatten(found)[1]) == (type(expected), tree_flatten(expected)[1])
    for one, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        if isinstance(one, torch.Tensor):
            assert kind(one) == kind(other)


def kind(tensor):
    """What is seen of it without its numbers."""
    lies = (tensor.stride(), tensor.storage_offset(), tensor.dtype, tensor.device)
    return (*lies, tensor.requires_grad, tensor.is_inference(), tensor.is_conj())


def said(module, *args, calls=2, **kwargs):
    """The warnings of some calls, of which each has to give what the module gives."""
    fast = tessera.remote.capture(module)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(calls):
            expected = module(*args, **kwargs)
            assert_same(fast(*args, **kwargs), expected)
    assert all(one.filename == __file__ for one in told)
    return [str(one.message) for one in told]


@contextmanager
def warned_once(why):
    """Without gradients."""
    with torch.no_grad(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield
    (one,) = told
    assert re.search(f"runs operator by operator: .*{why}", str(one.message))
