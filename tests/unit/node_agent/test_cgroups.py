"""/proc/PID/cgroup as it was seen on many kinds of nodes."""

import pytest

from tessera.node_agent.cgroups import Container, membership_of

UID = "0f3c1a52-6f1e-4d7c-9b5a-2f6d1c8e4a90"
FLAT = UID.replace("-", "_")
STATIC = "9f8e7d6c5b4a39281706f5e4d3c2b1a0"
ID = "4b1f" * 16
OTHER = "9c2e" * 16
V1 = "11:memory:{0}\n10:cpuset:{0}\n9:freezer:{0}\n8:devices:{0}\n1:name=systemd:{0}"

OURS = {
    "containerd, cgroupfs, v1, burstable": V1.format(f"/kubepods/burstable/pod{UID}/{ID}"),
    "containerd, cgroupfs, v1, best effort": V1.format(f"/kubepods/besteffort/pod{UID}/{ID}"),
    "containerd, cgroupfs, v1, guaranteed": V1.format(f"/kubepods/pod{UID}/{ID}"),
    "containerd, cgroupfs, v2": f"0::/kubepods/burstable/pod{UID}/{ID}",
    "containerd, cgroupfs, v2, guaranteed": f"0::/kubepods/pod{UID}/{ID}",
    "containerd, systemd, v1": V1.format(
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{FLAT}.slice/cri-containerd-{ID}.scope"
    ),
    "containerd, systemd, v2": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{FLAT}.slice/cri-containerd-{ID}.scope"
    ),
    "containerd, systemd, v2, best effort": (
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{FLAT}.slice/cri-containerd-{ID}.scope"
    ),
    "containerd, systemd, v2, guaranteed": f"0::/kubepods.slice/kubepods-pod{FLAT}.slice/cri-containerd-{ID}.scope",
    "containerd, systemd driver of the kubelet only": (
        f"0::/system.slice/containerd.service/kubepods-burstable-pod{FLAT}.slice:cri-containerd:{ID}"
    ),
    "same, at the root": f"0::/kubepods-besteffort-pod{FLAT}.slice:cri-containerd:{ID}",
    "CRI-O, systemd, v2": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{FLAT}.slice/crio-{ID}.scope"
    ),
    "CRI-O, systemd, v2, with crun's inner group": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{FLAT}.slice/crio-{ID}.scope/container"
    ),
    "CRI-O, systemd, v1": V1.format(
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{FLAT}.slice/crio-{ID}.scope"
    ),
    "CRI-O, cgroupfs": f"0::/kubepods/burstable/pod{UID}/crio-{ID}",
    "Docker, cgroupfs, v1": V1.format(f"/kubepods/burstable/pod{UID}/{ID}"),
    "Docker, systemd, v1": V1.format(
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{FLAT}.slice/docker-{ID}.scope"
    ),
    "Docker, systemd, v2": f"0::/kubepods.slice/kubepods-pod{FLAT}.slice/docker-{ID}.scope",
    "nested root, cgroupfs": f"0::/node-a/kubepods/burstable/pod{UID}/{ID}",
    "nested root, cgroupfs, v1": V1.format(f"/node-a/kubepods/besteffort/pod{UID}/{ID}"),
    "nested root, systemd": (
        "0::/node.slice/node-a.slice/node-a-kubepods.slice/node-a-kubepods-burstable.slice/"
        f"node-a-kubepods-burstable-pod{FLAT}.slice/cri-containerd-{ID}.scope"
    ),
    "kind, systemd": (
        f"0::/system.slice/docker-{OTHER}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
        f"kubelet-kubepods-burstable-pod{FLAT}.slice/cri-containerd-{ID}.scope"
    ),
    "kind, cgroupfs": f"0::/docker/{OTHER}/kubelet/kubepods/burstable/pod{UID}/{ID}",
    "k3s": f"0::/kubepods/besteffort/pod{UID}/{ID}",
    "seen from a cgroup namespace": f"0::/../../kubepods-burstable-pod{FLAT}.slice/cri-containerd-{ID}.scope",
    "seen from a cgroup namespace, cgroupfs": f"0::/../../pod{UID}/{ID}",
    "hybrid: v1 with an empty unified line": V1.format(f"/kubepods/burstable/pod{UID}/{ID}") + "\n0::/",
    "hybrid: some controllers at the root": (
        f"13:rdma:/\n12:misc:/\n11:memory:/kubepods/burstable/pod{UID}/{ID}\n"
        f"5:cpu,cpuacct:/kubepods/burstable/pod{UID}/{ID}\n0::/"
    ),
    "hybrid: unified below the runtime's service": (
        f"11:memory:/kubepods/burstable/pod{UID}/{ID}\n0::/system.slice/containerd.service"
    ),
    "a group made within the container": (
        f"0::/kubepods.slice/kubepods-pod{FLAT}.slice/cri-containerd-{ID}.scope/init.scope/worker"
    ),
    "a container within the container": f"0::/kubepods/burstable/pod{UID}/{ID}/docker/{OTHER}",
    "a forged pod within the container": f"0::/kubepods/burstable/pod{UID}/{ID}/kubepods/pod{STATIC}/{OTHER}",
    "a ended process's group": f"0::/kubepods/burstable/pod{UID}/{ID}\n",
}

NOBODYS = {
    "the host": "0::/",
    "a service": "0::/system.slice/nvidia-persistenced.service",
    "a session": "0::/user.slice/user-1000.slice/session-3.scope",
    "the kubelet": "0::/system.slice/kubelet.service",
    "Docker outside Kubernetes": f"0::/system.slice/docker-{ID}.scope",
    "Podman": f"0::/machine.slice/libpod-{ID}.scope",
    "a pod's own group": f"0::/kubepods/burstable/pod{UID}",
    "CRI-O's conmon": f"0::/kubepods.slice/kubepods-pod{FLAT}.slice/crio-conmon-{ID}.scope",
    "two pods at once": f"11:memory:/kubepods/pod{UID}/{ID}\n9:freezer:/kubepods/pod{STATIC}/{OTHER}",
    "no uid": f"0::/kubepods/burstable/podnginx/{ID}",
    "empty": "",
    "garbage": "not a line\n:::\n5",
}


@pytest.mark.parametrize("text", OURS.values(), ids=OURS)
def test_pod_and_container(text):
    found = membership_of(text)
    assert found is not None
    assert found.container == Container(UID, ID)
    assert found.path.rstrip("/").endswith((ID, f"{ID}.scope"))


@pytest.mark.parametrize("text", NOBODYS.values(), ids=NOBODYS)
def test_nobodys(text):
    assert membership_of(text) is None


def test_static_pods_have_other_uids():
    found = membership_of(f"0::/kubepods/burstable/pod{STATIC}/{ID}")
    assert found and found.container == Container(STATIC, ID)


def test_a_root_narrows():
    line = f"0::/node-a/kubepods/burstable/pod{UID}/{ID}"
    assert membership_of(line, root="/node-b") is None
    assert membership_of(line, root="/node-a/") == membership_of(line)


def test_the_unified_hierarchy_is_preferred():
    path = f"/kubepods/pod{UID}/{ID}"
    found = membership_of(f"9:pids:{path}\n4:memory:{path}\n0::{path}")
    assert found and (found.controller, found.path) == ("", path)
    found = membership_of(f"9:pids:{path}\n4:memory:{path}\n0::/")
    assert found and found.controller == "memory"


def test_more_than_thirty_forms_are_known():
    assert len(OURS) >= 30
