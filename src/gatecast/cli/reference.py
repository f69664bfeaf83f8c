"""The page docs/reference/cli.md, made from the commands: ``python -m gatecast.cli.reference FILE``."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gatecast.files import write_whole

from .command_line import commands

HEAD = """# The command line

Every command and option. This page is made from the commands themselves by `make docs`.

Data goes to stdout, messages and progress to stderr. A command ends with status 0, or with 1 after one
`error:` and one `hint:` line, or with 2 for wrong usage. `--help` or `-h` describes each."""


def all_commands() -> dict[str, click.Command]:
    """Return every command by its words: ``gatecast zoo list``."""
    return dict(_below("gatecast", commands))


def page() -> str:
    """Return the page as Markdown."""
    return "\n\n".join([HEAD, *(_section(name, command) for name, command in all_commands().items())]) + "\n"


def _below(prefix: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        if isinstance(command, click.Group):
            yield from _below(f"{prefix} {word}", command)
        elif command is not None:
            yield f"{prefix} {word}", command


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"## {name}", f"    {usage}", inspect.cleandoc(command.help or "")]
    own = [param for param in command.params if isinstance(param, click.Option)]
    if records := [record for option in own if (record := option.get_help_record(context))]:
        rows = [f"| `{_cell(option)}` | {_cell(text)} |" for option, text in records]
        parts.append("\n".join(["| option | |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def main() -> int:
    """Write the page to the file that is named."""
    (path,) = sys.argv[1:]
    write_whole(Path(path), [page().encode()], "Page")
    return 0


if __name__ == "__main__":
    sys.exit(main())
