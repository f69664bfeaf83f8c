"""What went wrong becomes one line, a hint and an exit status; what is not needed is not imported."""

import json
import subprocess
import sys
from importlib.util import find_spec

import click
import pytest

from gatecast import __version__
from gatecast.cli import command_line, main
from gatecast.cli.command_line import COMMANDS, LazyGroup
from gatecast.errors import FileError, UnsupportedError

HEAVY = ("numpy", "onnx", "onnxruntime", "grpc", "google.protobuf", "PIL", "rich", "starlette", "uvicorn")
FRAMEWORKS = ("torch", "tensorflow", "amaranth")


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `statement`."""
    program = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.fixture
def failing(monkeypatch):
    """Let every command raise what the test gives."""

    def fail(error):
        def callback():
            raise error

        command = click.Command("inspect", callback=callback)
        monkeypatch.setattr(LazyGroup, "get_command", lambda *_: command)
        return main(["inspect"])

    return fail


class TestImports:
    def test_help_needs_nothing_heavy(self):
        loaded = modules_after("from gatecast.cli import main; main(['--help'])")
        assert not loaded.intersection((*HEAVY, *FRAMEWORKS))

    def test_the_package_itself_needs_nothing_heavy(self):
        assert not modules_after("import gatecast").intersection((*HEAVY, *FRAMEWORKS, "click"))

    @pytest.mark.parametrize("command", ["serve", "predict", "run", "bench"])
    def test_no_framework_and_no_compiler_where_requests_are_answered_or_sent(self, command):
        loaded = modules_after(f"import gatecast.cli.{command}")
        unwanted = ("onnx", "gatecast.compiler", "gatecast.quantization", "gatecast.interchange")
        assert not loaded.intersection((*FRAMEWORKS, *unwanted))

    def test_predicting_needs_only_the_client(self):
        loaded = modules_after("import gatecast.cli.predict")
        assert not loaded.intersection(
            ("onnxruntime", "gatecast.runtime", "gatecast.serving", "gatecast.graph")
        )

    @pytest.mark.parametrize("command", ["model", "compute", "service", "status", "operation", "workspace"])
    def test_commands_over_a_workspace_need_neither_arrays_nor_what_makes_images(self, command):
        loaded = modules_after(f"import gatecast.cli.{command}")
        assert not loaded.intersection(("numpy", "gatecast.workspace.base_image", *FRAMEWORKS))


class TestHelp:
    def test_every_command_is_listed(self, capsys):
        assert main(["--help"]) == 0
        listed = capsys.readouterr().out
        for name in COMMANDS:
            assert f"\n  {name} " in listed

    @pytest.mark.parametrize("name", COMMANDS)
    def test_the_list_says_what_the_command_says_of_itself(self, name):
        group = LazyGroup("gatecast")
        command = group.get_command(click.Context(group), name)
        assert command.name == name
        assert command.help.splitlines()[0] == COMMANDS[name]

    def test_the_version_is_that_of_the_package(self, capsys):
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"gatecast, version {__version__}\n"

    def test_the_module_is_the_command_line(self):
        result = subprocess.run(
            [sys.executable, "-m", "gatecast", "--version"], check=True, capture_output=True, text=True
        )
        assert result.stdout == f"gatecast, version {__version__}\n"


class TestFailures:
    def test_an_error_is_one_line_and_a_hint(self, failing, capsys):
        assert failing(FileError("File x must be\nwhole", "Copy it\nagain.")) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err == "error: File x must be\n  whole\nhint: Copy it again.\n"

    def test_every_class_has_a_hint(self, failing, capsys):
        assert failing(UnsupportedError("Operators must be known")) == 1
        assert "\nhint: Export the network without" in capsys.readouterr().err

    def test_a_path_that_the_system_refuses_is_named(self, failing, capsys):
        assert failing(PermissionError(13, "Permission denied", "out.npz")) == 1
        assert capsys.readouterr().err.startswith("error: out.npz: Permission denied\nhint: ")

    def test_a_fault_of_ours_is_called_a_bug(self, failing, capsys, monkeypatch):
        monkeypatch.delenv("GATECAST_DEBUG", raising=False)
        assert failing(KeyError("weights")) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: This is a bug in Gatecast: KeyError: 'weights'\nhint: ")
        assert len(err.splitlines()) == 2

    def test_a_fault_of_ours_shows_its_traceback_on_request(self, failing, capsys, monkeypatch):
        monkeypatch.setenv("GATECAST_DEBUG", "1")
        assert failing(KeyError("weights")) == 1
        assert capsys.readouterr().err.startswith("Traceback (most recent call last):\n")

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
    def test_an_interrupt_is_silent(self, failing, capsys, error):
        assert failing(error) == 130
        out, err = capsys.readouterr()
        assert out == ""
        assert err.strip() == ""  # click ends the line that shows ^C

    def test_a_reader_that_goes_away_is_no_error(self):
        program = (
            "from gatecast.cli import main, terminal\n"
            "import click, gatecast.cli.command_line as m, sys\n"
            "def talk():\n"
            "    for _ in range(100000): terminal.print_text('a long line of text')\n"
            "m.LazyGroup.get_command = lambda *_: click.Command('inspect', callback=talk)\n"
            "sys.exit(main(['inspect']))"
        )
        command = f'"{sys.executable}" -c "$PROGRAM" | head -n 1'
        result = subprocess.run(
            ["bash", "-c", command],
            env={"PROGRAM": program, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert result.stdout == "a long line of text\n"
        assert result.stderr == ""

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["fly"], "Error: No such command 'fly'."),
            (["--fast"], "Error: No such option '--fast'"),
            (["inspect"], "Error: Missing argument 'FILE'."),
            (["compile", "a.onnx"], "Error: Missing option '-o' / '--output'."),
            (["serve", "x", "--port", "70000"], "Error: Invalid value for '--port'"),
            (["run", "x.gcast", "--input", "a.png"], "Option --input must be NAME=VALUE, not 'a.png'"),
            (["quantize", "a.onnx", "-o", "b.onnx", "--override", "x"], "--override must be NAME=VALUE"),
            (["compile", "a.onnx", "-o", "."], "File '.' is a directory."),
            (["quantize", "a.onnx", "-o", "./a.onnx"], "Output must be another file than the input a.onnx"),
        ],
    )
    def test_wrong_usage_is_status_2(self, capsys, arguments, text):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("Usage: gatecast")
        assert text in err


def test_commands_whose_modules_are_not_installed_are_not_there(monkeypatch, capsys):
    """In an image, which holds only what serves."""
    monkeypatch.setattr(
        command_line, "find_spec", lambda name: None if name.endswith(".compile") else find_spec(name)
    )
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert "serve " in told and "compile " not in told.partition("Commands:")[2]
    assert main(["compile"]) == 2
    assert "No such command 'compile'" in capsys.readouterr().err
