"""Settings of a session, which are those of its process."""

from tessera.remote import settings
from tessera.remote.protocol.records import Setting


def start() -> None:
    """Each has its first value, whatever this process was started with."""
    for setting in settings.SETTINGS.values():
        if setting.place():
            setting.put(setting.allowed[0])


def take(record: Setting) -> None:
    """Raises ``ProtocolError`` for one that is none."""
    setting, value = settings.setting(record.number, record.value)
    setting.put(value)
