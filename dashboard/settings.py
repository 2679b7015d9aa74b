"""The dashboard's own settings, read from ``TESSERA_DASHBOARD_*``; the command line overrides them."""

import ipaddress

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from tessera.dashboard.auth import Mode


class DashboardSettings(BaseSettings):
    """Where the dashboard listens, and for whom."""

    model_config = SettingsConfigDict(env_prefix="TESSERA_DASHBOARD_")

    listen: str = Field("127.0.0.1:8484", description="address and port; port 0 takes a free one")
    auth: Mode = Field(Mode.KUBERNETES, description="kubernetes: bearer tokens; none: everybody, on loopback only")
    tls_cert: str = Field("", description="PEM file with the certificate chain; empty serves plain HTTP")
    tls_key: str = Field("", description="PEM file with its key")

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the port."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def refusal(self) -> str:
        """Why the dashboard must not start like this, as one sentence; empty if it may."""
        host, colon, port = self.listen.rpartition(":")
        if not (host and colon and port.isdecimal() and int(port) <= 65535):
            return f"listen: found {self.listen!r}; allowed: ADDRESS:PORT such as 127.0.0.1:8484"
        if self.auth is Mode.NONE and not self.loopback:
            return f"auth: found none while listening on {self.listen}; allowed: none on 127.0.0.1 or ::1 only"
        if bool(self.tls_cert) != bool(self.tls_key):
            return "tls_cert, tls_key: found one of the two; allowed: both or neither"
        return ""
