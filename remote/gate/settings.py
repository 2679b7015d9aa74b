"""Settings of a gate. All come from the command line: a pod with a slice may not set variables of ours."""

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from tessera.settings import LogSettings


class GateSettings(LogSettings):
    """One gate, beside one executor."""

    host: str = Field("0.0.0.0", description="address to listen on")
    port: int = Field(7443, ge=0, le=65535, description="port to listen on; 0: any")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of Prometheus metrics, there too; 0: none")
    socket: Path = Field(description="unix socket of the executor")
    lease: str = Field(description="NAMESPACE/NAME of the GPULease that the executor serves")
    server_name: str = Field(min_length=1, description="what the certificate of this gate names")
    controller: str = Field(min_length=1, description="HOST:PORT of the pool's controller")
    authority_file: Path = Field(description="PEM certificate of the pool's authority")
    token_file: Path = Field(description="this pod's token for the controller, read again at each call")

    @field_validator("lease")
    @classmethod
    def _lease_is_whole(cls, value: str) -> str:
        namespace, _, name = value.partition("/")
        if not namespace or not name or "/" in name:
            raise ValueError("NAMESPACE/NAME")
        return value

    @model_validator(mode="after")
    def _has_a_port_for_each(self) -> "GateSettings":
        if self.metrics_port and self.metrics_port == self.port:
            raise ValueError(f"metrics_port: found {self.port}, which is the gate's port; allowed: another, or 0")
        return self
