"""Device `rtl`: Programs on the NPU's Verilog, simulated cycle by cycle.

Results come from simulated external memory alone, counts from the NPU's registers and trace ports alone.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from gatecast.errors import DeviceError, RequestError
from gatecast.isa import INSTRUCTION_BYTES as STEP
from gatecast.isa import Architecture, Instruction, Program, encode_text, verify

from .build import Simulators, Writer, cache_folder, require_tools
from .diagnosis import refusal, standstill
from .placement import Placement, place
from .registers import Registers
from .report import run_report
from .simulator import PATIENCE, MemoryTiming, Outcome, Retired, Simulator, memory_timing

Progress = Callable[[Program, int], None]

START, RESET = 1, 2
_CHUNK = 20_000  # cycles between two calls of `progress`
_JUNK = 0xA5  # what workspace holds at first: nothing may depend on it


class RtlDevice:
    """The NPU in Verilator; see `gatecast.devices.Device`.

    Parameters
    ----------
    trace : Path, optional
        Waveform (FST) to write; a second Program of the same device writes beside it, with its number.
    progress : function of Program and cycles, optional
        Called now and then during a run with the simulated cycles so far.
    timing : MemoryTiming, optional
        Of external memory; without it, that of the Architecture.
    verilog : function of Architecture to text, optional
        Writes the NPU; without it, `gatecast.rtl.write_verilog`, whose text is kept in the cache.
    """

    name = "rtl"

    def __init__(
        self,
        *,
        trace: Path | None = None,
        progress: Progress | None = None,
        timing: MemoryTiming | None = None,
        verilog: Writer | None = None,
    ) -> None:
        self._trace = trace
        self._progress = progress
        self._timing = timing
        self._verilog = verilog
        self._loaded = 0

    def load(self, program: Program) -> "RtlProgram":
        """Verify a Program, build the simulator of its Architecture if need be, and run the prologue.

        Raises
        ------
        ProgramError
            The Program breaks a rule of the instruction set.
        DeviceError
            A tool is missing, there is no NPU of this Architecture, or the prologue failed.
        """
        verify(program)
        require_tools()
        sizes, simulators = program.architecture, Simulators(cache_folder())
        text = self._verilog(sizes) if self._verilog else simulators.verilog(sizes, _write_verilog)
        library = simulators.library(sizes.name, text, trace=self._trace is not None)
        layout = place(program)
        simulator = Simulator(library, layout.size, layout.writable, self._timing or memory_timing(sizes))
        if self._trace is not None:
            simulator.trace(self._numbered(self._trace))
        self._loaded += 1
        try:
            return RtlProgram(program, layout, simulator, self._progress)
        except BaseException:
            simulator.close()
            raise

    def _numbered(self, path: Path) -> Path:
        return path.with_stem(f"{path.stem}.{self._loaded + 1}") if self._loaded else path


class RtlProgram:
    """A Program in the memory of a simulated NPU; see `gatecast.devices.LoadedProgram`."""

    def __init__(
        self, program: Program, layout: Placement, simulator: Simulator, progress: Progress | None = None
    ) -> None:
        self._program = program
        self._layout = layout
        self._simulator: Simulator | None = simulator
        self._progress = progress
        self._report: Mapping[str, Any] = {}
        self._retired: tuple[Retired, ...] = ()
        self._prepare(simulator)

    @property
    def report(self) -> Mapping[str, Any]:
        """Counters of the last run, as `run_report` describes them; empty before the first."""
        return self._report

    @property
    def retired(self) -> tuple[Retired, ...]:
        """Instructions of the body in the order in which they ended in the last run."""
        return self._retired

    def run(self, inputs: bytes | memoryview) -> bytes:
        """Compute one image: section `inputs` to section `outputs`."""
        if self._simulator is None:
            raise DeviceError("Program must be loaded to run, not closed", hint="Load it again.")
        program, simulator, layout = self._program, self._simulator, self._layout
        if len(inputs) != program.inputs_bytes:
            raise RequestError(f"Section inputs must have {program.inputs_bytes} bytes, not {len(inputs)}")
        memory = simulator.memory
        memory[layout.inputs : layout.inputs + len(inputs)] = np.frombuffer(inputs, np.uint8)
        outputs = memory[layout.outputs : layout.outputs + program.outputs_bytes]
        outputs[...] = 0
        self._execute(simulator, layout.text + STEP * program.prologue, program.body)
        self._retired = simulator.retired()
        self._report = run_report(Registers(simulator), program, self._retired)
        return outputs.tobytes()

    def close(self) -> None:
        """End the simulation."""
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None

    def _prepare(self, simulator: Simulator) -> None:
        """Fill memory, set the bases of the sections, run the prologue."""
        program, layout, memory = self._program, self._layout, simulator.memory
        memory[layout.workspace : layout.workspace + program.workspace_bytes] = _JUNK
        for start, content in ((layout.text, encode_text(program.text)), (layout.weights, program.weights)):
            data = np.frombuffer(content, np.uint8)
            memory[start : start + data.size] = data
        registers = Registers(simulator)
        _check_build(registers, program.architecture)
        for name in ("weights", "workspace", "inputs", "outputs"):
            registers.write(name, getattr(layout, name))
        if program.prologue:
            self._execute(simulator, layout.text, program.text[: program.prologue])

    def _execute(self, simulator: Simulator, start: int, text: Sequence[Instruction]) -> None:
        """Run a text to its `end`."""
        registers, first = Registers(simulator), simulator.now
        simulator.forget()
        registers.write("text", start)
        registers.write("count", len(text))
        registers.write("control", START)
        outcome = Outcome.RUNNING
        while outcome == Outcome.RUNNING:
            outcome = simulator.run(_CHUNK, PATIENCE)
            if self._progress is not None:
                self._progress(self._program, simulator.now - first)
        if outcome != Outcome.FINISHED:
            explain = standstill if outcome == Outcome.STUCK else refusal
            error = explain(registers, self._program, text)
            registers.write("control", RESET)
            raise error


def _check_build(registers: Registers, architecture: Architecture) -> None:
    """Refuse an NPU of other sizes than the Program's."""
    found = np.array([registers.read(f"digest{number}") for number in range(4)], "<u4").tobytes()
    if found != architecture.digest:
        raise DeviceError(
            f"The NPU must be built for {architecture.name}, digest {architecture.digest.hex()}, "
            f"not for digest {found.hex()}"
        )


def _write_verilog(architecture: Architecture) -> str:
    """Verilog of the NPU; Amaranth is loaded only when it is asked for."""
    try:
        write: Writer = import_module("gatecast.rtl").write_verilog
    except ImportError as error:
        raise DeviceError(
            f"Device rtl needs Amaranth to write the NPU of {architecture.name}: {error}",
            hint="Install the extra: pip install 'gatecast[hardware]'.",
        ) from error
    return write(architecture)
