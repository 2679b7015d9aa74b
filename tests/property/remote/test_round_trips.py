"""What one side writes is what the other reads; and no bytes at all make a decoder raise anything but its sentence."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.remote.protocol import greeting, records, replies
from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.frames import SEQUENCED, Header, Kind, pack_header, parse_header
from tessera.remote.protocol.values import Reader, Value, encode
from tests.property.remote.strategies import (
    HELLOS,
    RECORDS,
    REFUSALS,
    REPLIES,
    U64,
    VALUES,
    WELCOMES,
    calls,
    fits,
)


def written(record: records.Record) -> bytes:
    out = bytearray()
    match record:
        case records.Form():
            records.put_form(record, out)
        case records.Call():
            code = records.Code.CALL_SYNC if record.request else records.Code.CALL
            made = records.call_struct(code, len(record.tensors), len(record.floats))
            request = (record.request,) if record.request else ()
            out += made.pack(code, record.form, record.layout, record.first, *request, *record.tensors, *record.floats)
        case _:
            records.put(record, out)
    return bytes(out)


@given(VALUES)
def test_values(value: Value) -> None:
    out = bytearray()
    if fits(value):
        encode(value, out)
        reader = Reader(bytes(out))
        assert reader.value() == value and not reader.left
    else:
        with pytest.raises(ValueError, match="deep"):
            encode(value, out)


@given(st.lists(RECORDS, max_size=6))
def test_records_of_a_batch(sent: list[records.Record]) -> None:
    assert list(records.Batches().read(b"".join(map(written, sent)))) == sent


@given(calls())
def test_a_call_after_its_form(pair: tuple[records.Form, records.Call]) -> None:
    form, call = pair
    batches = records.Batches()
    assert list(batches.read(written(form))) == [form]
    assert list(batches.read(written(call))) == [call]


@given(REPLIES)
def test_replies(reply: replies.Reply) -> None:
    assert replies.decode(replies.encode(reply)) == reply


@given(U64, st.binary(max_size=50))
def test_data(request: int, data: bytes) -> None:
    found, rest = replies.decode_data(replies.DATA_HEAD.pack(request) + data)
    assert found == request and bytes(rest) == data


@given(HELLOS | WELCOMES | REFUSALS)
def test_greetings(message: greeting.Hello | greeting.Welcome | greeting.Refused) -> None:
    assert greeting.decode(type(message), greeting.encode(message)) == message


@given(st.sampled_from(Kind), st.integers(0, 16 << 10), st.integers(1, (1 << 64) - 1), U64)
def test_headers(kind: Kind, size: int, number: int, acknowledged: int) -> None:
    number = number if kind in SEQUENCED else 0
    assert parse_header(pack_header(kind, size, number, acknowledged)) == Header(size, kind, number, acknowledged)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        list(records.Batches().read(data))
    with contextlib.suppress(ProtocolError):
        replies.decode(data)
    with contextlib.suppress(ProtocolError):
        replies.decode_data(data)
    for kind in (greeting.Hello, greeting.Welcome, greeting.Refused):
        with contextlib.suppress(ProtocolError):
            greeting.decode(kind, data)
    with contextlib.suppress(ProtocolError):
        parse_header(data.ljust(24, b"\0"))


@given(st.lists(RECORDS, min_size=1, max_size=4).map(lambda sent: b"".join(map(written, sent))), st.data())
def test_a_batch_that_is_cut_is_refused_or_shorter(whole: bytes, data: st.DataObject) -> None:
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    expected = list(records.Batches().read(whole))
    found = []
    with contextlib.suppress(ProtocolError):
        found.extend(records.Batches().read(cut))
    assert len(found) < len(expected)
