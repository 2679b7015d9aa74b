"""Writes the table of the driver's entry points that the shim stands in for, from the CUDA header.

``python native/generate.py INCLUDE_DIR OUT`` reads ``cuda.h`` and ``cudaTypedefs.h`` and writes ``OUT``: one line
``X(symbol, "base", version, per_thread)`` for every variant of every name in ``HOOKED``, and for a name that became
another's (``ALIASES``). A function of the header that
looks as if it could give out device memory and is in neither list stops the build: somebody has to decide about it.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_NAMES = """
cuMemAlloc cuMemAllocPitch cuMemAllocManaged cuMemFree cuMemAllocAsync cuMemAllocFromPoolAsync cuMemFreeAsync
cuMemPoolCreate cuMemPoolDestroy cuMemPoolTrimTo cuMemPoolImportFromShareableHandle
cuArrayCreate cuArray3DCreate cuArrayDestroy cuMipmappedArrayCreate cuMipmappedArrayDestroy
cuMemCreate cuMemRelease cuMemRetainAllocationHandle cuMemMap cuMemUnmap
cuGraphAddMemAllocNode cuGraphAddNode cuGraphDestroyNode cuGraphDestroy cuGraphInstantiate
cuGraphInstantiateWithFlags cuGraphInstantiateWithParams cuGraphExecDestroy cuDeviceGraphMemTrim
cuStreamBeginCapture cuStreamEndCapture
cuCtxCreate cuCtxDestroy cuCtxDetach cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease cuDevicePrimaryCtxReset
cuGreenCtxCreate cuGreenCtxDestroy
cuLaunchKernel cuLaunchKernelEx cuLaunchCooperativeKernel cuLaunchCooperativeKernelMultiDevice cuLaunch
cuLaunchGrid cuLaunchGridAsync cuGraphLaunch
cuMemGetInfo cuDeviceTotalMem
cuGetProcAddress
"""
HOOKED = frozenset(_NAMES.split())
"""Memory that is charged and what gives it back; compute that is paid for; what is told of the GPU; the look-up."""

ALIASES: Mapping[str, tuple[str, int]] = {"cuGraphInstantiate": ("cuGraphInstantiateWithFlags", 12000)}
"""Names whose newest variant is another function, from this version on."""

_HOST = "host memory"
_VIEW = "a view of memory that is charged already"
_IMPORT = "memory of another process, charged there"
_NONE = "no device memory of its own"
NOT_CHARGED: Mapping[str, str] = {
    **dict.fromkeys(("cuMemAllocHost", "cuMemHostAlloc"), _HOST),
    **dict.fromkeys(
        (
            "cuArrayGetPlane",
            "cuMemGetAddressRange",
            "cuMemHostGetDevicePointer",
            "cuMipmappedArrayGetLevel",
            "cuModuleGetGlobal",
            "cuLibraryGetGlobal",
            "cuLibraryGetManaged",
            "cuTexRefGetAddress",
            "cuTexRefGetArray",
            "cuTexRefGetMipmappedArray",
            "cuSurfRefGetArray",
            "cuGraphicsSubResourceGetMappedArray",
            "cuGraphicsResourceGetMappedMipmappedArray",
            "cuGraphicsResourceGetMappedPointer",
            "cuExternalMemoryGetMappedBuffer",
            "cuExternalMemoryGetMappedMipmappedArray",
        ),
        _VIEW,
    ),
    **dict.fromkeys(
        (
            "cuIpcOpenMemHandle",
            "cuMemImportFromShareableHandle",
            "cuMemPoolImportPointer",
            "cuImportExternalMemory",
            "cuImportExternalSemaphore",
            "cuLogicalEndpointImport",
        ),
        _IMPORT,
    ),
    **dict.fromkeys(
        (
            "cuLinkCreate",
            "cuMemAddressReserve",
            "cuMemGetAllocationGranularity",
            "cuMemGetAllocationPropertiesFromHandle",
            "cuDeviceGetMemPool",
            "cuDeviceGetDefaultMemPool",
            "cuMemGetMemPool",
            "cuMemGetDefaultMemPool",
            "cuMulticastCreate",
            "cuLogicalEndpointIdReserve",
            "cuLogicalEndpointCreate",
            "cuStreamCreate",
            "cuStreamCreateWithPriority",
            "cuEventCreate",
            "cuGraphCreate",
            "cuGraphMemAllocNodeGetParams",
            "cuGraphMemFreeNodeGetParams",
            "cuUserObjectCreate",
            "cuGraphConditionalHandleCreate",
            "cuTexRefCreate",
            "cuTexObjectCreate",
            "cuSurfObjectCreate",
            "cuTensorMapSetAllocationClass",
            "cuGreenCtxStreamCreate",
        ),
        _NONE,
    ),
}
"""Functions that look like allocations, and why they are none."""

_LOOKS_LIKE_MEMORY = re.compile(
    r"Alloc|Create|Reserve|OpenMem|ImportFrom|ImportPointer|ImportExternalMemory|EndpointImport"
)
_GIVES = re.compile(
    r"(?<!const )\b(CUdeviceptr|CUarray|CUmipmappedArray|CUmemGenericAllocationHandle|CUmemoryPool) ?\*"
)
_SETS_OF_POINTERS = re.compile(r"^cuMem(cpy|Prefetch|Discard)")


class HeaderError(Exception):
    """The header holds what the shim does not know."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One variant. ``version``: the first driver version (as 12040) that answers it for its base name."""

    symbol: str
    base: str
    version: int
    per_thread: bool


def entries(header: str, typedefs: str) -> list[Entry]:
    """Every variant of the hooked names. Raises ``HeaderError``."""
    declared = dict(_declared(header))
    unknown = sorted(_unsorted(declared))
    if unknown:
        raise HeaderError(f"cuda.h: functions that may give out memory, not in HOOKED or NOT_CHARGED: {unknown}")
    versions: dict[str, set[tuple[int, str]]] = {}
    for base, version, suffix in re.findall(r"\*PFN_(cu\w+?)_v(\d+)(_ptsz|_ptds)?\)", typedefs):
        versions.setdefault(base, set()).add((int(version), suffix))
    missing = sorted(HOOKED - versions.keys())
    if missing:
        raise HeaderError(f"cudaTypedefs.h: no versions of {missing}")
    return [entry for base in sorted(HOOKED) for entry in _variants(base, versions[base], header)]


def _variants(base: str, versions: set[tuple[int, str]], header: str) -> Iterator[Entry]:
    for suffix in sorted({suffix for _, suffix in versions}):
        numbers = sorted(version for version, found in versions if found == suffix)
        for number, version in enumerate(numbers, 1):
            symbol = base if number == 1 else f"{base}_v{number}"
            if not re.search(rf"\b{symbol}\b", header):
                raise HeaderError(f"cuda.h: no {symbol}, which should be {base} of version {version}")
            yield Entry(symbol + suffix, base, version, bool(suffix))


def _declared(header: str) -> Iterator[tuple[str, str]]:
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    for name, arguments in re.findall(r"CUresult CUDAAPI\s+(cu\w+)\s*\(([^;]*?)\);", text):
        yield re.sub(r"(_v\d+)?(_ptsz|_ptds)?$", "", name), " ".join(arguments.split())


def _unsorted(declared: Mapping[str, str]) -> Iterator[str]:
    for name, arguments in declared.items():
        gives = _GIVES.search(arguments) and not _SETS_OF_POINTERS.match(name)
        if (gives or _LOOKS_LIKE_MEMORY.search(name)) and name not in HOOKED and name not in NOT_CHARGED:
            yield name


def written(found: list[Entry]) -> str:
    """The table as a C header."""
    other = [Entry(symbol, base, version, per_thread=False) for base, (symbol, version) in ALIASES.items()]
    tables = "\n".join(_macro(name, each) for name, each in (("ENTRIES", found), ("ALIASES", other)))
    return f"/* Made by generate.py from cuda.h and cudaTypedefs.h. */\n{tables}"


def _macro(name: str, rows: list[Entry]) -> str:
    lines = [f'  X({e.symbol}, "{e.base}", {e.version}, {int(e.per_thread)})' for e in rows]
    return f"#define {name}(X) \\\n" + " \\\n".join(lines) + "\n"


def main(include: Path, out: Path) -> None:
    """Reads the headers and writes the table."""
    header, typedefs = ((include / name).read_text() for name in ("cuda.h", "cudaTypedefs.h"))
    out.write_text(written(entries(header, typedefs)))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except HeaderError as error:
        sys.exit(str(error))
