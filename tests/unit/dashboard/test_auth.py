"""Who may read, with the API server's reviews answered at the border."""

from collections.abc import Mapping
from typing import Any

import pytest

from tessera.dashboard.auth import ALLOWED_S, DENIED_S, KEPT_ANSWERS, Access, Denied, KubernetesGate, ReviewError


class ApiReviews:
    """An API server that knows tokens as ``{token: username}`` and who may do what."""

    def __init__(self) -> None:
        self.users = {"good": "ada", "weak": "bob"}
        self.allowed = {"ada"}
        self.asked: list[Mapping[str, Any]] = []
        self.down = False

    async def review(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.down:
            raise ReviewError("connection refused")
        self.asked.append(body)
        if path.endswith("/tokenreviews"):
            user = self.users.get(body["spec"]["token"])
            return {"status": {"authenticated": True, "user": {"username": user, "groups": ["dev"]}} if user else {}}
        return {"status": {"allowed": body["spec"]["user"] in self.allowed}}


@pytest.fixture
def api() -> ApiReviews:
    return ApiReviews()


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def gate(api: ApiReviews, clock: list[float]) -> KubernetesGate:
    return KubernetesGate(api, lambda: clock[0])


async def test_a_good_token_of_an_allowed_user_passes(gate: KubernetesGate, api: ApiReviews) -> None:
    assert await gate.check("good", Access.POOL) is None
    assert api.asked[1]["spec"] == {
        "user": "ada",
        "uid": "",
        "groups": ["dev"],
        "extra": {},
        "resourceAttributes": {"group": "tessera.io", "resource": "gpunodes", "verb": "get"},
    }


@pytest.mark.parametrize(("token", "status"), [("", 401), ("forged", 401), ("weak", 403)])
async def test_everybody_else_is_refused(gate: KubernetesGate, token: str, status: int) -> None:
    denied = await gate.check(token, Access.POOL)
    assert isinstance(denied, Denied) and denied.status == status and denied.text


async def test_metrics_ask_for_the_non_resource_url(gate: KubernetesGate, api: ApiReviews) -> None:
    assert await gate.check("good", Access.METRICS) is None
    assert api.asked[1]["spec"]["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}


async def test_answers_are_kept_briefly(gate: KubernetesGate, api: ApiReviews, clock: list[float]) -> None:
    assert await gate.check("good", Access.POOL) is None
    api.users.clear()
    assert await gate.check("good", Access.POOL) is None
    assert len(api.asked) == 2
    clock[0] += ALLOWED_S
    assert await gate.check("good", Access.POOL) is not None


async def test_a_refusal_is_kept_shorter(gate: KubernetesGate, api: ApiReviews, clock: list[float]) -> None:
    assert await gate.check("weak", Access.POOL) is not None
    api.allowed.add("bob")
    clock[0] += DENIED_S
    assert await gate.check("weak", Access.POOL) is None


async def test_an_api_server_that_is_away_lets_nobody_in_and_is_asked_again(
    gate: KubernetesGate, api: ApiReviews
) -> None:
    api.down = True
    denied = await gate.check("good", Access.POOL)
    assert denied is not None and denied.status == 503
    api.down = False
    assert await gate.check("good", Access.POOL) is None


async def test_many_forged_tokens_do_not_fill_the_memory(gate: KubernetesGate) -> None:
    for i in range(KEPT_ANSWERS + 10):
        await gate.check(f"forged-{i}", Access.POOL)
    assert len(gate._kept) <= KEPT_ANSWERS
