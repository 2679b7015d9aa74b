"""A stand-in for nvidia-cuda-mps-control and its daemon, without a GPU."""
