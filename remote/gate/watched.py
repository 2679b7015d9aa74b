"""Work without which a gate is deaf: one that ends by an error ends the gate, so that its pod is replaced."""

from collections.abc import Callable

import structlog

log = structlog.get_logger()


class Watched:
    """``broke`` is called once some work has ended by an error; ``error`` says then by which."""

    def __init__(self, broke: Callable[[], None] = lambda: None) -> None:
        self._broke = broke
        self.error = ""

    def __call__(self, name: str, work: Callable[[], object]) -> Callable[[], None]:
        """The work for a thread."""

        def watched() -> None:
            try:
                work()
            except Exception as error:
                log.exception("work ended", work=name)
                self.error = self.error or f"{name} ended: {type(error).__name__}: {error}"
                self._broke()

        return watched
