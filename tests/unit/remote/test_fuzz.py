"""A short run of the fuzzer against the decoder; ``make fuzz-remote`` is the long one."""

from tests.remote.fuzz.decoder import attack
from tests.remote.fuzz.seeds import corpus, seeds


def test_malformed_frames_are_refused_in_a_sentence() -> None:
    found = attack(corpus(), 20_000, seed=2)
    assert found["refused"] == 20_000 and found["read"] > 1000


def test_the_corpus_holds_every_frame_that_there_is() -> None:
    assert corpus() == seeds()
