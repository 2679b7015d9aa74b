"""The pool across hosts. Programs of tenants import ``capture``; nothing here imports torch before it is called."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.remote.client.capture import Captured


def capture(module: Any) -> "Captured":
    """A ``torch.nn.Module`` on the remote device, to be called like it: its forward pass is sent once, and then run by
    one record a call, wherever no gradients are asked for. Raises ``TypeError`` for anything else.

    Parameters and buffers are read at each call. What cannot be sent whole runs operator by operator as always, with a
    warning that says why.
    """
    from tessera.remote.client.capture import Captured

    return Captured(module)
