"""Devices: what runs Programs. Each returns the same bytes for the same Program and input."""

from .device import GROUP, Device, LoadedProgram, device_names, open_device

__all__ = ["GROUP", "Device", "LoadedProgram", "device_names", "open_device"]
