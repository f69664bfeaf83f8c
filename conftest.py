"""The run of the tests: order of the suites, and skips that fail it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parent / "tests"

SUITES = {"tiny": 0, "conformance": 2, "end_to_end": 3, "hardware": 4}
"""Order by how fast they show gross faults; the packages' own suites lie between, at 1."""

EXPECTED_SKIPS: dict[str, Callable[[], bool]] = {
    "GATECAST_TEST_DATA is not set": lambda: not os.environ.get("GATECAST_TEST_DATA"),
    "GATECAST_DOCUMENTS is not set": lambda: not os.environ.get("GATECAST_DOCUMENTS"),
    "needs the network": lambda: True,
    "needs namespaces": lambda: True,  # a container without privileges has none
    "no IPv6 loopback": lambda: True,  # containers often have none
}
"""What the reason of a skip must contain, and whether it may be now."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--forbid-skips`."""
    text = "fail the run if a test skips for a reason that conftest.py does not expect"
    parser.addoption("--forbid-skips", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Watch for skips if asked to. Tests that load ONNX Runtime themselves send nothing to its maker."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if config.getoption("--forbid-skips"):
        config.pluginmanager.register(SkipWatch(), "skip-watch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by suite; the order within one is kept."""
    items.sort(key=lambda item: SUITES.get(item.path.relative_to(TESTS).parts[0], 1))


class SkipWatch:
    """Collects skips that are not expected."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped; one that was expected to fail is none."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that was skipped whole."""
        if report.skipped:
            self._note(report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List them."""
        if self.unexpected:
            terminalreporter.section("unexpected skips", sep="=", red=True)
            for line in self.unexpected:
                terminalreporter.line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that passed otherwise."""
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(text in reason and may() for text, may in EXPECTED_SKIPS.items()):
            self.unexpected.append(f"{report.nodeid}: {reason}")
