"""`python -m gatecast.compat run [--replace] SCRIPT [ARGUMENTS]`: a script of the old SDK, on Gatecast."""

import argparse
import logging
import runpy
import sys
from pathlib import Path

from gatecast.errors import GatecastError

from .names import install


def main() -> int:
    """Run the script; 1 if the names cannot be put in place, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m gatecast.compat", description=__doc__.split(": ")[1])
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="run a script with azureml.* standing for Gatecast")
    run.add_argument("--replace", action="store_true", help="also where the real azureml is installed")
    run.add_argument("script", type=Path)
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.script.is_file():
        parser.error(f"script must be a file, not {options.script}")
    logging.basicConfig(format="%(message)s")
    try:
        install(options.replace)
    except GatecastError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 1
    sys.argv = [str(options.script), *options.arguments]
    sys.path[0] = str(options.script.absolute().parent)
    runpy.run_path(str(options.script), run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
