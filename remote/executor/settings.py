"""Settings of a session, which are those of its process."""

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.records import Setting
from tessera.remote.settings import SETTINGS


def start() -> None:
    """Each has its first value, whatever this process was started with."""
    for setting in SETTINGS.values():
        if setting.place():
            setting.put(setting.allowed[0])


def take(record: Setting) -> None:
    """Raises ``ProtocolError`` for one that is none."""
    number, place = record
    if number not in SETTINGS:
        raise ProtocolError(f"setting: found {number}; allowed: 1 to {max(SETTINGS)}")
    setting = SETTINGS[number]
    if place >= len(setting.allowed):
        raise ProtocolError(f"setting {setting.name}: found {place}; allowed: 0 to {len(setting.allowed) - 1}")
    setting.put(setting.allowed[place])
