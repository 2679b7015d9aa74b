"""Reasons of the events about an MPS daemon."""

FAULT = "MpsServerFault"
RECOVERED = "MpsRecovered"
LOST = "MpsDaemonLost"
SILENT = "MpsDaemonSilent"
CHANGED = "MpsSettingChanged"
PARTITION_LOST = "MpsPartitionLost"
