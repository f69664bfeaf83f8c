"""The verifier: refuses a Program that breaks a rule of docs/spec/isa.md §8. It needs no device.

`form` looks at each instruction alone (rules 1, 2, 4, 8), `bounds` at its addresses (3), `tokens` at waits
and signals (5), `books` at who wrote what, and in which order (6, 7), and `contents` at weights and
constants (7).
"""

from ..program import Program
from .books import check_data
from .bounds import check_bounds
from .contents import check_contents
from .form import check_form
from .tokens import schedule

__all__ = ["verify"]


def verify(program: Program) -> None:
    """Check all rules of docs/spec/isa.md §8.

    Raises
    ------
    ProgramError
        The first rule that is broken, with the instruction's number, its layer, and the field.
    """
    check_form(program)
    check_bounds(program)
    check_contents(program)
    check_data(program, schedule(program))
