"""Whom the kernel's log blames."""

import os

from tessera.node_agent.kernel_log import REMEMBERED_S, KernelLog

XID = "4,1234,99999,-;NVRM: Xid (PCI:0000:00:06): {}, pid={}, name=python3, Ch 00000008, intr 00000000.\n"


class Log:
    """A file that stands for /dev/kmsg."""

    def __init__(self, folder):
        self.path, self.now = folder / "kmsg", 0.0
        self.write(XID.format(31, 1))
        self.log = KernelLog(self.path, lambda: self.now)

    def write(self, text):
        with self.path.open("a") as file:
            file.write(text)


def test_only_what_came_since_the_last_first_and_not_for_ever(tmp_path):
    case = Log(tmp_path)
    assert case.log.blamed() == ()
    case.write(XID.format(31, 27643))
    case.write("6,1235,99999,-;usb 1-1: new device pid=5\n" + XID.format(13, "'88'"))
    assert case.log.blamed() == case.log.blamed() == (88, 27643)
    case.now = REMEMBERED_S
    case.write(XID.format(43, 7))
    assert case.log.blamed() == (7, 88, 27643)
    case.now += 1
    assert case.log.blamed() == (7,)
    case.log.close()
    assert case.log.blamed() == (7,)


def test_errors_without_a_process_and_noise_blame_nobody(tmp_path):
    case = Log(tmp_path)
    case.write("NVRM: Xid (PCI:0000:00:06): 79, GPU has fallen off the bus.\n")
    with case.path.open("ab") as file:
        file.write(os.urandom(4096))
    assert case.log.blamed() == ()


def test_a_log_that_cannot_be_read_blames_nobody(tmp_path):
    assert KernelLog(tmp_path / "none").blamed() == ()
