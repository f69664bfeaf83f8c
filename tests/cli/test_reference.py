from pathlib import Path

import click

from gatecast.cli.command_line import COMMANDS
from gatecast.cli.reference import all_commands, main, page

PAGE = Path(__file__).parents[2] / "docs/reference/cli.md"


def test_the_page_is_fresh():
    assert page() == PAGE.read_text(), "run `make docs`"


def test_every_command_and_option_is_on_the_page():
    text = PAGE.read_text()
    assert {name.split()[1] for name in all_commands()} == set(COMMANDS)
    for name, command in all_commands().items():
        _, _, section = text.partition(f"\n## {name}\n")
        section, _, _ = section.partition("\n## ")
        named = [opt for param in command.params if isinstance(param, click.Option) for opt in param.opts]
        assert [opt for opt in named if opt not in section] == []
        assert command.short_help or section.strip()


def test_the_page_is_written_to_the_file_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["reference", str(tmp_path / "cli.md")])
    assert main() == 0
    assert (tmp_path / "cli.md").read_text() == page()
