"""An unchanged program on a pool beyond TLS."""

from pathlib import Path

import pytest

from tests.remote.wire.certificates import Authority, Pair
from tests.remote.wire.served import lines_of, run_in_pool, serving

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

PROGRAM = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(8, 1).to("cuda")
large = torch.ones(3_000_000, device="cuda").cpu()
model(torch.ones(4, 8, device="cuda")).square().sum().backward()
print(large.sum().item(), model.weight.grad.shape[1])
"""


def options(authority: Authority, pair: Pair) -> list[str]:
    return ["--tls-ca", str(authority.cert), "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]


def test_a_program_runs_with_the_right_certificate_and_with_no_other(tmp_path: Path) -> None:
    authority, strangers = Authority(tmp_path, "ca"), Authority(tmp_path, "strangers")
    server = authority.sign("server")
    files = ["--tls-cert", str(server.cert), "--tls-key", str(server.key), "--tls-client-ca", str(authority.cert)]
    with serving(tmp_path, *files) as served:
        ran = run_in_pool(served.address, PROGRAM, *options(authority, authority.sign("client")))
        assert ran.stdout == "3000000.0 8\n" and ran.returncode == 0, ran.stderr
        refused = run_in_pool(served.address, PROGRAM, *options(authority, strangers.sign("stranger")))
        assert refused.returncode == 1 and "ConnectError: TLS: the pool does not take" in refused.stderr
    assert [line["reason"] for line in lines_of(served.log) if line["event"] == "connection refused"] == ["Tls"]
