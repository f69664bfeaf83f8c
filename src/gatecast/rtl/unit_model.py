"""What the units that run whole instructions must do: what the reference device does."""

from ..devices.reference import Memory, execute
from ..isa import Instruction


def run_instruction(memory: Memory, instruction: Instruction) -> None:
    """Change memories as one instruction does; mantissas there are not left-aligned."""
    execute(memory, [instruction])
