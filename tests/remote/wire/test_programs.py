"""Programs on a real server: what their calls may, hold and fail at is what calls may that come alone."""

from collections.abc import Iterator

import pytest
import torch

from tessera.remote.protocol import programs, records, replies
from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.schemas import name_of, schema_number
from tessera.remote.protocol.values import Slot
from tests.remote.wire.client import Client
from tests.remote.wire.served import Served, serving

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]
aten = torch.ops.aten
KIB = 1 << 10
WIDE = ((256 * KIB,), (1,))
"""1 MiB of float32."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served"), "--insecure-loopback", "--gpu-mem", "4Mi") as found:
        yield found


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    made = Client((served.host, served.port))
    made.send(records.New(1, "float32", (256 * KIB,)))
    made.peer.send(Kind.UPLOAD, bytes(1024 * KIB))
    made.send(
        form(0, aten.add.Tensor, 2), form(1, aten.mm.default, 2),
        records.Form(2, "aten::not_there", 0, [Slot.TENSOR, Slot.TENSOR], []), records.Layout(1, (WIDE,)),
    )  # fmt: skip
    yield made
    made.close()


def form(number: int, function: torch._ops.OpOverload, tensors: int) -> records.Form:
    return records.Form(number, name_of(function), schema_number(function), [Slot.TENSOR] * tensors, [])


def program(*nodes: tuple[int, tuple[int, ...]], kept: tuple[int, ...]) -> programs.Program:
    """Of one input; each node: form, what it takes."""
    return programs.Program(0, 1, tuple(programs.Node(number, 1, taken, ()) for number, taken in nodes), kept)


def run(first: int, handle: int = 1) -> bytes:
    return programs.run_struct(1).pack(records.Code.RUN, 0, first, handle)


def memory(client: Client) -> replies.Reply | None:
    client.send(records.Memory(1))
    return client.answer()


def test_what_lies_between_is_freed_after_its_last_use(client: Client) -> None:
    client.send(program((0, (0, 0)), (0, (1, 1)), (0, (2, 2)), (0, (3, 0)), kept=(3,)), run(10))
    assert memory(client) == replies.Memory(1, 2048 * KIB, 3072 * KIB)
    client.send(run(20, 13), records.Free((13,)))
    assert memory(client) == replies.Memory(1, 2048 * KIB, 4096 * KIB)


def test_over_the_limit_it_fails_and_the_session_goes_on(client: Client) -> None:
    client.send(program(*[(0, (0, 0))] * 4, kept=(0, 1, 2, 3)), run(10))
    failed = client.sync()
    assert isinstance(failed, replies.Failed) and failed.kind == "OutOfMemoryError"
    client.send(records.Read(1, 13))
    assert isinstance(client.answer(), replies.Failed)
    client.send(records.Free((10, 11, 12, 13)))
    assert memory(client) == replies.Memory(1, 1024 * KIB, 4096 * KIB)
    client.send(program((0, (0, 0)), kept=(0,)), run(20))
    assert client.sync() == replies.Done(1)


@pytest.mark.parametrize(
    ("number", "said"),
    [(1, "must be a matrix"), (2, "operator: found 'aten::not_there'")],
    ids=["an error", "not listed"],
)
def test_who_takes_what_failed_is_poisoned_and_told_why(client: Client, number: int, said: str) -> None:
    client.send(program((number, (0, 0)), (0, (1, 0)), (0, (2, 2)), (0, (0, 0)), kept=(2, 3)), run(10))
    client.send(records.Sync(1), records.Read(2, 12), records.Read(3, 13))
    for request in (1, 2):
        failed = client.answer()
        assert isinstance(failed, replies.Failed) and failed.request == request and said in failed.text
    assert client.answer() == replies.Bytes(3, 1024 * KIB)


@pytest.mark.parametrize("handle", [99, 10])
def test_an_input_that_is_not_held_ends_the_session(client: Client, handle: int) -> None:
    client.send(program((0, (0, 0)), kept=(0,)), run(10, handle))
    assert client.lost.wait(60)


def test_a_program_that_is_not_known_ends_the_session(client: Client) -> None:
    client.send(run(10))
    assert client.lost.wait(60)
