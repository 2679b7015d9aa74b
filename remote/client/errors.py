"""What a program is told when the device fails it."""


class DeviceLostError(RuntimeError):
    """The session and the tensors in it are gone; ``cause`` says why. ``lease``: ``NAMESPACE/NAME``, empty without one,
    in its ``epoch``."""

    def __init__(self, cause: str, lease: str = "", epoch: int = 0) -> None:
        whose = f"lease {lease}, epoch {epoch}: " if lease else ""
        super().__init__(f"the remote device was lost: {whose}{cause}")
        self.cause, self.lease, self.epoch = cause, lease, epoch


class ConnectError(RuntimeError):
    """No session could be had."""
