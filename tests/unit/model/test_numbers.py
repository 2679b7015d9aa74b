"""Numbers of names in use."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tessera.model.numbers import NONE, Numbers


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=60))
def test_numbers_are_distinct_stay_and_never_outgrow_the_names(steps: list[tuple[str, bool]]) -> None:
    numbers, uses, most, before = Numbers(), Counter[str](), 0, {}
    for name, comes in steps:
        if comes:
            numbers.take(name)
            uses[name] += 1
        elif uses[name]:
            numbers.drop(name)
            uses[name] -= 1
        now = {each: numbers.of(each) for each, count in uses.items() if count}
        most = max(most, len(now))
        assert len(set(now.values())) == len(now) and all(1 <= number <= most for number in now.values())
        assert all(numbers.of(each) == NONE for each in "abcde" if each not in now)
        assert all(before[each] == number for each, number in now.items() if each in before)
        before = now


def test_a_copy_goes_its_own_way() -> None:
    one = Numbers()
    one.take("a")
    other = one.copy()
    other.drop("a")
    other.take("b")
    assert (one.of("a"), one.of("b"), other.of("b")) == (1, NONE, 1)
