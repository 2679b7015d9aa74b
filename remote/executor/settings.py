"""Settings of a session, which are those of its process."""

import os

from tessera.remote import settings
from tessera.remote.protocol.records import Setting

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def take(record: Setting) -> None:
    """Raises ``ProtocolError`` for one that is none."""
    setting, value = settings.setting(record.number, record.value)
    if record.number == settings.DETERMINISTIC:
        os.environ.setdefault(_WORKSPACE, ":4096:8")  # cuBLAS is deterministic with it only, and reads it once
    setting.put(value)
