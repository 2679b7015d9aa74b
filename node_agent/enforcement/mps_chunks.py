"""How many chunks of a GPU's multiprocessors a slice's own partition has. Pure.

Partitions are disjoint and come in whole chunks, so a percentage seldom fits: a slice gets the chunks that hold what it
asked for, as long as what is then left still serves, rounded down, all that the ledger may yet give away; else fewer.
One chunk is kept for the slices that ask for no compute, which share it.
"""

COMMON = 1
"""The chunks of the partition that all slices without ``gpu-core`` share."""


def own_chunks(percent: int, total: int, taken: int, unclaimed: int) -> int:
    """The chunks for a slice that asks for ``percent`` of a GPU with ``total``; 0: none is left for it.

    ``taken``: those of the other slices' own partitions; ``unclaimed``: percent that neither these slices nor this one
    asked for.
    """
    room = total - COMMON
    wanted = -(-percent * total // 100)
    return max(min(wanted, room - taken - unclaimed * room // 100), 0)
