"""`gatecast`: finds the command, runs it, and turns what went wrong into one line and an exit status.

Exit status 0: done. 1: an error, told in an ``error:`` and a ``hint:`` line on stderr. 2: wrong usage.
130: interrupted. Nothing heavy is imported here: a command's module is, when the command is called.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from textwrap import dedent, indent

import click

from gatecast import __version__
from gatecast.errors import GatecastError

COMMANDS = {
    "quantize": "Turn a network into a quantised one, written as standard ONNX.",
    "compile": "Compile a network into an artifact, the file that is served.",
    "inspect": "Show what a network or an artifact is: signature, layers, formats, provenance.",
    "disassemble": "Print the instructions of an artifact's Programs.",
    "run": "Run an artifact on files, without a server.",
    "bench": "Measure the latency of an artifact on a device.",
    "serve": "Serve an artifact over gRPC and REST, as TensorFlow Serving does.",
    "route": "Put one address before many servers.",
    "predict": "Send pictures to a server and print the best classes.",
    "workspace": "Make a folder a workspace, show it, tidy it.",
    "model": "Register networks under a name and a version, and find them again.",
    "convert": "Convert a registered network into a quantised one, in the background.",
    "image": "Make images that serve a model, without any container tool.",
    "operation": "Show conversions and builds: their states and logs.",
    "compute": "Make and show computes, on which services run.",
    "service": "Run images as services, change them, look at them, end them.",
    "status": "Show all of a workspace: models, images, services and what runs.",
    "rtl": "Write the NPU as Verilog, and its register map.",
    "zoo": "List, fetch and describe known networks.",
    "demo": "Show the whole path, from a trained network to answers over gRPC.",
}
"""Each command is `command` in the module of its name in this package."""


class LazyGroup(click.Group):
    """Knows its commands by name, and imports the module of one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a newcomer's way through them; an image has only those that serve."""
        return [name for name in COMMANDS if _is_here(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS or not _is_here(cmd_name):
            return None
        command: click.Command = import_module(f"gatecast.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


def _is_here(name: str) -> bool:
    return find_spec(f"{__package__}.{name}") is not None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatecast")
def commands() -> None:
    """Deploy vision DNNs to FPGAs as web services, self-hosted.

    A network goes this way: quantize, compile, serve, predict. `gatecast demo` shows all of it.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    try:
        result = commands.main(
            None if arguments is None else list(arguments), prog_name="gatecast", standalone_mode=False
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader of stdout went away; what the interpreter still flushes must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except GatecastError as error:
        return _fail(str(error), error.hint)
    except OSError as error:
        return _fail(_os_error(error), "Check the path, its permissions, and the room on its disk.")
    except Exception as error:
        if os.environ.get("GATECAST_DEBUG"):
            traceback.print_exc()
        return _fail(
            f"This is a bug in Gatecast: {type(error).__name__}: {error}",
            "Run it again with GATECAST_DEBUG=1 and report what is printed.",
        )


def _fail(message: str, hint: str) -> int:
    """Print both lines; further lines of a message, such as a list or a table, are indented alike."""
    first, _, rest = message.partition("\n")
    click.echo(f"error: {first}", err=True)
    if rest:
        click.echo(indent(dedent(rest), "  "), err=True)
    click.echo(f"hint: {' '.join(hint.split())}", err=True)
    return 1


def _os_error(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
