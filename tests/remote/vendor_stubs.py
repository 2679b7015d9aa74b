"""Stands in for NVIDIA's libraries that PyPI's torch is linked with, so that it loads without their three gigabytes.

torch computes on the CPU in the tests; the loader still asks for every library and symbol. A stub has the SONAME, the
version node and the symbols that torch's own libraries name, each of which ends the process if it is ever called.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection

_VENDOR = ("libcu", "libnv", "libnccl")
_DRIVER = "libcuda.so.1"
"""Left out: only what torch opens by itself once there is a GPU needs it, and a stub would look like one."""
_LOOSE = re.compile(r"(cu[A-Zs]|nccl|nvshmem|nvrtc).*")
"""Names of vendor symbols that carry no version."""


@dataclass
class Wanted:
    """What torch's libraries take from elsewhere: names by version node and library, and those without a version."""

    by_library: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    loose: set[str] = field(default_factory=set)


def build(libraries: Path, beside: Path) -> list[str]:
    """Makes a stub in ``libraries`` (torch/lib) for each vendor library that is neither there nor under ``beside``.

    Answers the names of those it made. Raises ``CalledProcessError`` if one does not compile.
    """
    there = {path.name for folder in (libraries, beside) for path in folder.rglob("*.so*")}
    wanted = _wanted(sorted(libraries.glob("*.so*")))
    made = sorted(wanted.by_library.keys() - there)
    for name in made:
        nodes = wanted.by_library[name]
        names = set().union(*nodes.values()) if nodes else wanted.loose
        _compile(libraries / name, sorted(names), sorted(nodes))
    return made


def _wanted(paths: Iterable[Path]) -> Wanted:
    wanted = Wanted()
    for path in paths:
        with path.open("rb") as file:
            elf = ELFFile(file)
            for name in _needed(elf):
                if name.startswith(_VENDOR) and name != _DRIVER:
                    wanted.by_library.setdefault(name, {})
            for library, version, symbol in _undefined(elf):
                if library in wanted.by_library:
                    wanted.by_library[library].setdefault(version, set()).add(symbol)
                elif not library and _LOOSE.fullmatch(symbol):
                    wanted.loose.add(symbol)
    return wanted


def _needed(elf: ELFFile) -> Iterator[str]:
    section = elf.get_section_by_name(".dynamic")
    assert isinstance(section, DynamicSection)
    yield from (tag.needed for tag in section.iter_tags("DT_NEEDED"))


def _undefined(elf: ELFFile) -> Iterator[tuple[str, str, str]]:
    """Library, version node and name of each symbol taken from elsewhere; the first two are empty without a version."""
    needs, versions = elf.get_section_by_name(".gnu.version_r"), elf.get_section_by_name(".gnu.version")
    nodes = {}
    if isinstance(needs, GNUVerNeedSection):
        nodes = {
            node["vna_other"]: (library.name, node.name) for library, each in needs.iter_versions() for node in each
        }
    for index, symbol in enumerate(elf.get_section_by_name(".dynsym").iter_symbols()):
        if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name:
            at = versions.get_symbol(index)["ndx"] if isinstance(versions, GNUVerSymSection) else 0
            yield (*nodes.get(at, ("", "")), symbol.name)


def _compile(out: Path, names: Iterable[str], nodes: Iterable[str]) -> None:
    script = "".join(f"{node} {{ global: *; }};\n" for node in nodes)
    with tempfile.TemporaryDirectory() as folder:
        source, versions = Path(folder) / "stub.c", Path(folder) / "versions"
        source.write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in names))
        versions.write_text(script)
        command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-w", "-fno-builtin"]
        command += [f"-Wl,-soname,{out.name}", "-o", str(out), str(source)]
        command += [f"-Wl,--version-script={versions}"] if script else []
        subprocess.run(command, check=True)
