"""The CUDA driver from a program's side: by ctypes, under the names that its library exports or that it answers."""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import byref, c_char, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tests.native.slices import Ledger

SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, INVALID_DEVICE, OPERATING_SYSTEM, NOT_FOUND = 0, 1, 2, 101, 304, 500
DEFAULT, LEGACY, PER_THREAD = 0, 1, 2
DEVICE, HOST, LOCALITY_DOMAIN = 1, 2, 6

Function = Callable[..., int]


class Location(ctypes.Structure):
    """CUmemLocation."""

    _fields_ = (("type", c_int), ("id", c_int))


class AllocationProp(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = (
        ("type", c_int),
        ("handle_types", c_int),
        ("location", Location),
        ("windows", c_void_p),
        ("flags", c_char * 8),
    )


class PoolProps(ctypes.Structure):
    """CUmemPoolProps."""

    _fields_ = (
        ("type", c_int),
        ("handle_types", c_int),
        ("location", Location),
        ("windows", c_void_p),
        ("most", c_size_t),
        ("reserved", c_char * 56),
    )


class AllocNode(ctypes.Structure):
    """CUDA_MEM_ALLOC_NODE_PARAMS."""

    _fields_ = (
        ("pool", PoolProps),
        ("access", c_void_p),
        ("access_count", c_size_t),
        ("bytes", c_size_t),
        ("pointer", c_uint64),
    )


class KernelNode(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS, without what version 2 has more."""

    _fields_ = (
        ("function", c_void_p),
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared", c_uint),
        ("params", c_void_p),
        ("extra", c_void_p),
        ("rest", c_void_p * 2),
    )


class ChildNode(ctypes.Structure):
    """CUDA_CHILD_GRAPH_NODE_PARAMS."""

    _fields_ = (("graph", c_void_p), ("moved", c_int))


class AnyNode(ctypes.Union):
    """What a CUgraphNodeParams is about."""

    _fields_ = (
        ("alloc", AllocNode),
        ("kernel", KernelNode),
        ("child", ChildNode),
        ("free", c_uint64),
        ("bytes", c_char * 232),
    )


class NodeParams(ctypes.Structure):
    """CUgraphNodeParams."""

    _fields_ = (("type", c_int), ("reserved", c_int * 3), ("of", AnyNode), ("reserved2", c_uint64))


class Flat(ctypes.Structure):
    """CUDA_ARRAY_DESCRIPTOR."""

    _fields_ = (("width", c_size_t), ("height", c_size_t), ("format", c_int), ("channels", c_uint))


class FlatV1(ctypes.Structure):
    """CUDA_ARRAY_DESCRIPTOR_v1."""

    _fields_ = (("width", c_uint), ("height", c_uint), ("format", c_int), ("channels", c_uint))


class Deep(ctypes.Structure):
    """CUDA_ARRAY3D_DESCRIPTOR."""

    _fields_ = (
        ("width", c_size_t),
        ("height", c_size_t),
        ("depth", c_size_t),
        ("format", c_int),
        ("channels", c_uint),
        ("flags", c_uint),
    )


class DeepV1(ctypes.Structure):
    """CUDA_ARRAY3D_DESCRIPTOR_v1."""

    _fields_ = (
        ("width", c_uint),
        ("height", c_uint),
        ("depth", c_uint),
        ("format", c_int),
        ("channels", c_uint),
        ("flags", c_uint),
    )


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared", c_uint),
        ("stream", c_void_p),
        ("attributes", c_void_p),
        ("count", c_uint),
    )


class LaunchParams(ctypes.Structure):
    """CUDA_LAUNCH_PARAMS."""

    _fields_ = (
        ("function", c_void_p),
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared", c_uint),
        ("stream", c_void_p),
        ("params", c_void_p),
    )


class InstantiateParams(ctypes.Structure):
    """CUDA_GRAPH_INSTANTIATE_PARAMS."""

    _fields_ = (("flags", c_uint64), ("stream", c_void_p), ("node", c_void_p), ("result", c_int))


class IpcHandle(ctypes.Structure):
    """CUipcMemHandle."""

    _fields_ = (("reserved", c_char * 64),)


class Linked(ctypes.Structure):
    """A symbol of the library that was linked to the driver."""

    _fields_ = (("name", ctypes.c_char_p), ("address", c_void_p))


def _argument(value: object) -> object:
    """A whole register for every number; a function that wants less takes its lower half."""
    return c_uint64(value & 0xFFFFFFFFFFFFFFFF) if isinstance(value, int) else value


def _function(address: int | None) -> Function:
    made = ctypes.CFUNCTYPE(c_int)(address or 0)
    return lambda *arguments: int(made(*(_argument(argument) for argument in arguments)))


class Driver:
    """The driver's functions. ``way`` is how ``found`` comes to one of them:

    ``linked``, ``dlsym``, ``dlvsym``, ``default`` (RTLD_DEFAULT), ``v1:FLAGS`` and ``v2:FLAGS`` (cuGetProcAddress).
    """

    def __init__(
        self,
        way: str = "dlsym",
        table: Sequence[tuple[str, str, int, bool]] = (),
        linked: str = "",
        start: bool = True,
        devices: int = 1,
    ) -> None:
        self.way, self.table, self.linked, self.devices = way, table, linked, devices
        self.lib = ctypes.CDLL("libcuda.so.1")
        self.program = ctypes.CDLL(None)
        self.ledger = Ledger(Path("/run/tessera-usage/ledger"))
        self._functions: dict[str, Function] = {}
        if start:
            self.ok("cuInit", 0)
            self.context = self.new("cuCtxCreate_v2", 0, 0)

    def __call__(self, symbol: str, *arguments: object) -> int:
        if symbol not in self._functions:
            self._functions[symbol] = _function(self.dlsym(symbol))
        return self._functions[symbol](*arguments)

    def ok(self, symbol: str, *arguments: object) -> None:
        """Calls what must succeed."""
        code = self(symbol, *arguments)
        assert code == SUCCESS, f"{symbol}: {code}"

    def new(self, symbol: str, *arguments: object) -> int:
        """Calls what must succeed and answers what it wrote to its first argument."""
        out = c_uint64()
        self.ok(symbol, byref(out), *arguments)
        return out.value

    def used(self, device: int = 0) -> int:
        """What the driver says that this process holds."""
        self.lib.tessera_fake_cuda_used.restype = c_uint64
        return int(self.lib.tessera_fake_cuda_used(device))

    def calls(self, symbol: str) -> int:
        """How often the driver's own function was called."""
        self.lib.tessera_fake_cuda_calls.restype = ctypes.c_ulong
        return int(self.lib.tessera_fake_cuda_calls(symbol.encode()))

    def holds(self, size: int, device: int = 0) -> None:
        """Fails unless the driver holds that much and the slice was charged with it."""
        assert (self.used(device), self.ledger.held(device)) == (size, size), (
            f"driver {self.used(device)}, ledger {self.ledger.held(device)}, expected {size}"
        )

    def charged(self, size: int, device: int = 0) -> None:
        """Fails unless the slice was charged with that much."""
        assert self.ledger.held(device) == size, f"ledger {self.ledger.held(device)}, expected {size}"

    def found(self, symbol: str) -> Function:
        """The function under test."""
        return _function(self.address(symbol, self.way))

    def address(self, symbol: str, way: str) -> int | None:
        """A function's address by the way of looking it up."""
        if way == "linked":
            return self._linked(symbol)
        if way in ("dlsym", "dlvsym", "default"):
            return getattr(self, way)(symbol)  # type: ignore[no-any-return]
        which, flags = way.split(":")
        base, version = next((b, v) for s, b, v, _ in self.table if s == symbol)
        return self.answered(which, base, version, int(flags))[1]

    def dlsym(self, symbol: str) -> int | None:
        """By the library's handle."""
        return self._looked_up("dlsym", c_void_p(self.lib._handle), symbol.encode())

    def dlvsym(self, symbol: str) -> int | None:
        """By the library's handle and a version; the driver's symbols have none, so any will do."""
        return self._looked_up("dlvsym", c_void_p(self.lib._handle), symbol.encode(), b"libcuda.so.1")

    def own(self, symbol: str) -> Function:
        """The driver's own function, found in its library's tables: the shim does not hear of it."""
        maps = Path("/proc/self/maps").read_text().splitlines()
        place = next(line.split() for line in maps if "libcuda.so.1" in line)
        with Path(place[-1]).open("rb") as file:
            table = ELFFile(file).get_section_by_name(".dynsym")
            offset = table.get_symbol_by_name(symbol)[0].entry.st_value
        return _function(int(place[0].split("-")[0], 16) + offset)

    def default(self, symbol: str) -> int | None:
        """By RTLD_DEFAULT."""
        return self._looked_up("dlsym", c_void_p(0), symbol.encode())

    def _looked_up(self, by: str, *arguments: object) -> int | None:
        look_up = self.program[by]
        look_up.restype = c_void_p
        return look_up(*arguments)  # type: ignore[no-any-return]

    def _linked(self, symbol: str) -> int | None:
        rows = (Linked * len(self.table)).in_dll(ctypes.CDLL(self.linked), "linked")
        address: int | None = next(row.address for row in rows if row.name == symbol.encode())
        return address

    def answered(self, which: str, base: str, version: int, flags: int) -> tuple[int, int | None]:
        """The code and address that cuGetProcAddress answers."""
        out = c_void_p()
        if which == "v1":
            return self("cuGetProcAddress", base.encode(), byref(out), version, flags), out.value
        status = c_int()
        return self("cuGetProcAddress_v2", base.encode(), byref(out), version, flags, byref(status)), out.value
