"""``torch.cuda.FloatTensor`` and its like."""

import pytest
import torch

pytestmark = pytest.mark.torch

TYPES = {
    "FloatTensor": torch.float32, "DoubleTensor": torch.float64, "HalfTensor": torch.float16, "LongTensor": torch.int64,
    "IntTensor": torch.int32, "ByteTensor": torch.uint8, "BoolTensor": torch.bool, "BFloat16Tensor": torch.bfloat16,
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_a_type_makes_tensors_of_its_dtype_on_the_device(cuda, name):
    kind = getattr(torch.cuda, name)
    made = kind([[1, 0], [0, 1]])
    assert (made.device.type, made.dtype, made.tolist()) == ("cuda", TYPES[name], [[1, 0], [0, 1]])
    assert kind(2, 3).shape == (2, 3) and kind.dtype == TYPES[name] and kind.is_cuda


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("by", ["type", "name"])
def test_a_tensor_takes_a_type(cuda, name, by):
    wanted = getattr(torch.cuda, name) if by == "type" else f"torch.cuda.{name}"
    for before in (torch.ones(2), torch.ones(2, device=cuda)):
        after = before.type(wanted)
        assert (after.device.type, after.dtype, after.type()) == ("cuda", TYPES[name], f"torch.cuda.{name}")


def test_of_which_type_a_tensor_is(cuda):
    there, here = torch.ones(2, device=cuda), torch.ones(2)
    assert isinstance(there, torch.cuda.FloatTensor) and not isinstance(there, torch.cuda.LongTensor)
    assert not isinstance(here, torch.cuda.FloatTensor) and isinstance(here, torch.FloatTensor)
    assert (there.type(), here.type()) == ("torch.cuda.FloatTensor", "torch.FloatTensor")
    assert there.type(torch.FloatTensor).device.type == "cpu" and there.type(torch.float64).device.type == "cuda"


@pytest.mark.filterwarnings("ignore:torch.set_default_tensor_type")
def test_as_the_type_of_what_is_made(cuda):
    torch.set_default_tensor_type("torch.cuda.DoubleTensor")
    try:
        made = torch.ones(2), torch.nn.Linear(2, 1).weight
    finally:
        torch.set_default_tensor_type(torch.FloatTensor)
    assert [(one.device.type, one.dtype) for one in made] == [("cuda", torch.float64)] * 2
    assert (torch.ones(2).device.type, torch.ones(2).dtype) == ("cpu", torch.float32)


@pytest.mark.filterwarnings("ignore:torch.set_default_tensor_type")
def test_a_default_device_of_the_programs_own_stays(cuda):
    torch.set_default_device(cuda)
    try:
        torch.set_default_tensor_type(torch.DoubleTensor)
        made = torch.ones(2)
    finally:
        torch.set_default_device(None)
        torch.set_default_tensor_type(torch.FloatTensor)
    assert (made.device.type, made.dtype) == ("cuda", torch.float64)
