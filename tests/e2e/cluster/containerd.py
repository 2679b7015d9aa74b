"""containerd in a node's mount namespace, with CDI enabled on the node's own spec folder."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.e2e import programs
from tests.e2e.cluster import images, templates
from tests.e2e.cluster.processes import Process


class Containerd(Process):
    def __init__(self, node: str, directory: Path, home: Path, inside: Sequence[str], pods: str) -> None:
        self.socket = home / "containerd.sock"
        self._node_directory = home
        config = templates.write(
            home / "containerd.toml",
            "containerd.toml",
            directory=home,
            containerd_socket=self.socket,
            cdi_dir=home / "cdi",
            pause=images.PAUSE,
            cni_bin=programs.CNI_DIR,
        )
        templates.write(home / "cni/10-ptp.conflist", "cni.conflist", directory=home, pods=pods)
        command = [*inside, str(programs.find("containerd")), "--config", str(config)]
        super().__init__(f"containerd-{node}", command, directory, self._serves)

    def ctr(self, *arguments: str) -> str:
        """Output of `ctr` in the namespace of Kubernetes' containers."""
        command = [str(programs.find("ctr")), "-a", str(self.socket), "-n", "k8s.io", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    def load(self, archive: Path) -> None:
        """Imports a tar of images; pods name them with `imagePullPolicy: Never`."""
        self.ctr("images", "import", "--local", str(archive))

    def _serves(self) -> bool:
        return "io.containerd.cri" in self.ctr("plugins", "ls")
