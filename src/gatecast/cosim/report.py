"""What the NPU counted in one run: registers, and the cycles of each instruction by layer."""

from collections.abc import Iterable, Mapping
from typing import Any

from gatecast.isa import UNITS, Program

from .registers import Registers
from .simulator import Retired

_COUNTERS = ("instructions", "products", "reads", "writes")


def run_report(registers: Registers, program: Program, retired: Iterable[Retired]) -> Mapping[str, Any]:
    """Counters of the run that has just ended.

    Parameters
    ----------
    registers, program
        Of the NPU, and what it ran.
    retired : iterable of Retired
        Instructions of the body.

    Returns
    -------
    mapping
        ``cycles`` from start to done; ``instructions`` retired; ``products``, cycles in which the matrix unit
        took a block; ``reads`` and ``writes``, beats of memory; ``units``, for each unit its ``busy`` and
        ``waiting`` cycles; ``layers``, for each layer its ``instructions`` and the busy cycles of each unit.
    """
    read = registers.read
    return {
        "cycles": read("cycles") | read("cycles_high") << 32,
        **{name: read(name) for name in _COUNTERS},
        "units": {unit: {part: read(f"{unit}_{part}") for part in ("busy", "waiting")} for unit in UNITS},
        "layers": _layers(program, retired),
    }


def _layers(program: Program, retired: Iterable[Retired]) -> dict[str, dict[str, int]]:
    layers: dict[str, dict[str, int]] = {}
    for record in sorted(retired, key=lambda r: r.number):
        name = program.layer_name(program.body[record.number].layer)
        counts = layers.setdefault(name, {"instructions": 0})
        counts["instructions"] += 1
        unit = UNITS[record.unit]
        counts[unit] = counts.get(unit, 0) + record.cycles
    return layers
