"""Lines come out whole, however the network cuts them."""

from hypothesis import given
from hypothesis import strategies as st

from tessera.kube.lines import LineBuffer


@given(st.lists(st.binary(min_size=1).filter(lambda b: b"\n" not in b and b.strip() != b""), max_size=8), st.data())
def test_any_cut_gives_the_same_lines(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    buffer, found, left = LineBuffer(), [], whole
    while left:
        size = data.draw(st.integers(1, len(left)))
        found += list(buffer.feed(left[:size]))
        left = left[size:]
    assert found == lines


def test_a_line_without_an_end_is_held_back() -> None:
    buffer = LineBuffer()
    assert list(buffer.feed(b"one\ntw")) == [b"one"]
    assert list(buffer.feed(b"o\n\n")) == [b"two"]
