"""Values that end torch's process are refused in a sentence, and the session goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tessera.remote.executor.overloads import list_of
from tessera.remote.generator_states import put_state
from tessera.remote.protocol import records, replies
from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.schemas import name_of, schema_number
from tessera.remote.protocol.values import Named, Slot, Tag, Value
from tests.remote.wire.client import Client
from tests.remote.wire.served import Served, serving

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]
aten = torch.ops.aten
DEVICE: list[Value] = ["device", Slot.DEVICE]
BY_NAME = "allowed: a dtype by its name"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served"), "--insecure-loopback") as found:
        yield found


def called(client: Client, function: Any, args: list[Value], kwargs: list[Value]) -> replies.Reply | None:
    """With tensor 1 in each slot of a tensor."""
    form = records.Form(1, name_of(function), schema_number(function), args, kwargs)
    tensors, _ = records.slots_of([*args, *kwargs])
    client.send(form, records.Call(1, 0, 100, (1,) * tensors, (), request=1))
    return client.answer()


@pytest.mark.parametrize(("function", "args", "kwargs", "said"), [
    (aten.view.dtype, [Slot.TENSOR, -1], [], BY_NAME),
    (aten.view_copy.dtype_out, [Slot.TENSOR, -8], ["out", Slot.TENSOR], BY_NAME),
    (aten.as_tensor.default, [Slot.TENSOR], ["dtype", -1, *DEVICE], BY_NAME),
    (aten.randint.low, [0, 9, [2]], ["dtype", -8, *DEVICE], BY_NAME),
    (aten.randperm.generator, [4], ["generator", Slot.GENERATOR, "dtype", (1 << 63) - 1, *DEVICE], BY_NAME),
    (aten.randint.low, [0, 9, [2]], ["layout", 1, *DEVICE], "allowed: a layout by its name"),
    (aten.randint.low, [0, 9, [2]], ["dtype", Named(Tag.LAYOUT, "strided"), *DEVICE], BY_NAME),
    (aten.randint.low, [0, 9, [2]], ["device", 1], "allowed: the session's device"),
    (aten.randint.low, [0, 9, [2]], ["device", "cpu"], "allowed: the session's device"),
])  # fmt: skip
def test_torchs_constants_are_said_by_name(
    served: Served, function: Any, args: list[Value], kwargs: list[Value], said: str
) -> None:
    client = Client((served.host, served.port))
    client.send(records.New(1, "float32", (3,)))
    client.peer.send(Kind.UPLOAD, bytes(12))
    failed = called(client, function, args, kwargs)
    assert isinstance(failed, replies.Failed) and said in failed.text, failed
    assert isinstance(called(client, aten.view.dtype, [Slot.TENSOR, Named(Tag.DTYPE, "int32")], []), replies.Outputs)
    client.close()


@pytest.mark.parametrize("path", sorted(list_of("2.15").parent.glob("*.txt")), ids=lambda path: path.stem)
def test_what_believes_its_sizes_is_on_no_list(path: Path) -> None:
    listed = path.read_text().split()
    assert "aten::add.Tensor" in listed
    assert not [name for name in listed if "_slow_conv2d_backward" in name or "_sparse_broadcast_to" in name]


def test_a_generator_does_not_read_behind_its_words():
    """torch itself takes such a state, and draws what lies there."""
    generator = torch.Generator()
    torch.rand(3, generator=generator)
    state = generator.get_state()
    put_state(generator, state)
    drawn = torch.rand(700, generator=generator)
    put_state(generator, state)
    assert torch.equal(torch.rand(700, generator=generator), drawn)
    state[8:12] = torch.tensor([112, 2, 0, 0])
    state[16:24] = torch.tensor([112, 2, 0, 0, 0, 0, 0, 0])
    with pytest.raises(RuntimeError, match="found 624 words left at word 624; allowed: 625 together"):
        put_state(generator, state)
