"""The end of a one-shot spec file: the container that it was written for, and no report of an earlier one."""

from pathlib import Path

from tessera.device_plugin.slots import device_name, spec_file
from tessera.device_plugin.specs import SpecFiles
from tessera.durable import LocalDisk

DEVICE = device_name("slot-000", "0" * 32)


async def test_reports_of_containers_before_this_start_leave_the_spec_where_it_is(tmp_path: Path) -> None:
    specs = SpecFiles(tmp_path / "cdi", tmp_path / "info", LocalDisk(), settle_s=0.0)
    await specs.arm(DEVICE, {"cdiVersion": "0.5.0"}, None, ["told-by-the-runtime", "told-by-the-status"])
    file = tmp_path / "cdi" / spec_file(DEVICE)
    for late in ("", "told-by-the-status", "told-by-the-runtime"):
        specs.created(DEVICE, late)
        assert file.exists() and specs.armed == {DEVICE}
    specs.created(DEVICE, "the-new-one")
    assert not file.exists() and not specs.armed
    await specs.close()
