"""docs/remote-protocol.md says what the code does: its tables of codes, its bounds, and its example, byte by byte."""

import re
from enum import IntEnum
from pathlib import Path

import pytest

from tessera.remote.executor.commands import Allowance, Ask, Connect, Done, Expect, Figures, Leave, Look, Resize
from tessera.remote.protocol import frames, link, programs, records, replies, snapshot, values
from tessera.remote.protocol.frames import HEADER, Header, Kind
from tessera.remote.protocol.greeting import Hello, Move, Redirect, Welcome
from tessera.remote.protocol.records import Code
from tessera.remote.protocol.streams import read_frame
from tessera.remote.protocol.values import Slot
from tests.remote.fuzz.decoder import Bytes

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "remote-protocol.md").read_text()
SOURCES = [path for part in ("executor", "gate") for path in (ROOT / "remote" / part).glob("*.py")]


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    ("title", "codes"),
    [("Frames", Kind), ("Records", Code), ("Answers", replies.Answer), ("Epochs and moves", snapshot.Code)],
)
def test_codes(title: str, codes: type[IntEnum]) -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", section(title), re.MULTILINE)
    assert {(name, int(code)) for code, name in rows} == {(code.name, int(code)) for code in codes}


def test_tags() -> None:
    text = section("Values")
    found = {int(code) for code in re.findall(r"\| (\d+) \| [a-z`]", text)}
    assert found == set(map(int, values.Tag)) and f"Lists may be {values.MAX_DEPTH} deep" in text


def test_what_a_gate_says() -> None:
    text = section("Hand-over")
    for kind in (Allowance, Hello, Move, Resize, Expect, Leave, Ask, Look, Connect, Done, Figures):
        assert f"`{kind.__name__}`" in text
    for kind in (Allowance, Resize, Expect, Leave, Figures):
        assert all(f"`{name}`" in text for name in kind.__dataclass_fields__), kind


def test_reasons() -> None:
    """Those of refusals that go over a connection; ``Gone`` and ``Tls`` have none that would bring them."""
    code = "".join(path.read_text() for path in SOURCES)
    reasons = set(re.findall(r'(?:Refusal|Refused|Unsure)\(\s*"([A-Z]\w+)"', code)) - {"Gone", "Tls", "Unreachable"}
    assert len(reasons) > 15 and all(f"`{reason}`" in section("Greeting") for reason in reasons), reasons


@pytest.mark.parametrize(
    ("message", "title"),
    [(Hello, "Greeting"), (Welcome, "Greeting"), (Redirect, "Greeting"), (Move, "Epochs and moves")],
)
def test_fields_of_the_greeting(message: type, title: str) -> None:
    table = section(title).split(f"| {message.__name__.upper()} |")[1].split("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    found = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert found == set(message.__dataclass_fields__)


@pytest.mark.parametrize(
    ("title", "bound"),
    [
        ("Frames", frames.MAX_GREETING),
        ("Frames", frames.MAX_PAYLOAD),
        ("Numbers, windows, going on", link.WINDOW_FRAMES),
        ("Numbers, windows, going on", link.WINDOW_BYTES),
        ("Numbers, windows, going on", link.ACK_FRAMES),
        ("Records", records.MAX_KNOWN),
        ("Records", records.MAX_KNOWN_BYTES),
        ("Records", records.MAX_DIMENSIONS),
        ("Records", programs.MAX_NODES),
        ("Records", programs.MAX_PROGRAMS),
        ("Records", programs.MAX_PROGRAM_BYTES),
    ],
)
def test_bounds(title: str, bound: int) -> None:
    assert re.search(rf"\b{bound}\b", section(title))


def test_the_example() -> None:
    block = section("An example").split("```")[1]
    data = bytes.fromhex("".join(line.split("#")[0] for line in block.splitlines()))
    found, at, batches = [], 0, records.Batches()
    while at < len(data):
        frame = frames_read(data[at:])
        found.append(frame)
        at += HEADER.size + frame[0].payload_bytes
    said = [(header.kind, header.sequence, header.acknowledged) for header, _ in found]
    assert said == [
        (Kind.BATCH, 1, 0), (Kind.UPLOAD, 2, 0), (Kind.BATCH, 3, 0), (Kind.REPLY, 1, 2), (Kind.DATA, 2, 2),
        (Kind.BYE, 0, 0),
    ]  # fmt: skip
    first, upload, second, reply, read, _ = (payload for _, payload in found)
    assert list(batches.read(first)) == [
        records.Form(0, "aten::add.Tensor", 0x0102030405060708, [Slot.TENSOR, Slot.TENSOR], []),
        records.Layout(1, (((2,), (1,)),)),
        records.New(10, "float32", (2,)),
    ]
    assert memoryview(upload).cast("f").tolist() == [1.5, -2.0]
    assert list(batches.read(second)) == [
        records.Call(0, 1, 11, (10, 10), ()), records.Read(1, 11), records.Free((10, 11))
    ]  # fmt: skip
    assert replies.decode(reply) == replies.Bytes(1, 8)
    request, result = replies.decode_data(read)
    assert request == 1 and result.cast("f").tolist() == [3.0, -4.0]


def frames_read(data: bytes) -> tuple[Header, bytes]:
    frame = read_frame(Bytes(data))
    assert frame is not None
    return frame
