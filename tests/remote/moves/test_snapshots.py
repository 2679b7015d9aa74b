"""Whatever a session can hold is in its copy, and a copy that is none is refused in a sentence."""

import random

import pytest
import torch

from tessera.remote.executor import snapshots
from tessera.remote.executor.interpreter import Interpreter
from tessera.remote.protocol import programs, records, replies
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.link import Numbered
from tessera.remote.protocol.schemas import schema_number
from tessera.remote.protocol.values import Slot
from tests.remote.fuzz.decoder import Bytes
from tests.remote.fuzz.mutations import mutated
from tests.remote.wire.client import packed

pytestmark = pytest.mark.torch

KEPT = [Numbered(6, Kind.REPLY, b"an answer", 9), Numbered(7, Kind.DATA, b"", 9)]


class Recorded(Bytes):
    def __init__(self, data=b""):
        super().__init__(data)
        self.written = bytearray()

    def sendall(self, data):
        self.written += data


def interpreter(limit_bytes=0, answers=None):
    told = answers if answers is not None else []
    return Interpreter(torch.device("cpu"), limit_bytes, lambda kind, payload: told.append(payload))


def full():
    """An interpreter with one of everything."""
    made = interpreter()
    base = torch.arange(24, dtype=torch.float32)
    held = {
        1: base, 2: base.view(4, 6).t(), 3: base[3:9:2], 4: torch.zeros(0, 3), 5: torch.tensor(2.5),
        6: torch.complex(base, -base).conj(), 7: torch.complex(base, base).imag.neg(),
        8: torch._neg_view(base.double()), 9: torch._efficientzerotensor((2, 3)), 10: torch.ones(1).expand(5),
        11: torch.tensor([True, False]), 12: base.to(torch.bfloat16),
    }  # fmt: skip
    for handle, tensor in held.items():
        made.store.put(handle, tensor)
    said = [
        records.Form(3, "aten::neg", 0, [Slot.TENSOR], []), records.Layout(2, (((2,), (1,)),)),
        programs.Program(1, 1, (programs.Node(3, 2, (0,), ()),), (0,)),
        records.Setting(7, 1), records.Setting(7, 0), records.Generator(40, 9), records.New(50, "float32", (2, 3)),
    ]  # fmt: skip
    made.take(Kind.BATCH, b"".join(map(packed, said)))
    made.take(Kind.UPLOAD, bytes(range(9)))
    made.store.poison((20, 21), ValueError("no such size"))
    made.store.poison((22,), torch.OutOfMemoryError("too much"))
    made.error = made.store.poisoned()[0][1]
    torch.rand(3, generator=made.generators.get(40))
    return made


def written(made):
    stream = Recorded()
    snapshots.write(made, (4, 5, KEPT), stream)
    return bytes(stream.written)


def test_everything_is_as_it_was():
    torch.manual_seed(3)
    before = full()
    torch.rand(2)
    data = written(before)
    assert len(data) <= snapshots.size_of(before, (4, 5, KEPT))
    drawn, others = torch.rand(4), torch.rand(4, generator=before.generators.get(40))
    told = []
    after = interpreter(answers=told)
    outbox, inbox = snapshots.restore(after, Recorded(data))
    assert (outbox.acknowledged, outbox.last, inbox.last, inbox.taken) == (5, 7, 4, 4)
    assert [(one.kind, one.payload) for one in outbox.kept()] == [(one.kind, one.payload) for one in KEPT]
    for (handle, one), (same, other) in zip(before.store.tensors(), after.store.tensors(), strict=True):
        assert handle == same and (one.stride(), one.dtype) == (other.stride(), other.dtype)
        assert (one.is_conj(), one.is_neg(), one._is_zerotensor()) == (
            other.is_conj(), other.is_neg(), other._is_zerotensor(),
        )  # fmt: skip
        torch.testing.assert_close(one.clone(), other.clone(), rtol=0, atol=0)
    assert after.batches.known() == before.batches.known() and len(after.batches.known()) == 4
    assert after.store.used_bytes == before.store.used_bytes and after.store.peak_bytes == before.store.peak_bytes
    after.store.get(1)[3] = 100
    assert after.store.get(3)[0] == 100 and after.store.get(2)[3, 0] == 100
    assert torch.equal(torch.rand(4), drawn)
    assert torch.equal(torch.rand(4, generator=after.generators.get(40)), others)
    after.take(Kind.UPLOAD, bytes(range(9, 24)))
    assert bytes(after.store.get(50).view(torch.uint8).flatten().tolist()) == bytes(range(24))
    after.take(Kind.BATCH, packed(records.Sync(1)) + packed(records.Read(2, 22)))
    assert [replies.decode(one) for one in told] == [
        replies.Failed(1, "ValueError", "no such size"),
        replies.Failed(2, "OutOfMemoryError", "too much"),
    ]


def doubling(number):
    """Twice its input, negated in between; the layout of the one result is 2."""
    form = records.Form(number, "aten::neg", schema_number(torch.ops.aten.neg.default), [Slot.TENSOR], [])
    nodes = (programs.Node(number, 2, (0,), ()), programs.Node(number, 2, (1,), ()))
    return [form, records.Layout(2, (((2,), (1,)),)), programs.Program(5, 1, nodes, (1,))]


def ran(number, into, handle):
    return programs.run_struct(1).pack(records.Code.RUN, number, into, handle)


def test_programs_are_known_there_and_may_be_forgotten():
    before = interpreter()
    before.store.put(1, torch.tensor([1.0, -2.0]))
    before.take(Kind.BATCH, b"".join(map(packed, doubling(3))) + ran(5, 10, 1))
    after = interpreter()
    snapshots.restore(after, Recorded(written(before)))
    after.take(Kind.BATCH, ran(5, 20, 11))
    assert [handle for handle, _ in after.store.tensors()] == [1, 11, 21]
    assert after.store.get(21).tolist() == [1.0, -2.0]
    after.take(Kind.BATCH, packed(programs.Forget(5)) + b"".join(map(packed, doubling(3))) + ran(5, 30, 1))
    last = interpreter()
    snapshots.restore(last, Recorded(written(after)))
    last.take(Kind.BATCH, packed(programs.Forget(5)))
    with pytest.raises(ProtocolError, match="run: found program 5, which is not known"):
        last.take(Kind.BATCH, ran(5, 40, 1))


def test_settings_are_those_of_who_goes_on():
    before, after = interpreter(), interpreter()
    before.take(
        Kind.BATCH, packed(records.Setting(1, 1)) + packed(records.Setting(4, 1)) + packed(records.Setting(4, 0))
    )
    torch.set_default_dtype(torch.float32)
    try:
        snapshots.restore(after, Recorded(written(before)))
        assert (torch.get_default_dtype(), torch.get_float32_matmul_precision()) == (torch.float64, "highest")
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("number", "value", "said"), [
    (0, 0, "setting: found 0; allowed: 1 to 7"),
    (8, 0, "setting: found 8; allowed: 1 to 7"),
    (1, 4, "setting default dtype: found 4; allowed: 0 to 3"),
    (3, 2, "setting filled memory: found 2; allowed: 0 to 1"),
])  # fmt: skip
def test_a_setting_that_is_none_ends_the_session(number, value, said):
    with pytest.raises(ProtocolError, match=said):
        interpreter().take(Kind.BATCH, packed(records.Setting(number, value)))


def test_what_does_not_fit_is_refused():
    data = written(full())
    with pytest.raises(torch.OutOfMemoryError, match="the slice has 100 bytes"):
        snapshots.restore(interpreter(100), Recorded(data))


def test_a_copy_that_is_malformed_is_refused_in_a_sentence():
    data, rng = written(full()), random.Random(5)
    said = [refusal(mutated(rng, data, [data])) for _ in range(300)]
    assert sum(bool(one) for one in said) > 150 and None not in said


def refusal(data):
    """Empty where there is none; ``None`` where it says nothing."""
    try:
        snapshots.restore(interpreter(1 << 20), Recorded(data))
    except (ProtocolError, torch.OutOfMemoryError) as error:
        return str(error) or None
    return ""
