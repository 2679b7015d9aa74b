"""A small program on the CUDA driver itself, by ctypes: ``driver_client.py COMMAND ARGUMENTS``. Prints JSON lines.

It stands alone, so that any Python runs it, in a lease or out of it.
"""

import ctypes
import json
import os
import sys
import time
from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_void_p

MULTIPROCESSORS = 16
MIB = 1 << 20
SPIN = b"""
.version 6.0
.target sm_60
.address_size 64
.visible .entry spin(.param .u64 cycles)
{
  .reg .u64 %rd<5>; .reg .pred %p<2>;
  ld.param.u64 %rd1, [cycles];
  mov.u64 %rd2, %clock64;
again:
  mov.u64 %rd3, %clock64;
  sub.u64 %rd4, %rd3, %rd2;
  setp.lt.u64 %p1, %rd4, %rd1;
  @%p1 bra again;
  ret;
}
.visible .entry wild(.param .u64 address)
{
  .reg .u64 %rd<2>; .reg .u32 %r<2>;
  ld.param.u64 %rd1, [address];
  mov.u32 %r1, 1;
  st.global.u32 [%rd1], %r1;
  ret;
}
"""


class Location(ctypes.Structure):
    """CUmemLocation."""

    _fields_ = (("type", c_int), ("id", c_int))


class AllocationProp(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = (("type", c_int), ("handles", c_int), ("location", Location), ("windows", c_void_p), ("rest", c_uint64))


class PoolProps(ctypes.Structure):
    """CUmemPoolProps."""

    _fields_ = (
        ("type", c_int), ("handles", c_int), ("location", Location), ("windows", c_void_p), ("most", c_size_t),
        ("rest", ctypes.c_char * 56),
    )  # fmt: skip


class AllocNode(ctypes.Structure):
    """CUDA_MEM_ALLOC_NODE_PARAMS."""

    _fields_ = (
        ("pool", PoolProps), ("access", c_void_p), ("access_count", c_size_t), ("bytes", c_size_t),
        ("pointer", c_uint64),
    )  # fmt: skip


class Flat(ctypes.Structure):
    """CUDA_ARRAY_DESCRIPTOR."""

    _fields_ = (("width", c_size_t), ("height", c_size_t), ("format", c_int), ("channels", c_uint))


def say(**values: object) -> None:
    """One line, in one piece: others may write to the same pipe."""
    sys.stdout.write(f"{json.dumps(values)}\n")
    sys.stdout.flush()


class Driver:
    """The driver, with a context on the first device that this process sees."""

    def __init__(self, library: str = "libcuda.so.1", lib: object = None) -> None:
        self.lib = lib or ctypes.CDLL(library)
        self.device, context = c_int(), c_void_p()
        self.ok("cuInit", 0)
        self.ok("cuDeviceGet", byref(self.device), 0)
        self.ok("cuDevicePrimaryCtxRetain", byref(context), self.device)
        self.ok("cuCtxSetCurrent", context)

    def __call__(self, name: str, *arguments: object) -> int:
        return int(getattr(self.lib, name)(*arguments))  # type: ignore[attr-defined]

    def ok(self, name: str, *arguments: object) -> None:
        """Calls what must succeed; else says the code and ends."""
        if code := self(name, *arguments):
            say(error=name, code=code)
            sys.exit(1)

    def attribute(self, number: int) -> int:
        """Of the device."""
        out = c_int()
        self.ok("cuDeviceGetAttribute", byref(out), number, self.device)
        return out.value

    def memory(self) -> tuple[int, int]:
        """Free and total bytes, as programs are told."""
        free, total = c_size_t(), c_size_t()
        self.ok("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def function(self, name: bytes) -> c_void_p:
        """A kernel of ``SPIN``."""
        module, function = c_void_p(), c_void_p()
        self.ok("cuModuleLoadData", byref(module), SPIN)
        self.ok("cuModuleGetFunction", byref(function), module, name)
        return function

    def launch(self, function: c_void_p, argument: int, blocks: int) -> int:
        """Answers the driver's code."""
        value = c_uint64(argument)
        arguments = (c_void_p * 1)(ctypes.cast(byref(value), c_void_p))
        return self("cuLaunchKernel", function, blocks, 1, 1, 128, 1, 1, 0, None, arguments, None)


def plain(d: Driver, size: int) -> int:
    """cuMemAlloc."""
    return d("cuMemAlloc_v2", byref(c_uint64()), c_size_t(size))


def managed(d: Driver, size: int) -> int:
    """cuMemAllocManaged."""
    return d("cuMemAllocManaged", byref(c_uint64()), c_size_t(size), 1)


def ordered(d: Driver, size: int) -> int:
    """cuMemAllocAsync."""
    code = d("cuMemAllocAsync", byref(c_uint64()), c_size_t(size), None)
    return code or d("cuStreamSynchronize", None)


def pitched(d: Driver, size: int) -> int:
    """cuMemAllocPitch."""
    return d("cuMemAllocPitch_v2", byref(c_uint64()), byref(c_size_t()), c_size_t(1 << 16), c_size_t(size >> 16), 4)


def physical(d: Driver, size: int) -> int:
    """cuMemCreate."""
    return d("cuMemCreate", byref(c_uint64()), c_size_t(size), byref(AllocationProp(1, 0, Location(1, 0))), c_uint64(0))


def array(d: Driver, size: int) -> int:
    """cuArrayCreate: rows of 128 KiB of four floats."""
    return d("cuArrayCreate_v2", byref(c_void_p()), byref(Flat(1 << 13, size >> 17, 0x20, 4)))


def of_graph(d: Driver, size: int) -> int:
    """A graph that allocates, launched."""
    graph, node, program = c_void_p(), c_void_p(), c_void_p()
    params = AllocNode(pool=PoolProps(1, 0, Location(1, 0)), bytes=size)
    d.ok("cuGraphCreate", byref(graph), 0)
    code = d("cuGraphAddMemAllocNode", byref(node), graph, None, c_size_t(0), byref(params))
    code = code or d("cuGraphInstantiateWithFlags", byref(program), graph, c_uint64(0))
    code = code or d("cuGraphLaunch", program, None)
    return code or d("cuStreamSynchronize", None)


WAYS = {f.__name__: f for f in (plain, managed, ordered, pitched, physical, array, of_graph)}


def fill(way: str, step_mib: str, most_mib: str = "0", hold_s: str = "0", told: str = "") -> None:
    """Allocates in steps until it is refused, or ``most_mib`` are there; holds it so long. With ``told`` it begins when
    a line comes on standard input, with its context made."""
    d, step, taken, code = Driver(), int(step_mib) * MIB, 0, 0
    if told:
        say(ready=True)
        sys.stdin.readline()
    before = d.memory()
    while not code and (not int(most_mib) or taken < int(most_mib) * MIB):
        code = WAYS[way](d, step)
        taken += 0 if code else step
    say(way=way, taken=taken, code=code, free_before=before[0], total=before[1], free_after=d.memory()[0])
    time.sleep(float(hold_s))


def info() -> None:
    """What a program is told of its device."""
    d = Driver()
    free, total = d.memory()
    say(sms=d.attribute(MULTIPROCESSORS), free=free, total=total)


def spin(seconds: str, mib: str = "0") -> None:
    """Keeps every multiprocessor busy, with so much memory."""
    d = Driver()
    function, blocks = d.function(b"spin"), 4 * d.attribute(MULTIPROCESSORS)
    if int(mib):
        d.ok("cuMemAlloc_v2", byref(c_uint64()), c_size_t(int(mib) * MIB))
    say(ready=True)
    deadline, launched = time.monotonic() + float(seconds), 0
    while time.monotonic() < deadline:
        for _ in range(16):
            if code := d.launch(function, 200_000, blocks):
                return say(launched=launched, code=code)
            launched += 1
        if code := d("cuCtxSynchronize"):
            return say(launched=launched, code=code)
    return say(launched=launched, code=0)


def fault(delay_s: str = "0") -> None:
    """Writes where nothing is."""
    d = Driver()
    function = d.function(b"wild")
    say(ready=True)
    time.sleep(float(delay_s))
    code = d.launch(function, 0xDEAD0000, 1) or d("cuCtxSynchronize")
    say(code=code)


def deepbind(step_mib: str, most_mib: str, hold_s: str) -> None:
    """The same as ``fill plain`` with the driver's own names before those of a preloaded library."""
    d, taken = Driver(lib=ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOW | os.RTLD_DEEPBIND)), 0
    while taken < int(most_mib) * MIB and not plain(d, int(step_mib) * MIB):
        taken += int(step_mib) * MIB
    say(way="deepbind", taken=taken)
    time.sleep(float(hold_s))


if __name__ == "__main__":
    {"fill": fill, "info": info, "spin": spin, "fault": fault, "deepbind": deepbind}[sys.argv[1]](*sys.argv[2:])
