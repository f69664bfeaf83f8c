"""Every command line that a page, a message or the README names: its command and options exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gatecast.cli.reference import all_commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted((ROOT / "src/gatecast").rglob("*.py"))
COMMANDS = all_commands()
GROUPS = {" ".join(name.split()[:-1]) for name in COMMANDS}
SCRIPT = re.compile(r"python (?P<script>(?:benchmarks|examples)/\w+\.py)(?P<rest>[^`\n]*)")


def named_lines(text: str) -> list[str]:
    """Return what follows ``gatecast `` in code: between single backticks, or in a line of a block."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"^ {4}(.*)$", text, re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = [" ".join(code.split()) for code in re.findall(r"`(gatecast [^`]+)`", rest)]
    lines = [
        line for block in blocks for line in re.findall(r"(?:^|\$ |# |&& )(gatecast .*)", block, re.MULTILINE)
    ]
    return [re.split(r" {2,}| [|&>#]", line)[0].rstrip(" &") for line in inline + lines]


def faults(line: str) -> list[str]:
    """Return what of a command line does not exist."""
    words = shlex.split(line.replace("…", ""))
    if " ".join(words) in GROUPS:
        return []
    if words[1].startswith("-"):
        return [word for word in words[1:] if word not in ("--help", "--version")]
    name = " ".join(words[:3]) if " ".join(words[:2]) in GROUPS else " ".join(words[:2])
    if name not in COMMANDS:
        return [name]
    known = {"-h", "--help"}
    for param in COMMANDS[name].params:
        known.update(param.opts if isinstance(param, click.Option) else ())
    given = [word.partition("=")[0] for word in words if re.match(r"\[?--?[a-z]", word)]
    return [f"{name} {option}" for option in given if option.strip("[]") not in known]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_named_on_a_page_exist(path):
    assert [fault for line in named_lines(path.read_text()) for fault in faults(line)] == []


def test_commands_named_in_messages_and_docstrings_exist():
    inline = [line for path in SOURCES for line in re.findall(r"`(gatecast [a-z][^`{]*)", path.read_text())]
    assert len(inline) > 20
    assert [fault for line in inline for fault in faults(line.rstrip(" -"))] == []


def test_what_does_not_exist_is_found():
    text = (
        "`gatecast run x.gcast --inputs\na=b` and\n```console\n$ gatecast fly &\n$ gatecast zoo list\n```\n"
    )
    lines = named_lines(text)
    assert lines == ["gatecast run x.gcast --inputs a=b", "gatecast fly", "gatecast zoo list"]
    assert [faults(line) for line in lines] == [["gatecast run --inputs"], ["gatecast fly"], []]


def scripts() -> dict[str, set[str]]:
    """Return the benchmarks and examples that pages name, each with the options it is given there."""
    found: dict[str, set[str]] = {}
    for path in [*PAGES, ROOT / "Makefile"]:
        for match in SCRIPT.finditer(path.read_text()):
            options = re.findall(r"(?<= )--?[a-z][\w-]*", match["rest"])
            found.setdefault(match["script"], set()).update(options)
    return found


def test_pages_name_benchmarks():
    assert "benchmarks/accuracy.py" in scripts()


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(scripts()))
def test_a_script_named_on_a_page_has_these_options(script):
    result = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    told = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", result.stdout))
    assert scripts()[script] - told == set()
