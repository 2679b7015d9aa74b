"""The scheduler's settings: ``TESSERA_*`` variables, overridden by the command line."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tessera.model.domains import CLUSTER, rule_of
from tessera.model.hosts import HostNeed
from tessera.model.quantities import parse_milli, parse_up
from tessera.scheduler.options import PoolOptions
from tessera.scheduler.webhook.compatibility import Dialect
from tessera.serving import Tls, is_loopback
from tessera.settings import KubeSettings, LogSettings

SYSTEM, LEASE = "tessera-system", "tessera-scheduler"
"""Namespace and name of the leader's Lease if nobody says another."""


class SchedulerSettings(KubeSettings, LogSettings):
    """How the extender decides, where it listens, and whose lease it holds."""

    host: str = Field("127.0.0.1", description="address to listen on; beyond loopback only with all TLS files")
    port: int = Field(8443, ge=0, le=65535, description="port of the extender's verbs; 0: any")
    webhook_port: int = Field(9443, ge=0, le=65535, description="port of webhook, /readyz and /metrics; 0: any")
    tls_cert_file: Path | None = Field(None, description="PEM certificate of extender and webhook")
    tls_key_file: Path | None = Field(None, description="PEM key of that certificate")
    client_ca_file: Path | None = Field(None, description="PEM bundle that signs kube-scheduler's client certificate")

    placement: Literal["fragmentation", "pack", "spread", "fgd"] = Field(
        "fragmentation", description="policy for pods that name none"
    )
    filter_answers: Literal["feasible", "chosen"] = Field(
        "feasible", description="what filter answers: every node that holds the pod, or the policy's choice alone"
    )
    enforcement: int = Field(0, ge=0, le=3, description="lowest enforcement level for pods that name none")
    trust_domain: str = Field(
        CLUSTER, description="who may share a GPU: cluster, namespace, or label:KEY, the value of a namespace's label"
    )
    context_bytes: int = Field(
        0, ge=0, description="least memory of a slice on each GPU: what the shim charges for a context; 0: no shim"
    )
    compiled_dir: Path | None = Field(None, description="policies compiled before, brought to NUMBA_CACHE_DIR at start")
    order_seed: int = Field(0, description="decides ties between equal nodes")
    preemption: bool = Field(True, description="whether pods of higher priority may take the place of lower ones")
    hold_s: float = Field(10.0, gt=0, description="seconds that room is held from prioritize until bind")

    pool_enabled: bool = Field(False, description="whether slices may be on other nodes than their pods")
    pool_namespace: str = Field("", description="namespace of the pool's executors; default that of the leader's Lease")
    pool_account: str = Field("tessera-pool-executor", description="service account of the pool's executors")
    pool_executor_cpu: str = Field("500m", description="CPU that an executor pod asks for")
    pool_executor_memory: str = Field("2Gi", description="memory that an executor pod asks for")

    rescue_moves: int = Field(0, ge=0, le=4, description="moves of other pods for one that waits; 0: never")
    rescue_after_s: float = Field(120.0, gt=0, description="seconds that a pod waits before others are moved for it")

    lease_namespace: str = Field(SYSTEM, description="namespace of the leader's Lease")
    lease_name: str = Field(LEASE, description="name of the leader's Lease")
    lease_s: int = Field(15, ge=5, description="seconds that a silent leader stays leader")
    identity: str = Field("", description="this replica's name in the Lease; default the host's name and a random part")

    scheduler_name: str = Field("tessera", description="schedulerName that the webhook sets")
    compatibility: list[Dialect] = Field([], description="other projects' keys to translate")
    tolerate: bool = Field(False, description="whether the webhook lets slices tolerate the taint of GPU nodes")

    @field_validator("trust_domain")
    @classmethod
    def _trust_domain_is_known(cls, value: str) -> str:
        rule_of(value)
        return value

    @field_validator("pool_executor_cpu", "pool_executor_memory")
    @classmethod
    def _is_a_quantity(cls, value: str) -> str:
        parse_milli(value)
        return value

    @property
    def pool(self) -> PoolOptions | None:
        """How slices on other nodes are given, if they are."""
        if not self.pool_enabled:
            return None
        executor = HostNeed(parse_milli(self.pool_executor_cpu), parse_up(self.pool_executor_memory))
        return PoolOptions(self.pool_namespace or self.lease_namespace, self.pool_account, executor)

    @model_validator(mode="after")
    def _tls_is_whole(self) -> "SchedulerSettings":
        files = (self.tls_cert_file, self.tls_key_file)
        if any(files) and not all(files):
            raise ValueError("tls_cert_file and tls_key_file: found one, allowed: both or none")
        if not is_loopback(self.host) and self.client_ca_file is None:
            raise ValueError(
                f"client_ca_file: found none for host {self.host!r}, where anybody could bind; allowed: a PEM file"
            )
        return self

    @property
    def webhook_tls(self) -> Tls | None:
        """The API server brings no client certificate."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return Tls(self.tls_cert_file, self.tls_key_file)

    @property
    def extender_tls(self) -> Tls | None:
        """kube-scheduler brings a client certificate; nobody else may bind."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return Tls(self.tls_cert_file, self.tls_key_file, self.client_ca_file)
