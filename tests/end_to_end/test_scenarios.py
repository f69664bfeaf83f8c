"""Scenarios as text: commands, what they print, and files. Each runs in a folder of its own.

    # a comment; `# needs VARIABLE` skips the scenario where that is not set
    -- labels.txt --
    a file that is written before the first command
    $ gatecast inspect missing.onnx
    2> error: File missing.onnx cannot be read: No such file or directory
    2> hint: Check the path.
    [exit 1]

A line of expected output stands for itself, whatever its number of spaces; `…` in it stands for any
characters, and a line that is only `…` for any number of lines. Lines that start with `2> ` are expected on
stderr; a command without any may print there what it likes. `[exit N]` is the exit status, 0 without it. A
command that ends in ` &` is a server: the next one waits until it says that it serves, and at the end it is
stopped, which must go well.
``$PORT`` and ``$REST_PORT`` are free ports.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gatecast.workspace.store import Store
from gatecast.workspace.supervision import kill_all

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
WORKFLOW = HERE.parents[1] / "docs/guides/workflow.md"
FILES = sorted((HERE / "scenarios").glob("*.txt"))
TIMEOUT_S = 120
SERVING = "Serving "


@dataclass
class Step:
    """A command, the lines expected of it, and its exit status."""

    command: str
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    status: int = 0


@dataclass
class Scenario:
    """Files by name, then steps."""

    files: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def parse(text: str) -> Scenario:
    scenario, file = Scenario(), None
    for line in text.splitlines():
        if match := re.fullmatch(r"-- (\S+) --", line):
            file = match[1]
            scenario.files[file] = ""
        elif line.startswith("$ "):
            file = None
            scenario.steps.append(Step(line[2:]))
        elif file is not None:
            scenario.files[file] += line + "\n"
        elif scenario.steps and not line.startswith("# "):
            _expect(scenario.steps[-1], line)
    return scenario


def _expect(step: Step, line: str) -> None:
    if match := re.fullmatch(r"\[exit (\d+)\]", line):
        step.status = int(match[1])
    elif line.startswith("2> "):
        step.err.append(line[3:])
    else:
        step.out.append(line)


def matches(expected: list[str], text: str) -> bool:
    """Whether the lines of `text` are the expected ones; blank lines at the ends and spaces do not count."""
    pattern = "".join(_pattern(line) for line in _trimmed(expected))
    found = "".join(f"{_squeezed(line)}\n" for line in _trimmed(text.splitlines()))
    return re.fullmatch(pattern, found) is not None


def _pattern(line: str) -> str:
    if line.strip() == "…":
        return r"(?:[^\n]*\n)*?"
    parts = re.split(r" ?… ?", _squeezed(line))
    return r"[^\n]*?".join(re.escape(part) for part in parts) + r"\n"


def _squeezed(line: str) -> str:
    return " ".join(line.split())


def _trimmed(lines: list[str]) -> list[str]:
    filled = [i for i, line in enumerate(lines) if line.strip()]
    return lines[filled[0] : filled[-1] + 1] if filled else []


class Runner:
    """Runs a scenario in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[subprocess.Popen] = []
        ports = free_ports(2)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PORT": str(ports[0]),
            "REST_PORT": str(ports[1]),
            "COLUMNS": "200",
            "PYTHONWARNINGS": "error",
        }

    def run(self, scenario: Scenario) -> None:
        for name, content in scenario.files.items():
            (self.folder / name).write_text(content)
        try:
            for step in scenario.steps:
                self._serve(step) if step.command.endswith(" &") else self._run(step)
        finally:
            stopped = [self._stop(server) for server in self.servers]
        assert all(status == 0 for status in stopped), f"servers ended with {stopped}"

    def _run(self, step: Step) -> None:
        result = subprocess.run(
            ["bash", "-c", step.command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        told = f"$ {step.command}\n{result.stdout}{result.stderr}[exit {result.returncode}]"
        if result.returncode != step.status:
            pytest.fail(f"{told}\nexpected status {step.status}", pytrace=False)
        if not matches(step.out, result.stdout):
            pytest.fail(f"{told}\nexpected:\n" + "\n".join(step.out), pytrace=False)
        if "Traceback" in result.stderr or (step.err and not matches(step.err, result.stderr)):
            pytest.fail(f"{told}\nexpected on stderr:\n" + "\n".join(step.err), pytrace=False)

    def _serve(self, step: Step) -> None:
        log = self.folder / f"server-{len(self.servers)}.log"
        with log.open("w") as output:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {step.command.removesuffix(' &')}"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.servers.append(server)
        deadline = time.monotonic() + TIMEOUT_S
        while SERVING not in log.read_text():
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def _stop(self, server: subprocess.Popen) -> int:
        server.send_signal(signal.SIGTERM)
        try:
            return server.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            raise


def free_ports(count: int) -> list[int]:
    """Ports that nothing listened on a moment ago."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def console_blocks(page: Path) -> list[str]:
    """What stands in a page's blocks of commands and what they print."""
    return re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path, tmp_path):
    text = path.read_text()
    for name in re.findall(r"^# needs (\w+)$", text, re.MULTILINE):
        if not os.environ.get(name):
            pytest.skip(f"{name} is not set: {path.name} needs it")
    Runner(tmp_path).run(parse(text))


@pytest.mark.slow
def test_the_commands_of_the_readme(tmp_path):
    """As they stand there, but for the ports, which may be taken here."""
    text = (
        "".join(console_blocks(README))
        .replace("localhost:8500", "localhost:$PORT")
        .replace("localhost:8501", "localhost:$REST_PORT")
    )
    serve = "$ gatecast serve fashion.gcast"
    assert serve in text
    Runner(tmp_path).run(parse(text.replace(serve, f"{serve} --port $PORT --rest_api_port $REST_PORT")))


@pytest.mark.slow
def test_the_commands_of_the_workflow_guide(tmp_path, monkeypatch):
    monkeypatch.delenv("GATECAST_WORKSPACE", raising=False)
    try:
        Runner(tmp_path).run(parse("".join(console_blocks(WORKFLOW))))
    finally:
        kill_all(Store.open(tmp_path))


class TestFormat:
    def test_files_commands_and_expectations_are_told_apart(self):
        parsed = parse(
            "# note\n-- a.txt --\none\ntwo\n$ cat a.txt\none\n# note\ntwo\n2> warned\n[exit 3]\n$ true\n"
        )
        assert parsed.files == {"a.txt": "one\ntwo\n"}
        first, second = parsed.steps
        assert (first.command, first.out, first.err, first.status) == (
            "cat a.txt",
            ["one", "two"],
            ["warned"],
            3,
        )
        assert (second.command, second.out, second.status) == ("true", [], 0)

    @pytest.mark.parametrize(
        ("expected", "text", "same"),
        [
            (["a", "b"], "a\nb\n", True),
            (["a"], "a\nb\n", False),
            (["a…c"], "abc\n", True),
            (["a…c"], "ab\nc\n", False),
            (["a … c"], "a c\n", True),
            (["a", "…", "d"], "a\nb\nc\nd\n", True),
            (["a", "…", "d"], "a\nd\n", True),
            (["…"], "", True),
            ([], "a\n", False),
            (["a   b", ""], "\n  a b\n", True),
            (["(.*)"], "x\n", False),
        ],
    )
    def test_wildcards(self, expected, text, same):
        assert matches(expected, text) is same

    @pytest.mark.parametrize(
        "text", ["$ echo x\n", "$ false\n", "$ true\n[exit 1]\n", "$ echo y >&2\n2> x\n"]
    )
    def test_what_is_not_as_told_fails(self, text, tmp_path):
        with pytest.raises(pytest.fail.Exception):
            Runner(tmp_path).run(parse(text))
