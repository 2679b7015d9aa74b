"""Pods by the cgroups of their processes, in every form that kubelets write them."""

from pathlib import Path

import pytest

from tessera.device_plugin.processes import pod_uids

UID = "0b7c3f5e-9a1d-4c2e-8f60-1d2e3f4a5b6c"
SYSTEMD = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"


@pytest.mark.parametrize(
    "line",
    [
        f"0::/kubepods.slice/kubepods-burstable.slice/{SYSTEMD}/cri-containerd-ab.scope",
        f"0::/kubepods/besteffort/pod{UID}/ab",
        f"12:devices:/kubepods/pod{UID}/ab\n4:memory:/kubepods/pod{UID}/ab",
        f"0::/node-a/kubepods/burstable/pod{UID}/ab",
    ],
)
def test_a_process_names_its_pod(tmp_path: Path, line: str) -> None:
    for pid, text in ((1, "0::/init.scope"), (77, line)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(text + "\n")
    (tmp_path / "88").mkdir()  # a process that ended while we looked
    (tmp_path / "self").mkdir()
    assert pod_uids(tmp_path) == {UID}
