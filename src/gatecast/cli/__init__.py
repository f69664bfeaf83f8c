"""The command line: one file for each command, loaded when it is called."""

from .main import main

__all__ = ["main"]
