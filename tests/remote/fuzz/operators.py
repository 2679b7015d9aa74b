"""A real ``tessera serve`` under well-formed calls with hostile values: only their own session may end."""

import queue
import random
from collections import Counter
from contextlib import suppress

from tessera.remote.protocol import records, replies
from tessera.remote.protocol.frames import Kind
from tessera.remote.protocol.peer import Ended
from tests.remote.fuzz import hostile
from tests.remote.fuzz.decoder import Broken
from tests.remote.wire.client import Client
from tests.remote.wire.served import Served

SLOW_S = 5
"""A call that takes longer is left, with its session."""
_FIRST = 10


def attack(served: Served, calls: int, seed: int) -> Counter[str]:
    """Raises ``Broken``."""
    rng, counts = random.Random(seed), Counter[str]()
    address = served.host, served.port
    bystander, client = Client(address), _armed(address)
    handles = [_FIRST + number for number in range(len(hostile.tensors()))]
    for form, call in hostile.calls(rng, calls, handles):
        outcome = _outcome(client, form, call)
        counts[outcome] += 1
        if outcome in ("slow", "ended its session"):
            client.close()
            client = _armed(address)
        if bystander.sync() != replies.Done(1):
            raise Broken(f"another session ended by {form} and {call}")
    client.close()
    bystander.close()
    if "Traceback" in served.log.read_text():
        raise Broken(served.log.read_text()[-4000:])
    return counts


def _armed(address: tuple[str, int]) -> Client:
    """A session that holds the tensors."""
    client = Client(address)
    for handle, (dtype, sizes, data) in enumerate(hostile.tensors(), _FIRST):
        client.send(records.New(handle, dtype, sizes))
        if data:
            client.peer.send(Kind.UPLOAD, data)
    if client.sync() != replies.Done(1):
        raise Broken("a new session did not take its tensors")
    return client


def _outcome(client: Client, form: records.Form, call: records.Call) -> str:
    with suppress(Ended):
        client.send(form, call)
    try:
        answer = client.answer(SLOW_S)
    except queue.Empty:
        return "slow"
    if answer is None:
        return "ended its session"
    return "an error" if isinstance(answer, replies.Failed) else "done"
