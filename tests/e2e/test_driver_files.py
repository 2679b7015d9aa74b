"""NVIDIA's own CDI spec, composed into a slice's by the plugin and carried out by containerd."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.product import Product
from tests.e2e.product.seen import given

pytestmark = pytest.mark.e2e
LAYOUT = Path(__file__).parents[1] / "unit" / "device_plugin" / "cdi" / "driver-615-index.yaml"
INSIDE = (
    "ls /dev | grep nvidia; cat /usr/lib64/libcuda.so.615.71.09; echo visible=$NVIDIA_VISIBLE_DEVICES; exec sleep 1000"
)


@pytest.fixture
def driver(product: Product) -> Iterator[Path]:
    """A file in the toolkit's layout for node-b's two GPUs. This machine has no driver: nodes are /dev/null, libraries
    one text file, and the hook program writes down how it was called. Its folder."""
    folder = product.nvidia_cdi("node-b")
    folder.mkdir(exist_ok=True)
    library, hook = folder / "library", folder / "hook"
    library.write_text("a driver's library\n")
    hook.write_text(f'#!/bin/sh\nread -r state\necho "$@" >> {folder}/called\n')
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    spec: Json = yaml.safe_load(LAYOUT.read_text())
    for edits in (spec["containerEdits"], *(device["containerEdits"] for device in spec["devices"])):
        for node in edits["deviceNodes"]:
            node["hostPath"] = "/dev/null"
        for mount in edits.get("mounts", ()):
            mount["hostPath"] = str(library)
        for called in edits["hooks"]:
            called["path"] = str(hook)
    (folder / "nvidia.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    yield folder
    shutil.rmtree(folder)


def test_a_container_gets_the_drivers_files_and_its_own_gpus_node_only(
    product: Product, tenant: Api, driver: Path
) -> None:
    uuids = product.machines["node-b"].uuids
    assert len(uuids) == 2, "the layout names two GPUs"
    tenant.create(
        *(
            pods.pod(f"gpu-{i}", pods.container(limits={"gpu-mem": "1Gi"}, command=["sh", "-c", INSIDE]), node="node-b",
                     annotations={"tessera.io/gpu-uuid": uuid})
            for i, uuid in enumerate(uuids)
        )
    )  # fmt: skip
    found = pods.wait_all(tenant, ["gpu-0", "gpu-1"])
    for i, uuid in enumerate(uuids):
        name = f"gpu-{i}"
        assert given(found[name])[0].uuid == uuid
        lines = str(wait_until("the output", lambda name=name: _whole(tenant.log(name)))).splitlines()  # type: ignore[misc]
        nodes = sorted(line for line in lines if line.startswith("nvidia"))
        assert nodes == sorted([f"nvidia{i}", "nvidia-modeset", "nvidia-uvm", "nvidia-uvm-tools", "nvidiactl"])
        assert lines[-2:] == ["a driver's library", "visible=void"]
    called = (driver / "called").read_text()
    assert called.count("update-ldcache --folder /usr/lib64") == 2
    assert called.count("disable-device-node-modification") == 2


def test_a_file_that_was_cut_off_holds_the_pod_up_and_says_so(product: Product, tenant: Api, driver: Path) -> None:
    file = driver / "nvidia.yaml"
    whole = file.read_text()
    file.write_text(whole[: whole.index("  mounts:")])
    tenant.create(pods.pod("early", pods.container(limits={"gpu-mem": "1Gi"}), node="node-b"))
    wait_until("the reason", lambda: [e for e in tenant.events("early") if "is the file cut off?" in json.dumps(e)])
    assert not pods.running(tenant.get("Pod", "early"))
    file.write_text(whole)
    tenant.wait("Pod", "early", pods.running)


def _whole(text: str) -> str:
    return text if "visible=" in text else ""
