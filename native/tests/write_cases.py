"""Write Programs with their inputs, and the outputs of the reference device, for `replay`.

    python native/tests/write_cases.py FOLDER [--programs 40]

Random Programs of every kind of instruction from the conformance suite, and the carried network, whole.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import gatecast
from gatecast.artifact import ProgramStage
from gatecast.devices import open_device
from gatecast.devices.software import _layout, _sizes
from gatecast.isa import Program, encode_text, pack_inputs
from gatecast.zoo import load

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.conformance.random_programs import KINDS, random_program
from tests.conformance.wide_programs import wide_program


def write_case(path: Path, program: Program, inputs: bytes) -> None:
    """Write one case; docs of the form: `read_case` in replay.cc."""
    expected = open_device("reference").load(program).run(inputs)
    text, weights = bytes(encode_text(program.text)), bytes(program.weights)
    kinds = _layout()
    lines = ["gatecast-case-1", str(len(kinds))]
    for opcode, (name, fields) in kinds.items():
        lines.append(f"{opcode} {name} {len(fields)}")
        lines += [f"{field} {' '.join(str(int(part)) for part in place)}" for field, place in fields.items()]
    sizes = _sizes(program)
    order = ("activation", "weight", "vector", "weight_wrap", "zero_blocks", "workspace", "inputs", "outputs")
    lines.append(" ".join(str(sizes[name]) for name in order))
    lines.append(f"{program.prologue} {len(text)} {len(weights)}")
    path.write_bytes("\n".join(lines).encode() + b"\n" + text + weights + bytes(inputs) + expected)


def carried(format_name: str) -> tuple[Program, bytes]:
    """Return the carried network's Program, and a picture of noise for it."""
    artifact = gatecast.compile(gatecast.quantize(load("fashion"), format_name), target="software")
    (program,) = (stage.program for stage in artifact.stages if isinstance(stage, ProgramStage))
    rng = np.random.default_rng(0)
    tensors = {port.name: rng.normal(size=port.shape).astype(np.float32) for port in program.inputs}
    return program, bytes(pack_inputs(program, tensors))


def main() -> None:
    """Write what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--programs", type=int, default=40, help="random ones of each kind (default: 40)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        for seed in range(options.programs):
            write_case(options.folder / f"{kind}{seed}.case", *random_program(kind, seed))
    for seed in range(options.programs):
        write_case(options.folder / f"wide{seed}.case", *wide_program(seed))
    for name in ("bfp8", "bfp5/bfp6"):
        write_case(options.folder / f"fashion-{name.replace('/', '-')}.case", *carried(name))


if __name__ == "__main__":
    main()
