"""The reference device: NumPy, written to be read. It defines what every other device must return.

`device` loads and runs, `memory` holds what instructions read and write, and `transfer`, `matrix` and
`vector` have one function for each instruction of docs/spec/isa.md §6.
"""

from .device import ReferenceDevice, execute
from .memory import Memory

__all__ = ["Memory", "ReferenceDevice", "execute"]
