"""``tessera run --pool``: the program's own status and output, in environments that know nothing of this package."""

import importlib.metadata
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.server import ONE_THREAD, PATIENCE_S, pool_command, run

pytestmark = pytest.mark.torch

UNREACHABLE = "127.0.0.1:9"


def started(address, *command, **environment):
    given = {**os.environ, **ONE_THREAD, **environment}
    return subprocess.run(
        pool_command(address, *command), capture_output=True, text=True, timeout=PATIENCE_S, env=given
    )


def test_output_and_status_are_the_programs(address):
    found = started(address, "sh", "-c", "printf 'a\\n b'; printf 'c' >&2; exit 7")
    assert (found.returncode, found.stdout, found.stderr) == (7, "a\n b", "c")
    assert started(address, "sh", "-c", "kill -9 $$").returncode == -signal.SIGKILL


def test_a_program_that_is_not_there(address):
    found = started(address, "no-such-program")
    assert found.returncode == 127 and found.stderr.startswith("tessera run: command: found 'no-such-program'")


def test_a_program_that_never_uses_the_device_does_not_notice():
    found = run(UNREACHABLE, "import torch; print(torch.ones(2).sum().item(), torch.cuda.is_available())")
    assert (found.returncode, found.stdout, found.stderr) == (0, "2.0 True\n", "")


def test_a_pool_that_does_not_answer_is_an_error_at_the_first_use():
    found = run(UNREACHABLE, "import torch; torch.ones(2, device='cuda')")
    assert found.returncode == 1 and "refused" in found.stderr.splitlines()[-1]


def test_what_was_set_before_the_first_use_is_the_executors_too(address):
    code = """if True:
        import torch
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        x = torch.arange(2, device="cuda") / 2
        print(x.tolist(), x.dtype, torch.empty(1, device="cuda").isnan().item())
        torch.set_default_dtype(torch.float32)
        print((torch.arange(2, device="cuda") / 2).tolist())
    """
    found = run(address, code)
    assert (found.stdout, found.stderr) == ("[0.0, 0.5] torch.float64 True\n[0.0, 0.5]\n", "")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A folder with torch and what torch needs, and no more."""
    folder = tmp_path_factory.mktemp("bare")
    site = Path(importlib.metadata.distribution("torch").locate_file("")).resolve()
    wanted = (
        "torch", "torchgen", "functorch", "nvidia", "typing_extensions.py", "filelock", "sympy", "mpmath", "networkx",
        "jinja2", "markupsafe", "fsspec",
    )  # fmt: skip
    for name in wanted:
        if (site / name).exists():
            (folder / name).symlink_to(site / name)
    return folder


def test_an_environment_with_torch_alone(address, bare):
    code = """if True:
        import importlib.util, sys, torch
        x = torch.arange(6.0, device="cuda").reshape(2, 3).requires_grad_()
        (x * torch.ones(2, 3).cuda()).sum().backward()
        print(x.grad.tolist(), x.device, importlib.util.find_spec("numpy"))
        print(sorted(name for name in sys.modules if name.split(".")[0] in ("msgspec", "grpc", "typer")))
    """
    found = started(address, sys.executable, "-S", "-W", "ignore", "-c", code, PYTHONPATH=str(bare))
    assert found.stdout == "[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]] cuda:0 None\n[]\n", found.stderr


def test_a_program_captures_by_what_the_hook_brings(address, bare):
    code = """if True:
        import torch, tessera.remote
        fast = tessera.remote.capture(torch.nn.Linear(3, 2).cuda().requires_grad_(False))
        print([fast(torch.ones(4, 3, device="cuda")).shape for _ in range(2)])
        print([type(one).__name__ for one in fast._known.values()])
    """
    found = started(address, sys.executable, "-S", "-c", code, PYTHONPATH=str(bare))
    assert found.stdout == "[torch.Size([4, 2]), torch.Size([4, 2])]\n['Program']\n", found.stderr


def loading(folder, version):
    """A package of this name and version that loads its entry points as torch does."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(
        f"__version__ = {version!r}\n"
        "from importlib.metadata import entry_points\n"
        "for entry in entry_points(group='torch.backends'):\n"
        "    entry.load()()\n"
    )
    return str(folder)


@pytest.mark.parametrize(("version", "said"), [
    ("2.4.1", "tessera: no remote device: torch: found 2.4.1; allowed: 2.10 or newer"),
    ("nightly", "tessera: no remote device: "),
])  # fmt: skip
def test_a_torch_out_of_range_is_left_alone(address, tmp_path, version, said):
    folder = loading(tmp_path, version)
    found = started(address, sys.executable, "-S", "-c", "import torch; print(torch.__version__)", PYTHONPATH=folder)
    assert (found.returncode, found.stdout) == (0, f"{version}\n")
    assert found.stderr.startswith(said) and found.stderr.count("\n") == 1


def test_without_torch_nothing_happens(address):
    found = started(address, sys.executable, "-S", "-c", "print(1)", PYTHONPATH="")
    assert (found.returncode, found.stdout, found.stderr) == (0, "1\n", "")


def test_without_a_pool_the_hook_does_nothing(tmp_path):
    import tessera.remote

    hook = Path(tessera.remote.__file__).parent / "hook"
    path = os.pathsep.join((str(hook), loading(tmp_path, "2.4.1")))
    environment = {name: value for name, value in os.environ.items() if name != "TESSERA_POOL"}
    command = [sys.executable, "-S", "-c", "import torch"]
    found = subprocess.run(command, capture_output=True, text=True, env={**environment, "PYTHONPATH": path})
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
