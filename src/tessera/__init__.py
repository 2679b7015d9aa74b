"""Tessera shares and pools GPUs on Kubernetes.

A pod asks for ``gpu-mem: 4Gi`` and gets that slice of some GPU in the cluster, packed beside others and held to it.
"""

__version__ = "0.1.0"
