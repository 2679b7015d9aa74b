"""Everything that can stand on the wire."""

import math

from hypothesis import strategies as st

from tessera.remote.protocol import greeting, records, replies
from tessera.remote.protocol.values import MAX_DEPTH, Named, Slot, Tag

U64 = st.integers(0, (1 << 64) - 1)
I64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLOATS = st.floats().filter(lambda value: not math.isnan(value))
NUMBER = st.integers(0, records.MAX_KNOWN - 1)
SIZES = st.lists(I64, max_size=5).map(tuple)

PLAIN = st.one_of(
    st.none(), st.booleans(), I64, FLOATS, st.complex_numbers(allow_nan=False), TEXT, st.sampled_from(Slot),
    st.builds(Named, st.sampled_from([Tag.DTYPE, Tag.LAYOUT, Tag.MEMORY_FORMAT]), TEXT),
)  # fmt: skip
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
"""Some are too deep: ``fits`` tells."""


def depth(value: object) -> int:
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def fits(value: object) -> bool:
    return depth(value) <= MAX_DEPTH


ARGUMENTS = st.lists(VALUES, max_size=4).filter(fits)
KEYWORDS = st.lists(st.tuples(TEXT, VALUES), max_size=3).map(lambda pairs: [item for pair in pairs for item in pair])
GEOMETRIES = st.none() | st.lists(st.tuples(I64, I64), max_size=5).map(
    lambda dims: (tuple(size for size, _ in dims), tuple(stride for _, stride in dims))
)
FORMS = st.builds(records.Form, NUMBER, TEXT, U64, ARGUMENTS, KEYWORDS.filter(fits))
RECORDS = st.one_of(
    FORMS,
    st.builds(records.Layout, NUMBER, st.lists(GEOMETRIES, max_size=4).map(tuple)),
    st.builds(records.Free, st.lists(U64, max_size=4).map(tuple)),
    st.builds(records.Read, U64, U64),
    st.builds(records.New, U64, TEXT, SIZES),
    st.builds(records.Sync, U64),
    st.builds(records.Seed, U64),
    st.builds(records.Memory, U64),
    st.builds(records.Generator, U64, U64),
    st.builds(records.State, U64, U64),
    st.builds(records.Restore, U64, U64),
    st.builds(records.Setting, st.integers(0, 255), st.integers(0, 255)),
)
OUTPUTS = st.builds(
    lambda dtype, dims: replies.Output(dtype, tuple(size for size, _ in dims), tuple(stride for _, stride in dims)),
    TEXT,
    st.lists(st.tuples(I64, I64), max_size=4),
)
REPLIES = st.one_of(
    st.builds(replies.Done, U64),
    st.builds(replies.Bytes, U64, U64),
    st.builds(replies.Outputs, U64, st.lists(OUTPUTS, max_size=4).map(tuple)),
    st.builds(replies.Failed, U64, TEXT, TEXT),
    st.builds(replies.Memory, U64, U64, U64),
)
HELLOS = st.builds(greeting.Hello, TEXT, TEXT, U64, U64, TEXT, TEXT, TEXT, U64, U64)
WELCOMES = st.builds(greeting.Welcome, TEXT, U64, TEXT, TEXT, U64, U64, U64, U64, U64)
REFUSALS = st.builds(greeting.Refused, TEXT, TEXT)


@st.composite
def calls(draw: st.DrawFn) -> tuple[records.Form, records.Call]:
    """A call, and the form that must come before it."""
    form = draw(FORMS)
    tensors, floats = records.slots_of([*form.args, *form.kwargs])
    handles, numbers = st.lists(U64, min_size=tensors, max_size=tensors), st.lists(
        FLOATS, min_size=floats, max_size=floats
    )  # fmt: skip
    request = draw(st.just(0) | st.integers(1, (1 << 64) - 1))
    layout = draw(st.integers(0, (1 << 32) - 1))
    return form, records.Call(form.number, layout, draw(U64), tuple(draw(handles)), tuple(draw(numbers)), request)
