"""An API server in process, for the embedded cluster and for tests: small, and faithful where it matters here.

Faithful: resource versions, paged lists from one snapshot, watches with resume, bookmarks and 410, optimistic
concurrency, atomic Bindings with preconditions, grace periods, resource validation, mutating webhooks over HTTP.
Left out: authorization, field ownership (server-side apply keeps what each manager applied last, and reports no
conflicts), CEL, discovery, tables, garbage collection by owner.
"""

from tessera.simulator.apiserver.admission import Request, Validator, Webhook
from tessera.simulator.apiserver.faults import Faults
from tessera.simulator.apiserver.server import ApiServer
from tessera.simulator.apiserver.store import Store

__all__ = ["ApiServer", "Faults", "Request", "Store", "Validator", "Webhook"]
