"""A stand-in for kube-controller-manager: Deployments, ReplicaSets, StatefulSets and Jobs make and replace their pods.

True: owner references, names, replacement of ended pods, a Job's counts, its limit of failures and its end; pods whose
owner is gone are deleted. Left out: rolling updates (old pods go as soon as the template changes), adoption, history.
"""

from tessera.simulator.controllers.service import Controllers

__all__ = ["Controllers"]
