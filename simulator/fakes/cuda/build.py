"""Builds the fake ``libcuda.so.1`` against the real ``cuda.h``."""

import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from tessera.simulator.fakes.compiling import BuildError, Stub

__all__ = ["INCLUDE_ENV", "SONAME", "BuildError", "include_dir", "library_dir"]

SONAME = "libcuda.so.1"
INCLUDE_ENV = "TESSERA_CUDA_INCLUDE"
PACKAGE = "nvidia-cuda-runtime"
_HERE = Path(__file__).resolve().parent


def library_dir() -> Path:
    """The folder that holds ``libcuda.so.1``, for LD_LIBRARY_PATH. Builds it if need be; raises ``BuildError``."""
    include = include_dir()
    # What cuGetProcAddress answers must be this library's own functions, whatever else exports their names.
    stub = Stub(
        "cuda",
        "the fake CUDA driver",
        SONAME,
        sources=(*sorted(_HERE.glob("*.c")), _HERE.parent / "nvml" / "state.c"),
        read=(*sorted(_HERE.glob("*.h")), _HERE.parent / "nvml" / "state.h", include / "cuda.h", Path(__file__)),
        flags=("-std=gnu11", "-fvisibility=hidden", "-Wl,-Bsymbolic", f"-I{include}"),
    )
    return stub.library_dir()


def include_dir() -> Path:
    """The folder that holds ``cuda.h``: TESSERA_CUDA_INCLUDE, or the installed package's. Raises ``BuildError``."""
    chosen = os.environ.get(INCLUDE_ENV)
    found = Path(chosen) if chosen else _packaged()
    if found is None or not (found / "cuda.h").is_file():
        raise BuildError(f"no cuda.h: install {PACKAGE}, or set {INCLUDE_ENV} to the folder that holds it")
    return found


def _packaged() -> Path | None:
    try:
        header = next((file for file in files(PACKAGE) or () if file.name == "cuda.h"), None)
    except PackageNotFoundError:
        return None
    return Path(str(header.locate())).parent if header else None


if __name__ == "__main__":
    print(library_dir())
