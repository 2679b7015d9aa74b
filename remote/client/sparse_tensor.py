"""A sparse tensor (COO) on the remote device: where its elements are and what they are, two strided tensors of it."""

from typing import Any

import torch
from torch._utils import _rebuild_sparse_tensor

from tessera.remote.client.tensor import DEVICE, RemoteTensor


class SparseTensor(torch.Tensor):
    """Autograd takes it for a sparse tensor of the device, as the gradient of an embedding is one."""

    remote: Any = None
    """Runs operators: set once the device is there."""
    where: RemoteTensor
    """The place of each element in the sparse dimensions: int64 of (sparse dimensions, elements)."""
    what: RemoteTensor
    """The elements: (elements, sizes of the dense dimensions)."""
    coalesced: bool
    """Whether no place occurs twice, and they are in order."""

    @staticmethod
    def of(where: RemoteTensor, what: RemoteTensor, sizes: Any, *, coalesced: bool = False) -> "SparseTensor":
        """The parts must fit together."""
        parts = (torch.empty(part.shape, dtype=part.dtype, device="meta") for part in (where, what))
        like = torch.sparse_coo_tensor(*parts, list(sizes), check_invariants=False)
        device = torch.device(DEVICE, 0)
        made: SparseTensor = torch.Tensor._make_subclass(
            SparseTensor, like, False, dispatch_device=True, device_for_backend_keys=device
        )
        made.where, made.what, made.coalesced = where, what, coalesced
        return made

    def here(self) -> torch.Tensor:
        """A copy of it in this machine's memory."""
        where, what = self.where.cpu(), self.what.cpu()
        return torch.sparse_coo_tensor(
            where, what, self.shape, check_invariants=False, is_coalesced=self.coalesced or None
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As torch writes a sparse tensor, so that whoever has torch can read it."""
        return _rebuild_sparse_tensor, (torch.sparse_coo, (self.where, self.what, self.shape, self.coalesced))

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return SparseTensor.remote.run_sparse(function, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"{repr(self.here())[:-1]}, device='{self.device}')"
