"""The shim as it ships, the fake driver, the stub NVML library, and containers to run programs in."""

import importlib.util
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tessera.simulator.fakes.cuda import build as cuda
from tessera.simulator.fakes.nvml import build as nvml
from tessera.simulator.fakes.nvml.presets import host_gpus
from tessera.simulator.fakes.nvml.state import NvmlState
from tests.native.container import ROOT, Container, unshare

TableRow = tuple[str, str, int, bool]
NATIVE = ROOT / "native"
ZIG = (sys.executable, "-m", "ziglang", "cc")


def module(name: str) -> Any:
    """A program of ``native``, which is no package."""
    spec = importlib.util.spec_from_file_location(f"native_{name}", NATIVE / f"{name}.py")
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="session")
def include() -> Path:
    """The folder with cuda.h."""
    return cuda.include_dir()


@pytest.fixture(scope="session")
def table(include: Path) -> list[TableRow]:
    """Every variant that the shim stands in for: symbol, base name, version, whether it is a thread's own."""
    header, typedefs = ((include / name).read_text() for name in ("cuda.h", "cudaTypedefs.h"))
    return [(e.symbol, e.base, e.version, e.per_thread) for e in module("generate").entries(header, typedefs)]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preloaded library, as ``make native`` builds it."""
    return module("build").build(tmp_path_factory.mktemp("shim"), platform.machine())


@pytest.fixture(scope="session")
def linked(table: Sequence[TableRow], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that is linked to the driver, with the addresses that the loader gave it for each symbol."""
    folder = tmp_path_factory.mktemp("linked")
    symbols = [symbol for symbol, *_ in table]
    declared = "".join(f"extern void {symbol}(void);\n" for symbol in symbols)
    rows = "".join(f'  {{"{symbol}", {symbol}}},\n' for symbol in symbols)
    source, out = folder / "linked.c", folder / "liblinked.so"
    source.write_text(f"{declared}struct {{ const char *name; void (*at)(void); }} linked[] = {{\n{rows}}};\n")
    driver = cuda.library_dir() / cuda.SONAME
    subprocess.run([*ZIG, "-shared", "-fPIC", "-o", str(out), str(source), str(driver)], check=True)
    return out


@pytest.fixture(scope="session")
def versioned(include: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fake driver whose symbols have a version: dlvsym finds no others."""
    folder = tmp_path_factory.mktemp("versioned")
    script = folder / "versions"
    script.write_text("libcuda.so.1 { global: cu*; tessera_fake_*; local: *; };\n")
    fakes = Path(cuda.__file__).parent
    sources = [str(path) for path in (*sorted(fakes.glob("*.c")), fakes.parent / "nvml" / "state.c")]
    flags = ["-std=gnu11", "-shared", "-fPIC", f"-Wl,-Bsymbolic,-soname,{cuda.SONAME},--version-script,{script}"]
    command = [*ZIG, *flags, "-I", str(include), "-o", str(folder / cuda.SONAME), *sources, "-lpthread"]
    subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two GPUs: the file that both fakes read, and the UUIDs."""
    gpus = host_gpus(["H100", "H100"], host="slices")
    path = tmp_path_factory.mktemp("machine") / "state"
    NvmlState(gpus=gpus).write(path)
    return path, [gpu.uuid for gpu in gpus]


@pytest.fixture(scope="session")
def new_container(
    shim: Path, machine: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Container]:
    """Makes containers, each with a slice of both GPUs."""
    if subprocess.run(
        [*unshare(), "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine gives nobody a mount namespace of his own")
    state, uuids = machine
    libraries = [cuda.library_dir(), nvml.library_dir()]
    return lambda: Container(tmp_path_factory.mktemp("container") / "run", shim, libraries, state, uuids)


@pytest.fixture
def container(new_container: Callable[[], Container]) -> Container:
    """One of them."""
    return new_container()
