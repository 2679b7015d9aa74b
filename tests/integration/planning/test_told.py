"""How a plan learns the settings of the running scheduler, over real HTTP."""

from collections.abc import AsyncIterator

import pytest

from tessera.kube.connection import plain
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.model.domains import Namespace
from tessera.scheduler.notes import SETTINGS, settings_note
from tessera.scheduler.options import Options
from tessera.scheduler.settings import LEASE, SYSTEM
from tessera.scheduler.told import Source, source_of, told_namespaces, told_options
from tessera.simulator.apiserver import ApiServer

PACKS = Options("pack", 1, trust_domain="namespace")


class Case:
    def __init__(self, api: ApiServer, gateway: Gateway) -> None:
        self.api, self.gateway, self.heard = api, gateway, list[str]()

    def says(self, annotations: dict[str, str], namespace: str = SYSTEM, name: str = LEASE) -> None:
        meta = {"name": name, "namespace": namespace, "annotations": annotations}
        self.api.store.put("leases", {"metadata": meta, "spec": {}})

    async def asks(self, source: Source) -> Options:
        return await told_options(self.gateway, source, self.heard.append)


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    async with ApiServer() as api, Gateway(plain(api.url)) as gateway:
        yield Case(api, gateway)


async def test_what_the_leader_says_is_taken_and_nobody_is_told(case: Case) -> None:
    case.says(settings_note(PACKS))
    assert await case.asks(Source()) == PACKS and not case.heard


async def test_a_trust_domain_that_the_user_gives_goes_before_it(case: Case) -> None:
    case.says(settings_note(PACKS))
    assert await case.asks(source_of("", "cluster")) == Options("pack", 1) and not case.heard


async def test_a_scheduler_of_another_name(case: Case) -> None:
    case.says(settings_note(PACKS), "gpus", "own-scheduler")
    assert await case.asks(source_of("gpus/own-scheduler", "")) == PACKS and not case.heard


async def test_where_none_says_any_the_user_is_told_what_is_assumed(case: Case) -> None:
    assert await case.asks(Source()) == Options()
    case.says({SETTINGS: "?"})
    assert await case.asks(source_of("", "namespace")) == Options(trust_domain="namespace")
    assert case.heard == [
        "Lease tessera-system/tessera-scheduler is not there (see --lease): planned with the scheduler's default "
        "settings; all pods are taken to share GPUs (see --trust-domain)",
        "Lease tessera-system/tessera-scheduler says no settings (see --lease): planned with the scheduler's default "
        "settings",
    ]


async def test_without_the_right_to_read_it_the_defaults_and_other_faults_are_raised(case: Case) -> None:
    case.api.faults.fail_next(1, status=403, verb="get", plural="leases")
    assert await case.asks(Source()) == Options() and "may not be read" in case.heard[0]
    case.api.faults.fail_next(10, status=500, verb="get", plural="leases")
    with pytest.raises(ApiError):
        await case.asks(Source())


async def test_namespaces_are_read_only_where_a_label_decides(case: Case) -> None:
    meta = {"name": "one", "labels": {"team": "x"}}
    case.api.store.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    assert Namespace("one", {"team": "x"}) in await told_namespaces(case.gateway, Options(trust_domain="label:team"))
    assert await told_namespaces(case.gateway, PACKS) == []


@pytest.mark.parametrize(
    ("lease", "trust_domain", "said"),
    [
        ("tessera", "", "--lease: found 'tessera'; allowed: NAMESPACE/NAME"),
        ("a/b/c", "", "--lease: found 'a/b/c'; allowed: NAMESPACE/NAME"),
        ("/b", "", "--lease: found '/b'; allowed: NAMESPACE/NAME"),
        ("", "team", "--trust-domain: found 'team'; allowed: cluster, namespace, or label:KEY with the key of a label"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(lease: str, trust_domain: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is compared
        source_of(lease, trust_domain)
    assert str(caught.value) == said
