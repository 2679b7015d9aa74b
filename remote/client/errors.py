"""What a program is told when the device fails it."""


class DeviceLostError(RuntimeError):
    """The session and the tensors in it are gone; ``cause`` says why."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the remote device was lost: {cause}")
        self.cause = cause


class ConnectError(RuntimeError):
    """No session could be had."""
