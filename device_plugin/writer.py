"""From a prepared slice to its CDI spec on disk: NVIDIA's files are read fresh each time, since a driver update
rewrites them. A slice on another node needs none of them."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from tessera.device_plugin import nvidia
from tessera.device_plugin.agent import Prepared
from tessera.device_plugin.cdi import compose, compose_leased, slice_info
from tessera.device_plugin.inventory import Inventory
from tessera.device_plugin.refusals import wait
from tessera.device_plugin.slices import Slice
from tessera.device_plugin.specs import SpecFiles
from tessera.reasons import Code


class NvidiaCdi(StrEnum):
    """Whether NVIDIA's CDI spec is composed in: if it is there, always (refuse without it), or never."""

    AUTO = "auto"
    TRUE = "true"
    FALSE = "false"


class SpecWriter:
    """Composes and writes; the only one who joins our edits with NVIDIA's."""

    def __init__(
        self, specs: SpecFiles, inventory: Inventory, folders: Sequence[Path], mode: NvidiaCdi, proc: Path
    ) -> None:
        self._specs = specs
        self._inventory = inventory
        self._folders = folders
        self._mode = mode
        self._proc = proc

    async def write(self, item: Slice, prepared: Prepared, former: Iterable[str]) -> None:
        """Returns when a runtime can resolve the device. Raises ``Refused``, always temporary."""
        edits = await asyncio.to_thread(self._nvidia, [share.uuid for share in item.shares])
        info_dir = str(self._specs.info_dir(item.device))
        spec = compose(item.device, item.shares, prepared, edits, info_dir)
        await _arm(self._specs, item.device, spec, slice_info(item.shares), former)

    def _nvidia(self, uuids: list[str]) -> list[tuple[str, nvidia.Edits]]:
        if self._mode is NvidiaCdi.FALSE:
            return []
        indices = {uuid: local.index for uuid, local in self._inventory.local.items()}
        try:
            specs = nvidia.load(self._folders)
            if not specs and self._mode is NvidiaCdi.AUTO:
                return []
            if not specs:
                where = " and ".join(str(folder) for folder in self._folders)
                raise nvidia.CdiError(f"{where}: found no CDI spec of kind {nvidia.KIND}; run nvidia-ctk cdi generate")
            return nvidia.edits_for(specs, indices, uuids, nvidia.minors(self._proc))
        except nvidia.CdiError as error:
            raise wait(str(error), Code.NODE_RESOURCES) from None


class LeaseSpecWriter:
    """Writes the specs of slices on other nodes. ``client_dir``: the host's folder with the client's package."""

    def __init__(self, specs: SpecFiles, client_dir: Path) -> None:
        self._specs = specs
        self._client_dir = client_dir

    async def write(self, device: str, lease_dir: Path, python_path: str, former: Iterable[str]) -> None:
        """Returns when a runtime can resolve the device. Raises ``Refused``, always temporary."""
        spec = compose_leased(device, str(lease_dir), str(self._client_dir), python_path)
        await _arm(self._specs, device, spec, None, former)


async def _arm(
    specs: SpecFiles, device: str, spec: Mapping[str, Any], info: bytes | None, former: Iterable[str]
) -> None:
    try:
        await specs.arm(device, spec, info, former)
    except OSError as error:
        raise wait(f"CDI spec of {device} not written: {error}") from None
