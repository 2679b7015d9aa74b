"""What the corpus is made of: one file for each kind of frame, record, answer and greeting, and one with many records.

``python -m tests.remote.fuzz.seeds`` writes them.
"""

from pathlib import Path

from tessera.remote.protocol import greeting, programs, records, replies, snapshot
from tessera.remote.protocol.frames import SEQUENCED, Kind, pack_header
from tessera.remote.protocol.values import Named, Slot, Tag, Value

CORPUS = Path(__file__).with_name("corpus")

_EVERY: list[Value] = [
    None, True, False, -(1 << 63), 0.5, 1 + 2j, "mean", Named(Tag.DTYPE, "float32"), Named(Tag.LAYOUT, "strided"),
    Named(Tag.MEMORY_FORMAT, "contiguous_format"), Slot.TENSOR, Slot.FLOAT, Slot.DEVICE, Slot.GENERATOR,
    [[[[[[[]]]]]]],
]  # fmt: skip


def frame(kind: Kind, payload: bytes = b"", acknowledged: int = 0) -> bytes:
    return pack_header(kind, len(payload), 1 if kind in SEQUENCED else 0, acknowledged) + payload


def _form(number: int, overload: str, args: list[Value], kwargs: list[Value]) -> bytes:
    out = bytearray()
    records.put_form(records.Form(number, overload, 7, args, kwargs), out)
    return bytes(out)


def _call(request: int) -> bytes:
    code = records.Code.CALL_SYNC if request else records.Code.CALL
    asked = (request,) if request else ()
    return records.call_struct(code, 2, 1).pack(code, 0, 1, 20, *asked, 10, 11, 0.25)


def _program(number: int) -> bytes:
    """Of form 0 with layout 2: an input added to another, and twice to that."""
    nodes = (programs.Node(0, 2, (0, 1), (0.25,)), programs.Node(0, 2, (2, 2), (1.5,)))
    return records.packed(programs.Program(number, 2, nodes, (1,)))


def _batches() -> dict[str, bytes]:
    found = {
        "form": _form(0, "aten::add.Tensor", [Slot.TENSOR, Slot.TENSOR], ["alpha", Slot.FLOAT]),
        "form-every-value": _form(1, "aten::every", _EVERY, ["dtype", Named(Tag.DTYPE, "int64")]),
        "layout": records.packed(records.Layout(1, (((2, 3), (3, 1)), None))),
        "new": records.packed(records.New(10, "float32", (2, 3))),
        "free": records.packed(records.Free((10, 11, 20))),
        "read": records.packed(records.Read(5, 20)),
        "sync": records.packed(records.Sync(6)),
        "seed": records.packed(records.Seed(42)),
        "setting": records.packed(records.Setting(2, 1)),
        "generator": records.packed(records.Generator(30, 42)),
        "state": records.packed(records.State(30, 31)),
        "restore": records.packed(records.Restore(30, 31)),
    }
    found["program"] = found["form"] + records.packed(records.Layout(2, (((2, 3), (3, 1)),))) + _program(4)
    found["run"] = found["program"] + programs.run_struct(2).pack(records.Code.RUN, 4, 20, 10, 11)
    found["forget"] = found["run"] + records.packed(programs.Forget(4))
    found["call"] = found["form"] + found["layout"] + _call(0)
    found["call-sync"] = found["form"] + found["layout"] + _call(7)
    found["many"] = b"".join(
        found[name] for name in ("form-every-value", "call", "call-sync", "run", "read", "free", "sync")
    )
    return {f"batch-{name}": frame(Kind.BATCH, payload) for name, payload in found.items()}


def _answers() -> dict[str, bytes]:
    output = replies.Output("float32", (2, 3), (3, 1))
    found: dict[str, replies.Reply] = {
        "done": replies.Done(6),
        "bytes": replies.Bytes(5, 24),
        "outputs": replies.Outputs(7, (output, replies.Output("", (), ()))),
        "failed": replies.Failed(7, "RuntimeError", "no such size"),
        "memory": replies.Memory(8, 24, 48),
    }
    made = {f"reply-{name}": frame(Kind.REPLY, replies.encode(reply)) for name, reply in found.items()}
    return made | {"data": frame(Kind.DATA, replies.DATA_HEAD.pack(5) + bytes(range(24)))}


def _greetings() -> dict[str, bytes]:
    hello = greeting.Hello(torch="2.15.0", session="s", received=3, mem_bytes=1 << 30, token="t", lease="l")
    welcome = greeting.Welcome("s", 3, "2.15.0", "NVIDIA H100", 1 << 33, 80 << 30, 90, 132)
    return {
        "hello": frame(Kind.HELLO, greeting.encode(hello)),
        "welcome": frame(Kind.WELCOME, greeting.encode(welcome)),
        "refused": frame(Kind.REFUSED, greeting.encode(greeting.Refused("Full", "sessions: found 16"))),
        "redirect": frame(Kind.REDIRECT, greeting.encode(greeting.Redirect(4, "10.0.0.8:7443", "lease"))),
        "move": frame(Kind.MOVE, greeting.encode(greeting.Move("t", "2.15.0", "s", 1 << 30, "cuda"))),
        "moved": frame(Kind.MOVED, greeting.encode(greeting.Moved("s"))),
    }


def _parts() -> dict[str, bytes]:
    """Of a session that holds one of everything."""
    made: list[bytes] = []
    writer = snapshot.Writer(lambda data: made.append(bytes(data)))
    writer.put(snapshot.Known(_form(0, "aten::neg", [Slot.TENSOR], [])))
    writer.put(snapshot.Known(records.packed(records.Layout(2, (((3,), (1,)),)))))
    writer.put(snapshot.Known(records.packed(programs.Program(4, 1, (programs.Node(0, 2, (0,), ()),), (0,)))))
    writer.put(snapshot.Numbers(3, 2, 48, 1))
    writer.put(snapshot.Error(1, "RuntimeError", "no such size"))
    writer.put(snapshot.Generator(0, bytes(16)))
    writer.put(snapshot.Poison(1, (10, 11)))
    writer.put(snapshot.Tensor(12, 0, 3, "complex64", 0, (3,), (1,)))
    writer.flush()
    writer.put(snapshot.Storage(0, 0, 24))
    writer.flush()
    writer.put(snapshot.Upload(13, "float32", (2, 3), 0, 8))
    writer.flush()
    writer.put(snapshot.Kept(Kind.REPLY, 9))
    writer.put(snapshot.End())
    return dict(zip(("part-records", "part-storage", "part-upload", "part-kept"), made, strict=True))


def seeds() -> dict[str, bytes]:
    rest = {"upload": frame(Kind.UPLOAD, bytes(range(24))), "ack": frame(Kind.ACK), "bye": frame(Kind.BYE)}
    return {**_greetings(), **_batches(), **_answers(), **_parts(), **rest}


def corpus() -> dict[str, bytes]:
    """The committed files."""
    return {path.stem: path.read_bytes() for path in sorted(CORPUS.glob("*.bin"))}


if __name__ == "__main__":
    for name, data in seeds().items():
        (CORPUS / f"{name}.bin").write_bytes(data)
