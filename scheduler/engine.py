"""The scheduler's decisions: filter, prioritize, bind and preempt over the ledger.

Facts come in from the API server (``observe_*``), questions from kube-scheduler; everything is memory, nothing waits.
Room that is promised but not yet a fact is charged to the same ledger under the pod's UID:

- a *hold*, from prioritize until bind, so that the next pod's filter does not see the same room;
- a *reservation*, from bind until the API server shows the bound pod or the Binding is refused.

Both end with a deadline, with the pod, or by becoming a fact. Single-threaded: one event loop owns an engine.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tessera.model.assignment import Assignment
from tessera.model.charges import Charge, charge_of, fits_demand, totals_of
from tessera.model.demands import PodDemand, demand_of
from tessera.model.domains import Domains, Namespace, rule_of
from tessera.model.gpus import GpuNode
from tessera.model.hosts import Host
from tessera.model.ledger import Bools, Ledger
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason
from tessera.scheduler.arrivals import Arrivals
from tessera.scheduler.attached import Attached
from tessera.scheduler.choice import choose
from tessera.scheduler.clients import Clients
from tessera.scheduler.earmark import part_of
from tessera.scheduler.elsewhere import Elsewhere
from tessera.scheduler.fit import still_held
from tessera.scheduler.lease_rooms import is_hold
from tessera.scheduler.leased import Leased
from tessera.scheduler.leases import Leases
from tessera.scheduler.local import Local
from tessera.scheduler.nearness import Siblings, spans_gpus
from tessera.scheduler.offers import Filtered, Offer, Scores, offer_of, refused_by_all
from tessera.scheduler.options import Options
from tessera.scheduler.placing import Placing
from tessera.scheduler.policies import Policies
from tessera.scheduler.policy.kernels import Floats
from tessera.scheduler.promises import Promise, Promised, Request
from tessera.scheduler.ranking import Ties, best_first, tens
from tessera.scheduler.refusals import remote_reason
from tessera.scheduler.relocation import Relocations
from tessera.scheduler.ways import Ways

_REQUEST_LIFE_S = 900.0
_HOLD_TRIES = 16
_NO_ROOM = Reason(Code.NO_ROOM, "no node has room for the pod")


class Engine:
    """See the module. ``clock`` answers seconds that never go back; ``leases`` are a copy of another engine's."""

    def __init__(
        self, clock: Callable[[], float], options: Options | None = None, leases: Leases | None = None
    ) -> None:
        self.options = options or Options()
        self.domains = Domains(rule_of(self.options.trust_domain))
        self.leases = leases or Leases(
            Ledger(separate=self.domains.rule.separate), self.options.pool, lambda node: self.freed.add(node)
        )
        self.ledger = self.leases.ledger
        self.waiting: dict[str, tuple[Pod, Reason]] = {}
        self.freed: set[str] = set()
        self.keeps: dict[str, tuple[str, Assignment | None]] = {}
        self.arrivals = Arrivals()
        self.siblings = Siblings()
        self._clock = clock
        ties, pool = Ties(self.options.seed), self.options.pool
        self._policies = Policies(self.options, self.arrivals.workload)
        self._local = Local(self.ledger, self._policies, ties, self.siblings)
        self.placing = placing = Placing(self.leases, pool, self._policies, ties) if pool else None
        self.relocations = (
            Relocations(self.leases, placing, self.domains.of, self.options.context_bytes) if placing else None
        )
        clients = Clients(self.ledger, placing, ties) if placing else None
        elsewhere = Elsewhere(self.leases, placing, clients) if placing and clients else None
        attached = Attached(self.leases, clients, self._policies) if clients else None
        self._ways = Ways(self.ledger, self._local, Leased(self.leases), elsewhere, attached)
        self._promises: dict[str, Promised] = {}
        self._requests: dict[str, Request] = {}
        self._asked: dict[str, float] = {}

    # Facts

    def observe_node(self, node: GpuNode) -> None:
        """A node published its GPUs."""
        if self.ledger.node(node.name) != node:
            self.ledger.upsert_node(node)
            self.freed.add(node.name)

    def forget_node(self, name: str) -> None:
        """A node's GPUs are published no more."""
        self.ledger.remove_node(name)

    def observe_host(self, host: Host) -> None:
        """A node's CPU, memory, zone and rack."""
        self.ledger.upsert_host(host)

    def forget_host(self, name: str) -> None:
        """A node is gone from the cluster."""
        self.ledger.remove_host(name)

    def observe_namespace(self, namespace: Namespace) -> None:
        """A namespace's labels. They decide for pods to come; who is placed, or being bound, stays what it was."""
        if self.domains.observe(namespace):
            self.freed.update(node.name for node in self.ledger.nodes())

    def forget_namespace(self, name: str) -> None:
        """A namespace is gone."""
        self.domains.forget(name)

    def replace_namespaces(self, namespaces: Iterable[Namespace]) -> None:
        listed = {namespace.name: namespace for namespace in namespaces}
        for gone in set(self.domains.names()) - listed.keys():
            self.forget_namespace(gone)
        for namespace in listed.values():
            self.observe_namespace(namespace)

    def observe_pod(self, pod: Pod) -> None:
        """A pod as the API server shows it, with or without slices; once bound, it takes the place of any promise."""
        charge = charge_of(pod)
        if charge is not None:
            if not pod.lease:
                self.arrivals.bound(pod)
            if charge.assignment and len(charge.assignment.shares) > 1:
                self.siblings.saw(pod.uid, pod.owner, charge.node)
            self._forget_request(pod.uid)
            self._promises.pop(pod.uid, None)
            self.leases.bound(pod, charge)
        elif pod.node and not pod.ended and self.ledger.charge_of(pod.uid) is None:
            self._forget_request(pod.uid)  # it runs without slices: however often it is told of, it has not left
        elif pod.ended or pod.node or (pod.deleting and self._promised(pod.uid) is not Promise.RESERVATION):
            self.forget_pod(pod.uid)
        if pod.node and not pod.ended:
            self.ledger.occupy(pod.uid, pod.node, pod.host)

    def forget_pod(self, uid: str) -> None:
        """A pod is gone: whatever it held is free."""
        self.arrivals.left(uid, held=uid in self.ledger.charges())
        self._forget_request(uid)
        self._promises.pop(uid, None)
        self._release(uid)

    def replace(self, nodes: Iterable[GpuNode], pods: Iterable[Pod]) -> None:
        """All nodes and pods at once, after a LIST: what is not among them is gone."""
        self.replace_nodes(nodes)
        self.replace_pods(pods)

    def replace_nodes(self, nodes: Iterable[GpuNode]) -> None:
        listed = {node.name: node for node in nodes}
        for gone in [node.name for node in self.ledger.nodes() if node.name not in listed]:
            self.forget_node(gone)
        for node in listed.values():
            self.observe_node(node)

    def replace_hosts(self, hosts: Iterable[Host]) -> None:
        listed = {host.name: host for host in hosts}
        for gone in self.ledger.hosts().keys() - listed.keys():
            self.forget_host(gone)
        for host in listed.values():
            self.observe_host(host)

    def replace_pods(self, pods: Iterable[Pod]) -> None:
        listed = {pod.uid: pod for pod in pods}
        self.list_pods(listed.values(), listed.keys())

    def list_pods(self, pods: Iterable[Pod], uids: Collection[str] | None) -> None:
        """A part of a LIST; with the last one come the ``uids`` of all: what is not among them is gone."""
        self.arrivals.list_begins()
        for pod in pods:
            self.arrivals.listed(pod)
            self.observe_pod(pod)
        if uids is not None:
            self._end_list(uids)

    def _end_list(self, uids: Collection[str]) -> None:
        known = {*self.ledger.charges(), *self.ledger.occupants(), *self._asked}
        for uid in known.difference(uids):
            if not (is_hold(uid) or uid in self._promises):  # a list may be older than a promise; its deadline decides
                self.forget_pod(uid)
        self.arrivals.list_ends()

    # Questions

    def filter(self, pod: Pod, offer: Offer | Sequence[str]) -> Filtered:
        """Which nodes of ``offer`` can hold ``pod``; drops its former hold, holds nothing new unless one is left.

        With ``filter_chooses`` one is left wherever the pod could be held on the policy's choice.
        """
        if not isinstance(offer, Offer):
            offer = offer_of(self.ledger, offer)
        request = self._request(pod)
        if request is None:
            return Filtered(offer, np.ones(len(offer.rows), np.bool_))
        if isinstance(request, Reason):
            return self._refuse(pod, offer, request)
        if reason := self._taken(pod.uid):
            return self._refuse(pod, offer, reason)
        held = self._drop_hold(pod.uid)
        answer = self._filter(request, offer)
        if answer.reason is not None and pod.uid in self.keeps:
            self._keep(request, *self.keeps[pod.uid])
        elif np.count_nonzero(answer.kept) == 1:
            self._hold(request, [self.ledger.names[offer.rows[answer.kept][0]]])
        elif answer.reason is None and self.options.filter_chooses:
            row = self._hold_best(request, self._scores(request, offer.mask(self.ledger, answer.kept)))
            answer = answer if row is None else Filtered(offer, offer.rows == row)
        self._tell_left(pod.uid, held)
        return answer

    def prioritize(self, pod: Pod, names: Sequence[str]) -> list[tuple[str, int]]:
        """``scores`` by name."""
        return list(zip(names, self.scores(pod, offer_of(self.ledger, names)).tolist(), strict=True))

    def scores(self, pod: Pod, offer: Offer) -> Scores:
        """Of each node offered: 10 for exactly one, on which room is then held, the rest 0..9 by rank."""
        request = self._request(pod)
        if request is None or isinstance(request, Reason) or self._taken(pod.uid):
            return np.zeros(len(offer.rows), np.int8)
        held = self._drop_hold(pod.uid)
        scores = self._scores(request, offer.mask(self.ledger))
        chosen = self._hold_best(request, scores)
        self._tell_left(pod.uid, held)
        return tens(scores, chosen, offer)

    def place(self, pod: Pod, offered: Bools, *, explain: bool = False) -> str | Reason:
        """What filter, prioritize and bind decide together, on the ledger rows ``offered``: the node, with the pod's
        room taken. A pod without slices is placed by the same policy, and takes CPU and memory of the host only.

        A refusal names its causes only if it is to ``explain``, which costs more than to find it.
        """
        request = self._request(pod)
        if isinstance(request, Reason):
            return request
        if request is None:
            return self._place_beside(pod, offered)
        way, mask = self._ways.of(request, offered)
        if mask.any() and (row := self._hold_best(request, way.scores(request, mask))) is not None:
            self._extend(pod.uid, Promise.RESERVATION)
            return self.ledger.names[row]
        return way.reason(request, offered) if explain else _NO_ROOM

    def scores_beside(self, pod: Pod, offered: Bools) -> Floats:
        """By ledger row, for a pod without slices: the policy's score where ``offered``, else ``NEVER``."""
        self._request(pod)
        return self._local.scores_of(pod, None, offered)

    def _place_beside(self, pod: Pod, offered: Bools) -> str | Reason:
        for row in best_first(self._local.scores_of(pod, None, offered), 1):
            self.ledger.occupy(pod.uid, self.ledger.names[row], pod.host)
            return self.ledger.names[row]
        return Reason(Code.NO_ROOM, "no node has the CPU and the memory")

    def reserve(self, uid: str, node: str) -> tuple[Request, Assignment] | Reason:
        """Picks the GPUs on ``node`` on the ledger as it is now and charges them; the caller sends the Binding."""
        if taken := self._taken(uid):
            return taken
        request = self._requests.get(uid)
        if request is None:
            return Reason(Code.INVALID_REQUEST, f"pod {uid} asks for no slice, or was not asked about before")
        if not self._is_current(request):
            text = f"the trust domain of namespace {request.pod.namespace} is another than when the pod was asked about"
            return Reason(Code.UNKNOWN_DOMAIN, text)
        if (assignment := self._held(request, node)) is not None:
            self._extend(uid, Promise.RESERVATION)
            return request, assignment
        held = self._drop_hold(uid)
        way = self._ways.on(request, node)
        given = way.choose(request, node)
        reason = way.node_reason(request, node) if given is None else self.leases.reserve(request.pod, given)
        self._tell_left(uid, held)
        if given is None or given.charge.assignment is None or reason:
            return reason or _NO_ROOM
        self._promise(request, node, Promise.RESERVATION)
        return request, given.charge.assignment

    def confirm(self, uid: str) -> None:
        """The pod is bound as reserved: the charge stays until the API server's own events speak of it."""
        self.waiting.pop(uid, None)
        if self._promised(uid) is Promise.RESERVATION:
            self._extend(uid, Promise.RESERVATION)

    def keep_room(self, pod: Pod, node: str, aim: Assignment | None = None) -> bool:
        """Keeps room on ``node`` for a pod that waits for it: all of it or, until then, what of it is free.

        ``aim`` names the GPUs on which room is being made, if that is known. Answers whether it is all. It is a hold
        like any other, but outlives a filter that finds it too small, until ``keeps`` names the pod no more.
        """
        request = self._request(pod)
        if request is None or isinstance(request, Reason) or self._taken(pod.uid):
            return False
        self.keeps[pod.uid] = node, aim
        charge = self.ledger.charge_of(pod.uid)
        if charge is not None and charge.node == node and self._is_whole(request, charge):
            self._extend(pod.uid, Promise.HOLD)
            return True
        held = self._drop_hold(pod.uid)
        complete = self._keep(request, node, aim)
        self._tell_left(pod.uid, held)
        return complete

    def undo(self, uid: str) -> None:
        """The promise is void (Binding refused, hold too old). A charge that is a fact already stays."""
        if self._promises.pop(uid, None) is not None:
            self._release(uid)

    def expire(self) -> list[str]:
        """Drops what is past its time; answers UIDs of late reservations, for the caller to look up."""
        now = self._clock()
        late = [uid for uid, promised in self._promises.items() if promised.deadline <= now]
        for uid in late:
            if self._promises[uid].kind is Promise.HOLD:
                self.undo(uid)
        for uid in [uid for uid, asked in self._asked.items() if asked + _REQUEST_LIFE_S <= now]:
            if uid not in self._promises:
                self._forget_request(uid)
                if self.ledger.charge_of(uid) is None:
                    self.arrivals.left(uid, held=False)
        return [uid for uid in late if self._promised(uid) is Promise.RESERVATION]

    def request_of(self, uid: str) -> Request | None:
        return self._requests.get(uid)

    def promises(self) -> Mapping[str, Promised]:
        return self._promises

    def demand_of(self, pod: Pod) -> PodDemand | Reason | None:
        """The slices that ``pod`` asks for, in the trust domain that it would be placed in now."""
        demand = demand_of(pod, self.options.context_bytes)
        if demand is None or isinstance(demand, Reason) or not self.domains.rule.separate or pod.lease:
            return demand
        domain = self.domains.of(pod.namespace)
        return domain if isinstance(domain, Reason) else replace(demand, domain=domain)

    def away_on(self, pod: Pod, nodes: Sequence[str]) -> list[str] | None:
        """Of ``nodes`` those that take a pod whose slices are not to be of its own node's GPUs, or are a lease's.

        ``None`` for all other pods. CPU and memory of the nodes are not looked at.
        """
        demand = self.demand_of(pod)
        if not isinstance(demand, PodDemand) or self._ways.may_be_local(pod, demand):
            return None
        offer = offer_of(self.ledger, nodes)
        if self.options.pool is None:
            return []
        _, able = self._ways.of(Request(pod, demand, totals_of(pod)), offer.mask(self.ledger))
        return Filtered(offer, offer.among(able)).nodes

    def fits_on(self, pod: Pod, node: str, steps: int) -> bool:
        """Whether ``node`` holds ``pod`` now, as far as ``steps`` of a search tell; one without slices always fits."""
        demand = self.demand_of(pod)
        if demand is None:
            return True
        if isinstance(demand, Reason):
            return False
        row = self.ledger.row(node)
        if row is None or not self.ledger.room_of(totals_of(pod))[row]:
            return False
        policy, level = self._policies.of(demand), self._policies.level(demand)
        return choose(self.ledger, node, demand, policy, level, steps) is not None

    # Inner workings

    def _request(self, pod: Pod) -> Request | Reason | None:
        known = self._requests.get(pod.uid)
        if known is not None and known.pod == pod and self._is_current(known):
            self._asked[pod.uid] = self._clock()
            return known
        demand = self.demand_of(pod)
        if not pod.lease:  # an executor is no demand beside its client's
            self.arrivals.asked(pod, demand, again=pod.uid in self._asked)
        self._asked[pod.uid] = self._clock()
        if demand is None or isinstance(demand, Reason):
            return demand
        if self.options.pool is None and not pod.lease and (reason := remote_reason(demand)):
            return reason
        request = self._requests[pod.uid] = Request(pod, demand, totals_of(pod))
        return request

    def _is_current(self, request: Request) -> bool:
        """Whether the pod's trust domain is still the one that the request was read with."""
        separate = self.domains.rule.separate and not request.pod.lease
        return not separate or self.domains.of(request.pod.namespace) == request.demand.domain

    def _forget_request(self, uid: str) -> None:
        self._asked.pop(uid, None)
        self._requests.pop(uid, None)
        self.waiting.pop(uid, None)
        self.keeps.pop(uid, None)

    def _taken(self, uid: str) -> Reason | None:
        """Why the pod is offered nothing: kube-scheduler may ask late, and what is bound or in doubt stays charged."""
        promised = self._promised(uid)
        if promised is Promise.RESERVATION:
            return Reason(Code.OUTCOME_UNKNOWN, "the outcome of this pod's Binding is not known yet")
        if promised is None and self.ledger.charge_of(uid) is not None:
            return Reason(Code.BINDING_REFUSED, "the pod is bound already")
        return None

    def _refuse(self, pod: Pod, offer: Offer, reason: Reason) -> Filtered:
        if reason.code is not Code.BINDING_REFUSED:
            self.waiting[pod.uid] = (pod, reason)
        return refused_by_all(offer, reason)

    def _filter(self, request: Request, offer: Offer) -> Filtered:
        way, able = self._ways.of(request, offer.mask(self.ledger))
        kept = offer.among(able)
        if kept.any():
            self.waiting.pop(request.pod.uid, None)
            return Filtered(offer, kept)
        answer = way.refused(request, offer)
        if answer.reason is not None:
            self.waiting[request.pod.uid] = (request.pod, answer.reason)
        return answer

    def _scores(self, request: Request, candidates: Bools) -> Floats:
        return self._ways.among(request, candidates).scores(request, candidates)

    def _hold(self, request: Request, ranked: Iterable[str]) -> str | None:
        for name in ranked:
            given = self._ways.on(request, name).choose(request, name)
            if given is not None and self.leases.reserve(request.pod, given) is None:
                self._promise(request, name, Promise.HOLD, whole=True)
                return name
        return None

    def _hold_best(self, request: Request, scores: Floats) -> int | None:
        """Holds the pod's room on the best node that gives it; answers that node's row."""
        return next(
            (row for row in best_first(scores, _HOLD_TRIES) if self._hold(request, [self.ledger.names[row]])), None
        )

    def _keep(self, request: Request, node: str, aim: Assignment | None) -> bool:
        if self._hold(request, [node]) is not None:
            return True
        local = self._ways.on(request, node) is self._local
        if not local and (aim is None or request.pod.lease):
            return False
        part = part_of(self.ledger, request.demand, node, self._policies.level(request.demand), aim)
        if part is None or self.ledger.reserve(request.pod.uid, part, beside_others=True) is not None:
            return False
        if local:
            self._promise(request, node, Promise.HOLD)
        else:  # a slice there, for a pod that will run elsewhere
            self._extend(request.pod.uid, Promise.HOLD)
        return False

    def _held(self, request: Request, node: str) -> Assignment | None:
        """What the pod holds on ``node``, if that is all it asks for now, and still what it may have."""
        promised, charge = self._promises.get(request.pod.uid), self.ledger.charge_of(request.pod.uid)
        if promised is None or charge is None or charge.node != node or promised.request is not request:
            return None
        if promised.kind is not Promise.HOLD or promised.gpus != self._gpus(request.pod.uid) or request.pod.lease:
            return None
        return charge.assignment if self.leases.confirms(request.pod.uid, charge) else None

    def _gpus(self, uid: str) -> tuple[GpuNode | None, ...]:
        """The nodes as published where the pod holds room or is promised some."""
        return tuple(self.ledger.node(name) for name in sorted(self.leases.nodes_of(uid)))

    def _is_whole(self, request: Request, charge: Charge) -> bool:
        """Whether ``charge``, room kept for the pod, is all that it asks for, and its to have."""
        given = charge.assignment
        if given is None or given.domain != request.demand.domain or fits_demand(request.demand, given):
            return False
        if not still_held(self.ledger, request.demand, charge.node, given, self._policies.level(request.demand)):
            return False
        return not (self.ledger.separate and self.ledger.mixed(charge))

    def _promise(self, request: Request, node: str, kind: Promise, *, whole: bool = False) -> None:
        if spans_gpus(request.demand):
            self.siblings.saw(request.pod.uid, request.pod.owner, node)
        self.ledger.occupy(request.pod.uid, node, request.pod.host)
        made = (request, self._gpus(request.pod.uid)) if whole else (None, ())
        self._promises[request.pod.uid] = Promised(kind, self._deadline(kind), *made)

    def _extend(self, uid: str, kind: Promise) -> None:
        self._promises[uid] = Promised(kind, self._deadline(kind))

    def _deadline(self, kind: Promise) -> float:
        return self._clock() + (self.options.hold_s if kind is Promise.HOLD else self.options.reservation_s)

    def _promised(self, uid: str) -> Promise | None:
        promised = self._promises.get(uid)
        return promised.kind if promised else None

    def _drop_hold(self, uid: str) -> set[str]:
        """Drops the pod's hold; answers its nodes."""
        if self._promised(uid) is not Promise.HOLD:
            return set()
        del self._promises[uid]
        return self._give_back(uid)

    def _tell_left(self, uid: str, held: set[str]) -> None:
        """The room on ``held`` is free for others, unless the pod has taken it again."""
        self.freed |= held - self.leases.nodes_of(uid)

    def _release(self, uid: str) -> None:
        self.freed |= self._give_back(uid)

    def _give_back(self, uid: str) -> set[str]:
        self.siblings.gone(uid)
        self.ledger.vacate(uid)
        return self.leases.release(uid)
