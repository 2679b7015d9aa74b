"""Settings that several processes share, read from ``TESSERA_*`` variables; command lines may override them."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class KubeSettings(BaseSettings):
    """How to reach the API server. With all fields empty: kubeconfig, then the pod's service account."""

    model_config = SettingsConfigDict(env_prefix="TESSERA_", cli_kebab_case=True)

    server: str = Field("", description="URL of an API server; nothing else is read but token_file and ca_file")
    token_file: str = Field("", description="file with a bearer token, read again each minute")
    ca_file: str = Field("", description="PEM bundle that signs the API server's certificate")
    kubeconfig: str = Field("", description="path of a kubeconfig; default $KUBECONFIG")
    context: str = Field("", description="context within the kubeconfig; default its current one")
    request_timeout_s: float = Field(10.0, gt=0, description="seconds until a request is given up")


class LogSettings(BaseSettings):
    """How logs look. They go to standard error."""

    model_config = SettingsConfigDict(env_prefix="TESSERA_", cli_kebab_case=True)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
