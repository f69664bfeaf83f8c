"""The compiler's cycle model beside the counters of the NPU's Verilog, layer by layer.

    python benchmarks/cycle_model.py [--network fashion resnet20] [--target ecp5_85f tiny] [--json]

For each layer: cycles of its instructions on the matrix unit, or on the vector unit for layers without
convolutions, as `gatecast.compiler.estimate` says and as the RTL counts them. Cycles do not depend on data:
one run on zeros says all. Needs Verilator; `resnet20` needs its weights in the folder GATECAST_TEST_DATA.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import resnet20
from rich.console import Console
from rich.table import Table

from gatecast import zoo
from gatecast.artifact import ProgramStage
from gatecast.compiler import compile
from gatecast.compiler.estimate import estimate
from gatecast.cosim import RtlDevice
from gatecast.isa import UNITS, Program
from gatecast.quantization import quantize

NETWORKS = {"fashion": lambda: zoo.load("fashion"), "resnet20": resnet20.resnet20}


@dataclass(frozen=True)
class Row:
    """Cycles of a layer, of one unit, or of the whole."""

    name: str
    model: int
    rtl: int

    @property
    def difference(self) -> float:
        """Of the model, in percent."""
        return 100 * (self.model - self.rtl) / self.rtl if self.rtl else 0.0


def compare(program: Program) -> list[Row]:
    """Rows for layers, units and the whole."""
    modelled = estimate(program)
    loaded = RtlDevice().load(program)
    loaded.run(bytes(program.inputs_bytes))
    layers: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    units: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for record in sorted(loaded.retired, key=lambda r: r.number):
        unit, name = UNITS[record.unit], program.layer_name(program.body[record.number].layer)
        pair = modelled.spans[record.number].cycles, record.cycles
        for sums in (units[unit], layers[name, unit]):
            sums[0] += pair[0]
            sums[1] += pair[1]
    whole = Row("whole", modelled.cycles, loaded.report["cycles"])
    loaded.close()
    computing = [Row(name, *sums) for (name, unit), sums in layers.items() if unit in ("matrix", "vector")]
    busy = [Row(f"all of unit {unit}", *units[unit]) for unit in UNITS if unit in units]
    return [*computing, *busy, whole]


def programs(network: str, target: str, formats: str) -> Sequence[Program]:
    """Programs of a network."""
    artifact = compile(quantize(NETWORKS[network](), formats), target)
    return [stage.program for stage in artifact.stages if isinstance(stage, ProgramStage)]


def show(title: str, rows: Sequence[Row]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for column in ("layer", "model", "RTL", "difference"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for row in rows:
        table.add_row(row.name, f"{row.model:,}", f"{row.rtl:,}", f"{row.difference:+.2f} %")
    Console(width=100).print(table)


def main() -> None:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--target", nargs="+", default=["ecp5_85f"])
    parser.add_argument("--format", default="bfp8")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {
        f"{network}, {options.format}, {target}": compare(program)
        for network in options.network
        for target in options.target
        for program in programs(network, target, options.format)
    }
    if options.json:
        print(json.dumps({title: [asdict(row) for row in rows] for title, rows in found.items()}))
        return
    for title, rows in found.items():
        show(title, rows)


if __name__ == "__main__":
    main()
