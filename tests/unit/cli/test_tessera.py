"""The program ``tessera``: quick help, and one sentence for a command line that cannot be used."""

import subprocess
import sys

import pytest

from tessera import __version__
from tessera.cli.tessera import invoke


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["demo", "--once", "-o", "xml"], "--output: found 'xml'; allowed: table or json"),
        (["demo", "-o", "json"], "allowed: json only together with --once"),
        (["demo", "--port", "70000"], "--port"),
        (["demo", "--seed", "x"], "--seed"),
        (["demo", "--sometimes"], "--sometimes"),
        (["demos"], "demos"),
    ],
)
def test_a_bad_command_line_is_one_sentence(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_without_arguments_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([]) == 0
    out, _ = capsys.readouterr()
    for name in ("demo", "scheduler", "device-plugin", "node-agent", "dashboard", "version"):
        assert name in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_help_loads_none_of_the_processes() -> None:
    heavy = ("grpc", "aiohttp", "fastapi", "numpy", "kubernetes", "pynvml", "msgspec")
    code = (
        "import sys; from tessera.cli.tessera import invoke; invoke(['--help']); "
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["device-plugin"], "tessera device-plugin: --node: "),
        (["node-agent"], "tessera node-agent: --node: "),
        (["scheduler", "--port", "abc"], "tessera scheduler: --port: "),
        (["scheduler", "--lease_s", "5"], "tessera scheduler: found '--lease_s'; allowed: --lease-s"),
        (
            ["scheduler", "--compatibility", "hami,other"],
            "tessera scheduler: --compatibility.1: found 'other'; allowed: ",
        ),
        (["dashboard", "--listn", "x"], "tessera dashboard: found '--listn'; allowed: --listen"),
        (["dashboard", "--auth", "x"], "tessera dashboard: --auth: found 'x'; allowed: 'kubernetes' or 'none'"),
    ],
)
def test_the_processes_read_their_own_options(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith(said) and err.count("\n") == 1


def test_a_variable_that_the_demo_cannot_use_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TESSERA_LOG_FORMAT", "loud")
    assert invoke(["demo", "--once"]) == 2
    assert capsys.readouterr().err == "tessera demo: --log-format: found 'loud'; allowed: 'console' or 'json'\n"
