"""The same questions to the in-process API server and, with the real programs at hand, to kube-apiserver itself.

``pytest tests/contract/kube -m ''`` asks both; without ``-m ''`` only the first.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from tessera.kube.connection import Connection, FixedToken, plain
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, GPU_LEASES, GPU_NODES, NAMESPACES, untyped
from tessera.simulator.apiserver import ApiServer
from tests.contract.kube.real import TOKEN, KubeApiServer
from tests.e2e import programs

CRDS = Path(__file__).parents[3] / "charts/tessera/crds"


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    try:
        server = KubeApiServer(tmp_path_factory.mktemp("kube-apiserver"))
    except programs.Missing as missing:
        pytest.skip(str(missing))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["in-process", pytest.param("kube-apiserver", marks=pytest.mark.e2e)])
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    if request.param == "in-process":
        async with ApiServer(bookmark_s=0.2) as server, Gateway(plain(server.url)) as opened:
            yield opened
        return
    real: KubeApiServer = request.getfixturevalue("real")
    tls = ssl.create_default_context(cafile=str(real.ca))
    async with Gateway(Connection(real.url, tls, FixedToken(TOKEN))) as opened:
        await _with_crd(opened)
        yield opened


async def _with_crd(gateway: Gateway) -> None:
    for path in sorted(CRDS.glob("*.yaml")):
        await gateway.apply(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()), field_manager="tests")
    async with asyncio.timeout(30):
        while True:
            try:
                await gateway.list(GPU_NODES)
                await gateway.list(GPU_LEASES)
                return
            except ApiError as error:
                if not error.not_found and not error.temporary:
                    raise
                await asyncio.sleep(0.1)


@pytest.fixture
async def namespace(gateway: Gateway) -> str:
    made = await gateway.create(untyped(NAMESPACES), {"metadata": {"generateName": "contract-"}})
    return str(made["metadata"]["name"])
