"""The controller's settings: ``TESSERA_*`` variables, overridden by the command line."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tessera.model.names import SCHEDULER
from tessera.model.quantities import QuantityError, parse_milli, parse_up
from tessera.remote.controller.pods import LEAST_CPU, LEAST_MEMORY, Options
from tessera.settings import KubeSettings, LogSettings


class ControllerSettings(KubeSettings, LogSettings):
    """Where the controller listens, whose lease it holds, and what its executors are made of."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8444, ge=0, le=65535, description="port of the gates' calls, TLS; 0: any")
    metrics_port: int = Field(9445, ge=0, le=65535, description="port of /metrics, /readyz and /healthz; 0: any")
    request_timeout_s: float = Field(5.0, gt=0, description="seconds until a request is given up")

    lease_namespace: str = Field("tessera-system", description="namespace of the leader's Lease and Secret")
    lease_name: str = Field("tessera-pool-controller", description="name of the leader's Lease")
    lease_s: int = Field(15, ge=5, description="seconds that a silent leader stays leader")
    identity: str = Field("", description="this replica's name in the Lease; default the host's name and a random part")
    authority_secret: str = Field("tessera-pool-ca", description="Secret of the pool's authority, made if absent")
    authority_config_map: str = Field("tessera-pool-ca", description="ConfigMap with its certificate")

    pool_namespace: str = Field("tessera-system", description="namespace of the executors and of the ConfigMap")
    executor_image: str = Field(min_length=1, description="image with tessera and torch")
    gate_image: str = Field(min_length=1, description="image with tessera")
    executor_account: str = Field("tessera-pool-executor", description="service account of the executors")
    executor_device: str = Field("cuda", description="what executors serve: cuda, or cpu to try it without a GPU")
    executor_cpu: str = Field("500m", description="CPU that an executor's pod asks for")
    executor_memory: str = Field("2Gi", description="memory that an executor's pod asks for and may have")
    executor_labels: dict[str, str] = Field({}, description="further labels of executors, JSON")
    executor_spec_file: Path | None = Field(None, description="JSON with further fields of their pods' spec")
    gate_metrics_port: int = Field(0, ge=0, le=65535, description="port of an executor's Prometheus metrics; 0: none")
    gate_port: int = Field(7443, ge=1, le=65535, description="port of an executor's gate")
    controller_address: str = Field(min_length=1, description="HOST:PORT by which gates reach the controller")
    scheduler_name: str = Field(SCHEDULER, description="schedulerName of executors")
    move_deadline_s: float = Field(
        3600.0, ge=0, description="seconds until a GPU that is to be left is left without the sessions; 0: never"
    )
    sessions: int = Field(16, ge=1, description="programs that may use a lease at once")

    @field_validator("executor_labels", mode="before")
    @classmethod
    def _json(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError("a JSON object of texts") from None

    @field_validator("executor_cpu", "executor_memory")
    @classmethod
    def _enough(cls, value: str, info: ValidationInfo) -> str:
        least, parse = (LEAST_CPU, parse_milli) if info.field_name == "executor_cpu" else (LEAST_MEMORY, parse_up)
        try:
            enough = parse(value) >= parse(least)
        except QuantityError as error:
            raise ValueError(str(error)) from None
        if not enough:
            raise ValueError(f"at least {least}")
        return value

    @model_validator(mode="after")
    def _acts_within_its_lease(self) -> "ControllerSettings":
        """A leader renews after a third of its lease, and writes nothing that could outlast the rest."""
        if self.request_timeout_s >= (most := self.lease_s * 2 / 3):
            found = f"request_timeout_s: found {self.request_timeout_s:g} with a lease_s of {self.lease_s}"
            raise ValueError(f"{found}; allowed: less than {most:.2g}")
        return self

    def options(self) -> Options:
        """What executors are made of. Raises ``OSError`` and ``ValueError`` for a file that cannot be used."""
        return Options(
            namespace=self.pool_namespace,
            controller=self.controller_address,
            executor_image=self.executor_image,
            gate_image=self.gate_image,
            service_account=self.executor_account,
            authority=self.authority_config_map,
            port=self.gate_port,
            metrics_port=self.gate_metrics_port,
            device=self.executor_device,
            scheduler=self.scheduler_name,
            cpu=self.executor_cpu,
            memory=self.executor_memory,
            labels=self.executor_labels,
            spec=_spec(self.executor_spec_file),
        )


def _spec(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"executor_spec_file: {path}: found no JSON ({error}); allowed: an object") from None
    if not isinstance(found, dict):
        raise ValueError(f"executor_spec_file: {path}: found {type(found).__name__}; allowed: a JSON object")
    return found
