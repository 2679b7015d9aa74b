"""The state of GPUs as a policy sees it."""

from dataclasses import dataclass

from tessera.model.ledger import Ints


@dataclass(frozen=True, slots=True)
class GpuArrays:
    """Some GPUs, as arrays of one common shape: bytes, percent points, counts of shares.

    ``node_tenants`` is the count of shares on the GPU's whole node.
    """

    mem_bytes: Ints
    free_bytes: Ints
    free_percent: Ints
    tenants: Ints
    node_tenants: Ints
