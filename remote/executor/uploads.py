"""Tensors that the client sends."""

import math

import torch


class PartlyUploaded:
    """A tensor whose bytes are coming."""

    def __init__(self, handle: int, dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
        self.handle, self._dtype, self._sizes = handle, dtype, sizes
        self.size: int = math.prod(sizes) * dtype.itemsize
        self.left: int = self.size
        self._data = bytearray()
        self._error: Exception | None = None

    @property
    def received(self) -> int:
        return self.size - self.left

    def begin(self) -> None:
        self._data = bytearray(self.size)

    def refuse(self, error: Exception) -> None:
        """The bytes still come and are let go."""
        self._error = error

    def add(self, payload: bytes | memoryview) -> None:
        if self._error is None:
            at = self.size - self.left
            self._data[at : at + len(payload)] = payload
        self.left -= len(payload)

    def state(self) -> tuple[int, str, tuple[int, ...], Exception | None, int, memoryview]:
        """Handle, dtype, sizes, why it is refused, how many bytes have come, and these."""
        dtype = str(self._dtype).removeprefix("torch.")
        data = memoryview(self._data)[: 0 if self._error else self.received]
        return self.handle, dtype, self._sizes, self._error, self.received, data

    def tensor(self) -> torch.Tensor:
        if self._error is not None:
            raise self._error
        if not self.size:
            return torch.empty(self._sizes, dtype=self._dtype)
        return torch.frombuffer(self._data, dtype=self._dtype).reshape(self._sizes)
