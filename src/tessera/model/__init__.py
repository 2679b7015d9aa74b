"""The pure core: quantities, GPUs, demands, assignments and the ledger. No I/O, no clock, numpy at most."""
