"""The assignment's form in the annotation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.model.assignment import Assignment, AssignmentError, Share, decode, encode

shares = st.builds(Share, st.text(min_size=1, max_size=40), st.integers(1, 2**50), st.integers(0, 100), st.booleans())
assignments = st.dictionaries(
    st.text(min_size=1, max_size=20), st.lists(shares, min_size=1, max_size=8, unique_by=lambda s: s.uuid), min_size=1
).map(lambda found: Assignment(tuple((name, tuple(each)) for name, each in found.items())))


@given(assignments)
def test_what_is_encoded_is_read_back(assignment: Assignment) -> None:
    assert decode(encode(assignment)) == assignment


def test_the_form_is_stable() -> None:
    text = '{"version":1,"containers":{"main":{"gpus":[{"uuid":"GPU-1","mem":1048576,"core":30}]}}}'
    assert encode(Assignment((("main", (Share("GPU-1", 1 << 20, 30),)),))) == text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "version"),
        ('{"version":2,"containers":{}}', "found version 2; allowed: 1"),
        ('{"containers":{}}', "version"),
        ('{"version":1}', "containers"),
        ('{"version":1,"containers":{"a":{"gpus":[]}}}', "no list of gpus"),
        ('{"version":1,"containers":{"a":{"gpus":[{"mem":1,"core":1}]}}}', "uuid"),
        ('{"version":1,"containers":{"a":{"gpus":[{"uuid":"G","mem":0,"core":1}]}}}', "mem"),
        ('{"version":1,"containers":{"a":{"gpus":[{"uuid":"G","mem":true,"core":1}]}}}', "mem"),
        ('{"version":1,"containers":{"a":{"gpus":[{"uuid":"G","mem":1,"core":101}]}}}', "core"),
        ('{"version":1,"containers":{"a":{"gpus":[{"uuid":"G","mem":1,"core":1,"whole":1}]}}}', "whole"),
        ('{"version":1,"containers":{"a":{"gpus":[{"uuid":"G","mem":1,"core":1},{"uuid":"G","mem":1,"core":1}]}}}',
         "twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_for_certain_is_refused(text: str, names: str) -> None:
    with pytest.raises(AssignmentError, match=names):
        decode(text)


@given(st.text())
def test_garbage_is_refused_and_nothing_else_is_raised(text: str) -> None:
    with pytest.raises(AssignmentError, match=r"tessera\.io/assignment"):
        decode(text)
