"""What is refused, each in a sentence that says what was found and what is allowed."""

import json
import struct
import tracemalloc

import pytest

from tessera.remote.protocol import greeting, programs, records, replies
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import HEADER, MAX_GREETING, MAX_PAYLOAD, Kind, pack_header, parse_header
from tessera.remote.protocol.values import MAX_DEPTH, Reader, Tag, encode

FORM = struct.pack("<BIQH", records.Code.FORM, 0, 0, 0)


def batch(data: bytes) -> list[records.Record]:
    return list(records.Batches().read(data))


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (HEADER.pack(0, 0, 0, 0, 0, 0), "frame kind: found 0; allowed: 1 to 13"),
        (HEADER.pack(0, 14, 0, 0, 0, 0), "frame kind: found 14; allowed: 1 to 13"),
        (HEADER.pack(0, Kind.ACK, 1, 0, 0, 0), "frame header: found 1 and 0 in the reserved fields; allowed: 0"),
        (HEADER.pack(0, Kind.ACK, 0, 7, 0, 0), "frame header: found 0 and 7 in the reserved fields; allowed: 0"),
        (pack_header(Kind.HELLO, MAX_GREETING + 1), "HELLO frame: found 16385 bytes; allowed: up to 16384"),
        (pack_header(Kind.BATCH, MAX_PAYLOAD + 1, 1), "BATCH frame: found 1048641 bytes; allowed: up to 1048640"),
        (pack_header(Kind.DATA, 0, 0), "DATA frame: found sequence number 0; allowed: above 0"),
        (pack_header(Kind.BYE, 0, 4), "BYE frame: found sequence number 4; allowed: 0"),
    ],
)
def test_headers(header: bytes, sentence: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_header(header)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\0", "record code: found 0; allowed: 1 to"),
        (b"\xff", "record code: found 255; allowed: 1 to"),
        (bytes([records.Code.SYNC]), "payload: found 0 bytes where 8 are announced"),
        (struct.pack("<BI", records.Code.FREE, 0xFFFFFFFF), "payload: found 0 bytes where 34359738360 are announced"),
        (struct.pack("<BIIQ", records.Code.CALL, 9, 0, 1), "call: found form 9, which was not sent"),
        (struct.pack("<BIHB", records.Code.LAYOUT, 1, 1, 65), "layout: found 65 dimensions; allowed: up to 64"),
        (struct.pack("<BIH", records.Code.LAYOUT, 1 << 16, 0), "form or layout: found number 65536; allowed: up to"),
        (struct.pack("<BQB", records.Code.NEW, 1, Tag.NONE), "new tensor: found no dtype"),
        (struct.pack("<BQBH1sB", records.Code.NEW, 1, Tag.DTYPE, 1, b"f", 65), "sizes: found 65; allowed: up to 64"),
        (struct.pack("<BQBH1s", records.Code.NEW, 1, Tag.DTYPE, 1, b"\xff"), "text: found bytes that are not UTF-8"),
        (FORM + bytes([Tag.NONE, Tag.NONE]), "form: found arguments that are no list"),
        (FORM + bytes([Tag.LIST, 0, 0, Tag.LIST, 1, 0, Tag.NONE]), "form: found arguments that are no list"),
        (FORM + bytes([Tag.LIST, 0, 0, Tag.LIST, 2, 0, Tag.NONE, Tag.NONE]), "form: found a keyword that is no text"),
        (FORM + bytes([15]), "value tag: found 15; allowed: 0 to 14"),
        (FORM + bytes([Tag.LIST, 255, 255]), "payload: found 0 bytes where 1 are announced"),
    ],
)
def test_batches(data: bytes, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence):
        batch(data)


def test_lists_are_as_deep_as_allowed_and_no_deeper() -> None:
    value: list[object] = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    out = bytearray()
    encode(value, out)
    assert Reader(bytes(out)).value() == value
    with pytest.raises(ProtocolError, match="list: found one more than 8 deep; allowed: 8"):
        Reader(bytes([Tag.LIST, 1, 0]) + bytes(out)).value()


def test_what_has_no_form_on_the_wire_is_not_written() -> None:
    deep: list[object] = []
    for _ in range(MAX_DEPTH):
        deep = [deep]
    for value in (1 << 63, "x" * 65536, object(), [0] * 65536, deep):
        with pytest.raises(ValueError, match="allowed"):
            encode(value, bytearray())  # type: ignore[arg-type]


def test_forms_and_layouts_are_bounded_together_and_a_number_that_is_said_again_counts_once() -> None:
    text = struct.pack("<BH", Tag.TEXT, 65535) + b"x" * 65535
    arguments = struct.pack("<BH", Tag.LIST, 14) + text * 14 + struct.pack("<BH", Tag.LIST, 0)
    batches = records.Batches()

    def form(number: int) -> bytes:
        return struct.pack("<BIQH", records.Code.FORM, number, 0, 0) + arguments

    fit = records.MAX_KNOWN_BYTES // len(form(0))
    for number in range(fit):
        list(batches.read(form(number)))
    for _ in range(3):
        list(batches.read(form(0)))
    with pytest.raises(ProtocolError, match=r"forms and layouts: found \d+ bytes; allowed: up to 33554432"):
        list(batches.read(form(fit)))


NEG = struct.pack("<BIQH9s", records.Code.FORM, 0, 0, 9, b"aten::neg") + bytes([Tag.LIST, 1, 0, Tag.TENSOR_SLOT])
KNOWN = NEG + bytes([Tag.LIST, 0, 0]) + struct.pack("<BIHBqq", records.Code.LAYOUT, 1, 1, 1, 2, 1)


def program(*nodes: tuple[int, int, int], number: int = 0, inputs: int = 1, kept: tuple[int, ...] = (0,)) -> bytes:
    """Each node: form, layout, what it takes."""
    said = tuple(programs.Node(form, layout, (taken,), ()) for form, layout, taken in nodes)
    return records.packed(programs.Program(number, inputs, said, kept))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (program((5, 1, 0)), "program: found form 5 with layout 1, which were not both sent"),
        (program((0, 0, 0)), "program: found form 0 with layout 0, which were not both sent"),
        (program((0, 1, 1)), "program: found a call that takes 1; allowed: below 1"),
        (program((0, 1, 0), (0, 1, 2)), "program: found a call that takes 2; allowed: below 2"),
        (program((0, 1, 0), kept=(1,)), "program: found value 1 to be kept; allowed: below 1"),
        (
            struct.pack("<BIIII", records.Code.PROGRAM, 0, 0, 65537, 0),
            "program: found 65537 calls; allowed: up to 65536",
        ),
        (struct.pack("<BIIII", records.Code.PROGRAM, 0, 0, 0, 1 << 31), "where 8589934592 are announced"),
        (program((0, 1, 0)) + NEG + bytes([Tag.LIST, 0, 0]), "form: found 0 again, which a program names"),
        (struct.pack("<BIQ", records.Code.RUN, 0, 1), "run: found program 0, which is not known"),
        (program((0, 1, 0)) + struct.pack("<BIQ", records.Code.RUN, 0, 1), "found 0 bytes where 8 are announced"),
        (
            program((0, 1, 0)) + struct.pack("<BIBIQ", records.Code.FORGET, 0, records.Code.RUN, 0, 1),
            "run: found program 0, which is not known",
        ),
    ],
)
def test_programs(data: bytes, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence):
        batch(KNOWN + data)


def test_a_programs_values_are_bounded() -> None:
    wide = struct.pack("<BIH", records.Code.LAYOUT, 2, 40_000) + b"\xff" * 40_000
    assert len(batch(KNOWN + wide + program((0, 2, 0)))) == 4
    with pytest.raises(ProtocolError, match="program: found 80000 values; allowed: up to 65536"):
        batch(KNOWN + wide + program((0, 2, 0), (0, 2, 0)))


def test_programs_are_bounded_in_number_and_in_bytes_and_what_is_forgotten_does_not_count() -> None:
    batches = records.Batches()
    list(batches.read(KNOWN))
    for number in range(programs.MAX_PROGRAMS):
        list(batches.read(program((0, 1, 0), number=number)))
    list(batches.read(program((0, 1, 0), number=7)))
    with pytest.raises(ProtocolError, match="programs: found 4097 of"):
        list(batches.read(program((0, 1, 0), number=5000)))
    batches, large = records.Batches(), [(0, 1, 0)] * 60_000
    list(batches.read(KNOWN))
    fit = programs.MAX_PROGRAM_BYTES // len(program(*large))
    for number in [*range(fit), 0]:
        list(batches.read(program(*large, number=number)))
    assert len(batches.known()) == fit + 2
    list(batches.read(struct.pack("<BI", records.Code.FORGET, 0) + program(*large, number=fit)))
    with pytest.raises(ProtocolError, match=r"programs: found \d+ of \d+ bytes; allowed: up to 4096 of 16777216"):
        list(batches.read(program(*large, number=0)))


def test_a_value_is_freed_after_the_last_call_that_takes_it() -> None:
    nodes = tuple(programs.Node(0, 1, taken, ()) for taken in ((0,), (0, 2), (2, 3), (5,)))
    said = programs.Program(0, 2, nodes, (2,))
    assert programs.last_uses(said, [1, 2, 1, 1]) == [(), (), (0, 1), (3, 4)]


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"", "payload: found 0 bytes where 9 are announced"),
        (struct.pack("<QB", 1, 0), "reply code: found 0; allowed: 1 to 5"),
        (struct.pack("<QBH", 1, replies.Answer.OUTPUTS, 65535), "payload: found 0 bytes where 2 are announced"),
        (struct.pack("<QBHHB", 1, replies.Answer.OUTPUTS, 1, 0, 65), "output: found 65 dimensions; allowed: up to 64"),
        (struct.pack("<QBB", 1, replies.Answer.DONE, 0), "reply: found 1 bytes after its end"),
    ],
)
def test_replies(payload: bytes, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence):
        replies.decode(payload)


def test_data_without_its_request() -> None:
    with pytest.raises(ProtocolError, match="payload: found 3 bytes where 8 are announced"):
        replies.decode_data(b"abc")


def test_the_text_of_a_failure_is_cut_and_never_too_long() -> None:
    found = replies.decode(replies.encode(replies.Failed(1, "RuntimeError", "ü" * 100_000)))
    assert isinstance(found, replies.Failed) and found.text == "ü" * 8192


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"\xff\xfe", "Hello: found no JSON"),
        (b"[" * 10_000, "Hello: found no JSON"),
        (b"[]", "Hello: found list; allowed: an object"),
        (b"{}", "Hello.torch: found nothing; allowed: text"),
        (b'{"torch": 2}', "Hello.torch: found 2; allowed: text"),
        (b'{"torch": "2.15", "received": true}', r"Hello.received: found True; allowed: 0 to 2\^64 - 1"),
        (b'{"torch": "2.15", "received": -1}', r"Hello.received: found -1; allowed: 0 to 2\^64 - 1"),
        (b'{"torch": "2.15", "epoch": 18446744073709551616}', "Hello.epoch: found 18446744073709551616; allowed: 0"),
        (b'{"torch": "2.15", "epoch": 1.0}', "Hello.epoch: found 1.0; allowed: 0"),
        (b'{"torch": "2.15", "epoch": ' + b"9" * 5000 + b"}", "Hello: found no JSON"),
    ],
)
def test_greetings(payload: bytes, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence):
        greeting.decode(greeting.Hello, payload)


def test_a_field_of_a_later_version_is_left_alone() -> None:
    payload = json.dumps({"torch": "2.15.0", "later": [1]}).encode()
    assert greeting.decode(greeting.Hello, payload) == greeting.Hello("2.15.0")


def test_huge_counts_are_refused_before_anything_is_made_for_them() -> None:
    announced = [
        struct.pack("<BI", records.Code.FREE, 0xFFFFFFFF),
        FORM + bytes([Tag.LIST, 255, 255]) * MAX_DEPTH,
        struct.pack("<BIH", records.Code.LAYOUT, 1, 0xFFFF),
    ]
    tracemalloc.start()
    try:
        for data in announced:
            with pytest.raises(ProtocolError):
                batch(data)
        with pytest.raises(ProtocolError):
            replies.decode(struct.pack("<QBH", 1, replies.Answer.OUTPUTS, 65535))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
