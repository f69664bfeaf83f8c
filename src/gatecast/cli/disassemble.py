"""`gatecast disassemble`: what the device will do, instruction by instruction."""

from pathlib import Path

import click

from gatecast.artifact import Artifact, ProgramStage
from gatecast.isa import listing

from . import options
from .terminal import print_text, say


@click.command("disassemble")
@click.argument("source", metavar="X.gcast", type=options.FILE)
def command(source: Path) -> None:
    """Print the instructions of an artifact's Programs.

    One instruction a line, as docs/spec/isa.md §9 defines the text. Lines that start with `;` are comments.
    """
    artifact = Artifact.load(source)
    programs = [stage for stage in artifact.stages if isinstance(stage, ProgramStage)]
    if not programs:
        say(f"{source} has no Program: all of it runs on the host.")
    for stage in programs:
        program = stage.program
        print_text(
            f"; {stage.name}: {len(program.text)} instructions for {program.architecture.name}, "
            f"{len(program.weights)} bytes of weights"
        )
        print_text(listing(program.text).rstrip("\n"))
