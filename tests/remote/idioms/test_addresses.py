"""Where tensors lie: programs ask to find what shares memory."""

import itertools

import pytest
import torch

pytestmark = pytest.mark.torch


def test_views_lie_within_what_they_are_views_of(same):
    def program(device):
        whole = torch.arange(24.0, device=device).view(4, 6)
        views = [whole[1:], whole.t(), whole[2, 3:], whole.detach(), whole.view(-1)[-1], torch.nn.Parameter(whole)]
        storage = whole.untyped_storage()
        return [
            (view.data_ptr() - whole.data_ptr(), view.untyped_storage().data_ptr() == storage.data_ptr(),
             view.untyped_storage().nbytes(), view._typed_storage().data_ptr() == whole.data_ptr())
            for view in views
        ]  # fmt: skip

    same(program)


def test_tensors_of_their_own_lie_apart(same):
    def program(device):
        tensors = [torch.ones(3, device=device) for _ in range(3)]
        tensors += [tensors[0] + 1, tensors[0].clone(), tensors[0][1:].clone()]
        spans = sorted((one.data_ptr(), one.data_ptr() + one.nbytes) for one in tensors)
        apart = all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
        return apart, torch.empty(0, device=device).data_ptr(), len({one.untyped_storage()._cdata for one in tensors})

    same(program)


def test_what_becomes_another_lies_where_that_lies(cuda):
    one, other = torch.ones(2, device=cuda), torch.zeros(2, device=cuda)
    one.data = other
    assert one.data_ptr() == other.data_ptr()


def test_what_lies_there_cannot_be_read(cuda):
    tensor = torch.ones(2, device=cuda)
    with pytest.raises(NotImplementedError, match="untyped_storage: its bytes are on a remote device"):
        tensor.untyped_storage()[0]
    assert not hasattr(tensor, "__cuda_array_interface__")
