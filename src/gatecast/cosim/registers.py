"""Registers of a simulated NPU, by name."""

from dataclasses import dataclass

from gatecast.rtl import register_words

from .simulator import Simulator

WORDS = register_words()
"""Word index of each register."""


@dataclass(frozen=True)
class Registers:
    """Reads and writes registers of one simulator; each access takes a few of its cycles."""

    simulator: Simulator

    def read(self, name: str) -> int:
        """Value of a register."""
        return self.simulator.read(WORDS[name])

    def write(self, name: str, value: int) -> None:
        """Set a register."""
        self.simulator.write(WORDS[name], value)
