"""What a TokenReview says of who holds a token."""

from typing import Any

import pytest

from tessera.remote.controller.reviews import Bearer, Refused, judged

NAME = "system:serviceaccount:default:runner"
POD = {"authentication.kubernetes.io/pod-name": ["train"], "authentication.kubernetes.io/pod-uid": ["uid-1"]}


def status(**changed: Any) -> dict[str, Any]:
    user = {"username": NAME, "extra": POD}
    return {"authenticated": True, "audiences": ["tessera-pool"], "user": user, **changed}


def test_a_token_that_is_bound_to_a_pod() -> None:
    assert judged(status(), "tessera-pool") == Bearer("default", "runner", "train", "uid-1")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, "bad-token"),
        (status(authenticated=False), "bad-token"),
        (status(audiences=[]), "audience"),
        (status(audiences=None), "audience"),
        (status(audiences=["https://kubernetes.default.svc"]), "audience"),
        (status(user={"username": "admin", "extra": POD}), "no-pod"),
        (status(user={"username": NAME}), "no-pod"),
        (status(user={"username": "system:serviceaccount:default", "extra": POD}), "no-pod"),
        (status(user={"username": NAME, "extra": {**POD, next(iter(POD)): []}}), "no-pod"),
        (status(user=None), "no-pod"),
    ],
)  # fmt: skip
def test_any_other_is_refused(found: dict[str, Any], reason: str) -> None:
    answer = judged(found, "tessera-pool")
    assert isinstance(answer, Refused) and answer.reason == reason
