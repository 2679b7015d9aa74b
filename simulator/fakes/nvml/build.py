"""Builds the stub ``libnvidia-ml.so.1``."""

from pathlib import Path

from tessera.simulator.fakes.compiling import BuildError, Stub

__all__ = ["SONAME", "BuildError", "library_dir"]

SONAME = "libnvidia-ml.so.1"
_HERE = Path(__file__).resolve().parent
_STUB = Stub(
    "nvml",
    "the stub NVML library",
    SONAME,
    sources=(_HERE / "nvml.c", _HERE / "state.c"),
    read=(_HERE / "state.h", Path(__file__)),
)


def library_dir() -> Path:
    """The folder that holds ``libnvidia-ml.so.1``, for LD_LIBRARY_PATH. Builds it if need be; raises ``BuildError``."""
    return _STUB.library_dir()


if __name__ == "__main__":
    print(library_dir())
