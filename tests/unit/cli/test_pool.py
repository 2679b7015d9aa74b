"""Command lines of ``tessera serve`` and ``tessera run --pool`` that are refused before anything is served or run."""

import pytest

from tessera.cli.tessera import invoke

FILES = ["--tls-cert", "a", "--tls-key", "b", "--tls-client-ca", "c"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["serve", "--host", "0.0.0.0"], "found '0.0.0.0' without --insecure-loopback; allowed: a loopback address"),
        (["serve", "--host", "0.0.0.0", "--insecure-loopback"], "found '0.0.0.0' with --insecure-loopback; allowed:"),
        (["serve"], "found '127.0.0.1' without --insecure-loopback"),
        (["serve", *FILES[:4]], "--tls-client-ca: found none; allowed: all three files of TLS, or none of them"),
        (["serve", *FILES, "--insecure-loopback"], "--insecure-loopback: found it with the files of TLS"),
        (
            ["run", "--pool", "h:1", "--tls-ca", "a", "--", "true"],
            "--tls-cert, --tls-key: found none; allowed: all three",
        ),
        (["run", "--tls-ca", "a", "--", "true"], "--tls-ca: found it without --pool; allowed: only with it"),
        (["run", "--pool", "h", "--", "true"], "--pool: found 'h'; allowed: HOST:PORT"),
        (["run", "--pool", "h:65536", "--", "true"], "--pool: found 'h:65536'; allowed: HOST:PORT"),
        (["run", "--pool", "h:1", "--gpu-mem", "3Q", "--", "true"], "--gpu-mem: '3Q' is not a quantity"),
        (
            ["run", "--pool", "h:1", "--gpu-core", "30", "--qos", "burstable", "--simulate", "--", "true"],
            "--gpu-core, --qos, --simulate: found it with --pool; allowed: on this machine only",
        ),
    ],
)
def test_refused(line: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(line) == 2
    assert sentence in capsys.readouterr().err
