"""The pool across hosts. Programs of tenants import ``capture`` and the errors of a device; nothing here imports torch
before it is called."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.remote.client.capture import Captured
    from tessera.remote.client.errors import ConnectError, DeviceLostError

__all__ = ["ConnectError", "DeviceLostError", "capture"]


def capture(module: Any) -> "Captured":
    """A ``torch.nn.Module`` on the remote device, to be called like it: its forward pass is sent once, and then run by
    one record a call, wherever no gradients are asked for. Raises ``TypeError`` for anything else.

    Parameters and buffers are read at each call. What cannot be sent whole runs operator by operator as always, with a
    warning that says why.
    """
    from tessera.remote.client.capture import Captured

    return Captured(module)


def __getattr__(name: str) -> Any:
    """The errors, where a program asks for them: the control plane's processes are not to load the client."""
    if name in __all__:
        from tessera.remote.client import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
