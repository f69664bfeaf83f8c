"""The command line: one file for each command, loaded when it is called."""

from .command_line import main

__all__ = ["main"]
