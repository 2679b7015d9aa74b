"""Builds ``libtessera.so``, the shim that a container's programs preload, and checks what it asks of their libc; and
``tessera-dmem``, the hook that a runtime runs on the host, which must ask for nothing.

``python native/build.py OUT`` writes both below ``OUT/x86_64`` and ``OUT/aarch64`` with PyPI's ``ziglang``;
``CC=gcc python native/build.py OUT`` builds with that compiler, for this machine alone. The CUDA header comes from the
``nvidia-cuda-runtime`` wheel; ``TESSERA_CUDA_INCLUDE`` names another folder.

A shim that the loader cannot link stops every program of the container, so the build fails unless the library needs
libc.so.6 alone, asks for no symbol newer than glibc 2.17 and imports nothing of libdl or pthread.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection

NAME = "libtessera.so"
HOOK = "tessera-dmem"
ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_GLIBC = (2, 17)
SOURCE = Path(__file__).resolve().parent
_FLAGS = (
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-plt"),
    *(f"-Wl,-soname,{NAME}", "-Wl,-z,now", "-Wl,-z,relro", "-Wl,-z,noexecstack", "-Wl,-Bsymbolic", "-s"),
)


_HOOK_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s")


class BuildError(Exception):
    """The shim could not be built, or must not be used."""


def cuda_include() -> Path:
    """The folder of ``cuda.h``. Raises ``BuildError``."""
    if chosen := os.environ.get("TESSERA_CUDA_INCLUDE"):
        return Path(chosen)
    try:
        files = metadata.files("nvidia-cuda-runtime") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "cuda.h":
            return Path(str(file.locate())).parent
    raise BuildError("cuda.h: not found; install nvidia-cuda-runtime or name its folder in TESSERA_CUDA_INCLUDE")


def build(out: Path, architecture: str, compiler: str = "") -> Path:
    """Compiles for one architecture and checks the result; answers the library's path. Raises ``BuildError``."""
    library = out / architecture / NAME
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        _run([sys.executable, str(SOURCE / "generate.py"), str(cuda_include()), str(Path(made) / "entries.h")])
        unfinished = Path(made) / NAME
        command = [compiler, "-nostartfiles"] if compiler else [*_zig(_oldest(architecture)), "-nostdlib"]
        sources = sorted(str(path) for path in (SOURCE / "src").glob("*.c"))
        includes = ["-I", made, "-isystem", str(cuda_include())]
        _run([*command, *_FLAGS, *includes, "-o", str(unfinished), *sources, "-lc"])
        if complaints := sorted(complaints_about(unfinished)):
            raise BuildError(f"{NAME} for {architecture}: {'; '.join(complaints)}")
        library.write_bytes(unfinished.read_bytes())
    library.chmod(0o755)
    return library


def build_hook(out: Path, architecture: str, compiler: str = "") -> Path:
    """Compiles the hook for one architecture; answers its path. Raises ``BuildError``."""
    program = out / architecture / HOOK
    program.parent.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path) for path in (SOURCE / "hook").glob("*.c"))
    with tempfile.TemporaryDirectory() as made:
        unfinished = Path(made) / HOOK
        command = [compiler] if compiler else _zig(f"{architecture}-linux-musl")
        _run([*command, *_HOOK_FLAGS, "-o", str(unfinished), *sources])
        with unfinished.open("rb") as file:
            if any(part.header.p_type == "PT_INTERP" for part in ELFFile(file).iter_segments()):  # type: ignore[no-untyped-call]
                raise BuildError(f"{HOOK} for {architecture}: it needs a loader; allowed: a static program")
        program.write_bytes(unfinished.read_bytes())
    program.chmod(0o755)
    return program


def complaints_about(library: Path) -> Iterator[str]:
    """What an old libc, or one without libdl and pthread, could not link."""
    with library.open("rb") as file:
        elf = ELFFile(file)  # type: ignore[no-untyped-call]
        dynamic = elf.get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        for tag in dynamic.iter_tags():
            if tag.entry.d_tag == "DT_NEEDED" and tag.needed != "libc.so.6":
                yield f"it needs {tag.needed}; allowed: libc.so.6"
        for name, version in _imports(elf):
            if name.startswith(("pthread_", "dl")) and name != "dl_iterate_phdr":
                yield f"it imports {name}; allowed: nothing of libdl or pthread"
            if version and _number(version) > OLDEST_GLIBC:
                yield f"it imports {name}@{version}; allowed: GLIBC_2.17 and older"


def _imports(elf: ELFFile) -> Iterator[tuple[str, str]]:
    symbols, versions = elf.get_section_by_name(".dynsym"), elf.get_section_by_name(".gnu.version")
    needed = elf.get_section_by_name(".gnu.version_r")
    assert isinstance(symbols, SymbolTableSection)
    names = {}
    if isinstance(needed, GNUVerNeedSection):
        names = {each.entry.vna_other: each.name for _, all_of in needed.iter_versions() for each in all_of}
    for number, symbol in enumerate(symbols.iter_symbols()):
        if symbol.entry.st_shndx == "SHN_UNDEF" and symbol.name:
            index = versions.get_symbol(number).entry.ndx if isinstance(versions, GNUVerSymSection) else None
            yield symbol.name, names.get(index, "")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.removeprefix("GLIBC_").split("."))


def _oldest(architecture: str) -> str:
    return f"{architecture}-linux-gnu.{'.'.join(map(str, OLDEST_GLIBC))}"


def _zig(target: str) -> list[str]:
    return [sys.executable, "-m", "ziglang", "cc", "-target", target]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{Path(command[0]).name}: {done.stderr.strip() or done.returncode}")


def main(out: Path) -> None:
    """Builds for every architecture, or with ``CC`` for this machine's."""
    compiler = os.environ.get("CC", "")
    for architecture in (platform.machine(),) if compiler else ARCHITECTURES:
        print(build(out, architecture, compiler))
        print(build_hook(out, architecture, compiler))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BuildError as error:
        sys.exit(str(error))
