"""The stub NVML library that the agent's tests use."""

from tests.integration.node_agent.conftest import machine, nvml_library

__all__ = ["machine", "nvml_library"]
