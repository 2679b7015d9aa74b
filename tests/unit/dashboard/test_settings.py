"""Which settings are served, and which are refused with one sentence."""

import subprocess
import sys

import pytest

from tessera.dashboard.settings import DashboardSettings


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:8484", "localhost:80", "127.1.2.3:1"])
def test_no_sign_in_is_allowed_on_loopback(listen: str) -> None:
    assert DashboardSettings(listen=listen, auth="none").refusal() == ""


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "gpu-host:80", "localhost.evil:80"])
def test_no_sign_in_is_refused_elsewhere(listen: str) -> None:
    assert "auth: found none" in DashboardSettings(listen=listen, auth="none").refusal()
    assert DashboardSettings(listen=listen, auth="kubernetes").refusal() == ""


@pytest.mark.parametrize("listen", ["", "8484", ":80", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:http"])
def test_a_malformed_address_names_the_field(listen: str) -> None:
    assert DashboardSettings(listen=listen).refusal().startswith("listen: found")


def test_half_of_a_certificate_is_refused() -> None:
    assert "tls_cert, tls_key" in DashboardSettings(tls_cert="cert.pem").refusal()


def test_sign_in_is_the_default() -> None:
    assert DashboardSettings().auth == "kubernetes" and DashboardSettings().loopback


def test_the_process_refuses_to_start_with_one_sentence() -> None:
    code = "import sys; from tessera.dashboard.main import run; sys.exit(run(sys.argv[1:]))"
    argv = ["--listen", "0.0.0.0:0", "--auth", "none", "--server", "http://127.0.0.1:1"]
    ended = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False, timeout=60)
    said = ended.stderr.strip().splitlines()
    assert ended.returncode == 2 and len(said) == 1
    assert said[0].startswith("tessera dashboard: auth: found none while listening on 0.0.0.0:0")
