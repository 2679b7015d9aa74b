"""A GPU's health by what is observed of it."""

import pytest

from tessera.node_agent.health import Condition, Rules, answered, reported, silent
from tessera.node_agent.xids import Effect, effect_of

RULES = Rules(recovery_probes=3, xid_quiet_s=300)


def after(condition: Condition, probes: int, now: float = 0.0) -> Condition:
    for _ in range(probes):
        condition = answered(condition, now, RULES)
    return condition


@pytest.mark.parametrize("code", [13, 31, 43, 45, 68, 69, 109])
def test_faults_of_programs_leave_the_gpu_healthy(code):
    assert effect_of(code) is Effect.APPLICATION
    assert reported(Condition(), code, 0.0).health.healthy


@pytest.mark.parametrize("code", [63, 92, 121])
def test_news_leave_the_gpu_healthy(code):
    assert reported(Condition(), code, 0.0).health.healthy


@pytest.mark.parametrize("code", [48, 62, 64, 74, 79, 95, 119, 120, 140])
def test_errors_that_need_a_reset(code):
    condition = reported(Condition(), code, 0.0)
    assert f"Xid {code}" in condition.health.reason
    assert not after(condition, 1000, now=1e9).health.healthy


@pytest.mark.parametrize("code", [94, 8, 777])
def test_other_errors_pass_when_it_is_quiet(code):
    condition = reported(Condition(), code, 100.0)
    assert not answered(condition, 399.0, RULES).health.healthy
    assert answered(condition, 400.0, RULES).health.healthy


def test_a_further_error_starts_the_quiet_anew():
    condition = reported(reported(Condition(), 94, 0.0), 94, 200.0)
    assert not answered(condition, 499.0, RULES).health.healthy
    assert answered(condition, 500.0, RULES).health.healthy


def test_silence_ends_after_answers_in_a_row():
    condition = after(silent(Condition(), "lost", RULES), 2)
    assert condition.health.reason == "lost"
    condition = silent(condition, "lost again", RULES)
    assert after(condition, 2).health.reason == "lost again"
    assert after(condition, 3).health.healthy


def test_a_reset_is_concluded_only_if_the_gpu_itself_had_left():
    fatal = reported(Condition(), 79, 0.0)
    assert not after(silent(fatal, "NVML cannot be read", RULES), 10).health.healthy
    assert after(silent(fatal, "lost", RULES, gone=True), 3).health.healthy
    both = silent(silent(fatal, "lost", RULES, gone=True), "NVML cannot be read", RULES)
    assert after(both, 3).health.healthy
