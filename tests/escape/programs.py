"""Programs for containers, built with PyPI's ziglang: of an old glibc, static, and of musl."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tessera.simulator.fakes.cuda.build import include_dir
from tests.native.container import ROOT

HERE = Path(__file__).resolve().parent
FAKES = ROOT / "simulator" / "fakes"
SHOWN = "int main(void) { return 0; }\n"
VERSION = (
    "#include <gnu/libc-version.h>\n#include <stdio.h>\nint main(void) { return puts(gnu_get_libc_version()) < 0; }\n"
)


def build(folder: Path) -> Path:
    """``taker`` (glibc 2.17), ``taker-static`` and ``taker-musl`` with the driver in them, ``true-old``: the folder.

    ``version`` says the C library's; ``taker-setuid`` is root's whoever starts it; ``preload-nothing`` lists nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    machine = os.uname().machine
    driver = [*sorted(str(path) for path in (FAKES / "cuda").glob("*.c")), str(FAKES / "nvml" / "state.c")]
    own = ["-DLINKED", *driver, "-lpthread"]
    source = str(HERE / "taker.c")
    _compile(folder / "taker", f"{machine}-linux-gnu.2.17", [source, "-ldl"])
    _compile(folder / "taker-static", f"{machine}-linux-musl", [source, "-static", *own])
    _compile(folder / "taker-musl", f"{machine}-linux-musl", [source, "-dynamic", *own])
    shutil.copy(folder / "taker", folder / "taker-setuid")
    (folder / "taker-setuid").chmod(0o4755)
    (folder / "preload-nothing").touch()
    shown = folder / "true.c"
    shown.write_text(SHOWN)
    _compile(folder / "true-old", f"{machine}-linux-gnu.2.17", [str(shown)])
    told = folder / "version.c"
    told.write_text(VERSION)
    _compile(folder / "version", f"{machine}-linux-gnu.2.17", [str(told)])
    _compile(folder / "true-static", f"{machine}-linux-musl", [str(shown), "-static"])
    _compile(folder / "true-musl", f"{machine}-linux-musl", [str(shown), "-dynamic"])
    return folder


def _compile(out: Path, target: str, rest: list[str]) -> None:
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-std=gnu11", "-O1", f"-I{include_dir()}"]
    subprocess.run([*command, "-o", str(out), *rest], check=True, capture_output=True, text=True)
