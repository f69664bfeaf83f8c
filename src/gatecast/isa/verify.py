"""The verifier. See docs/spec/isa.md §8."""

from .program import Program


def verify(program: Program) -> None:
    """Refuse a Program that breaks a rule of the instruction set."""
