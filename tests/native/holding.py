"""A program that takes memory, says so, and holds it until its input ends."""

import sys
from ctypes import byref, c_uint64

from tests.native.driver import Driver

if __name__ == "__main__":
    d = Driver()
    print(d("cuMemAlloc_v2", byref(c_uint64()), int(sys.argv[1])), flush=True)
    sys.stdin.read()
