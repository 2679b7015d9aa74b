"""A stand-in for kube-scheduler: small, and true to it where an extender can see the difference.

True: one pod at a time, plugins before extenders, filter then prioritize then bind, bind in the background with the pod
assumed, ties at random, back-off and wake-ups by events, the texts of ``PodScheduled``. Left out: preemption,
affinity, volumes, priorities of the queue.
"""

from tessera.simulator.kube_scheduler.service import KubeScheduler, Settings

__all__ = ["KubeScheduler", "Settings"]
