"""Where text and sections of a Program lie in simulated external memory.

What the NPU may only read comes first, so that one address tells what it may write.
"""

from dataclasses import dataclass

from gatecast.isa import INSTRUCTION_BYTES, Program

ALIGNMENT = 64


@dataclass(frozen=True)
class Placement:
    """Byte addresses of text and sections, the first byte that may be written, and the size of it all."""

    text: int
    weights: int
    inputs: int
    workspace: int
    outputs: int
    size: int

    @property
    def writable(self) -> int:
        """First byte that the NPU may write: workspace and outputs are last."""
        return self.workspace


def place(program: Program) -> Placement:
    """Lay out a Program; each part starts at a multiple of 64."""
    sizes = {
        "text": len(program.text) * INSTRUCTION_BYTES,
        "weights": memoryview(program.weights).nbytes,
        "inputs": program.inputs_bytes,
        "workspace": program.workspace_bytes,
        "outputs": program.outputs_bytes,
    }
    starts, end = {}, 0
    for name, size in sizes.items():
        starts[name] = end
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return Placement(**starts, size=max(end, ALIGNMENT))
