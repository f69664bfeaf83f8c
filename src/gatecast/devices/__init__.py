"""Devices: what runs Programs. Each returns the same bytes for the same Program and input."""

from .device import (
    GROUP,
    Device,
    LoadedProgram,
    Progress,
    default_device,
    device_names,
    device_report,
    open_device,
)
from .processors import usable_processors

__all__ = [
    "GROUP",
    "Device",
    "LoadedProgram",
    "Progress",
    "default_device",
    "device_names",
    "device_report",
    "open_device",
    "usable_processors",
]
