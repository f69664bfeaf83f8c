"""Memories of the reference device, and views of maps in them. See docs/spec/isa.md §2 and §3."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...isa import Instruction, Program, Section, View, memory_sizes, strided, taps
from ...numerics import BLOCK_SIZE, FORMATS, decode_blocks, encode

Float32 = npt.NDArray[np.float32]


class Memory:
    """On-chip memories, as large as a Program needs, and the sections of external memory.

    Members
    -------
    mantissas : int8 ``[blocks, 32]``
    exponents : uint8 ``[blocks]``
    panels : int8 ``[panels, 32 lanes, 32]``
    panel_exponents : uint8 ``[panels, 32 lanes]``
    vectors : float32 ``[vectors, 32]``
    sections : uint8 array for each Section
    """

    def __init__(self, program: Program) -> None:
        sizes = memory_sizes(program)
        self.mantissas = np.zeros((sizes["activation"], BLOCK_SIZE), np.int8)
        self.exponents = np.zeros(sizes["activation"], np.uint8)
        self.panels = np.zeros((sizes["weight"], BLOCK_SIZE, BLOCK_SIZE), np.int8)
        self.panel_exponents = np.zeros((sizes["weight"], BLOCK_SIZE), np.uint8)
        self.vectors = np.zeros((sizes["vector"], BLOCK_SIZE), np.float32)
        self.wrap = program.architecture.weight_panels
        self.sections = {
            Section.WEIGHTS: np.frombuffer(program.weights, np.uint8),
            Section.WORKSPACE: np.zeros(program.workspace_bytes, np.uint8),
            Section.INPUTS: np.zeros(program.inputs_bytes, np.uint8),
            Section.OUTPUTS: np.zeros(program.outputs_bytes, np.uint8),
        }

    def read(self, view: View, shape: tuple[int, int, int]) -> Float32:
        """Decoded values ``[rows, columns, blocks, 32]`` of a view."""
        place = (view.address, shape, (view.row, view.pixel, 1))
        if view.format == "float32":
            return strided(self.vectors, *place)
        return decode_blocks(
            strided(self.mantissas, *place), strided(self.exponents, *place), FORMATS[view.format]
        )

    def write(self, view: View, values: Float32) -> None:
        """Encode values ``[rows, columns, blocks, 32]`` into a view, or keep them as float32."""
        place = (view.address, values.shape[:3], (view.row, view.pixel, 1))
        if view.format == "float32":
            strided(self.vectors, *place)[...] = values
            return
        mantissas, exponents = encode(values.reshape(*values.shape[:2], -1), FORMATS[view.format])
        strided(self.mantissas, *place)[...] = mantissas
        strided(self.exponents, *place)[...] = exponents

    def panel_addresses(self, start: int, count: int) -> npt.NDArray[np.intp]:
        """Addresses of `count` panels from `start`; weight memory wraps."""
        return (start + np.arange(count)) % self.wrap

    def window(self, instruction: Instruction, blocks: int) -> Float32:
        """Values ``[rows, columns, blocks, 32]`` that the taps of `convolve` or `pool` span.

        Row 0, column 0 is the first tap of output 0, 0. Positions outside the map are 0.
        """
        shape = _span(instruction, "y", "rows"), _span(instruction, "x", "columns"), blocks, BLOCK_SIZE
        values = np.zeros(shape, np.float32)
        rows, columns = taps(instruction, "y"), taps(instruction, "x")
        if len(rows) and len(columns):
            view, top, left = instruction.view("in"), int(rows[0]), int(columns[0])
            corner = replace(view, address=view.address + top * view.row + left * view.pixel)
            stored = self.read(corner, (int(rows[-1]) - top + 1, int(columns[-1]) - left + 1, blocks))
            top, left = top - instruction.in_y, left - instruction.in_x
            values[top : top + stored.shape[0], left : left + stored.shape[1]] = stored
        return values


def _span(instruction: Instruction, axis: str, part: str) -> int:
    dilation = getattr(instruction, f"dilation_{axis}") if instruction.has(f"dilation_{axis}") else 1
    outputs, kernel = getattr(instruction, f"out_{part}"), getattr(instruction, f"kernel_{part}")
    last: int = (outputs - 1) * getattr(instruction, f"stride_{axis}") + (kernel - 1) * dilation
    return last + 1
