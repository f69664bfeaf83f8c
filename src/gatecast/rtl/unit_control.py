"""What starts the instructions of a unit: tokens taken, run, tokens given, all counted."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import enum, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from .instructions import BEAT_WORDS, BY_NAME, as_kind, unit_beats, unit_words
from .pipeline import QUEUE
from .tokens import COUNT

NUMBER_BITS = 24


class State(enum.Enum, shape=2):
    """What a unit does."""

    IDLE = 0
    WAITING = 1
    RUNNING = 2


class UnitControl(wiring.Component):
    """Hand the instructions of one unit to its engine, one after another.

    Each has written everything before the next begins, so a `wait` on the own unit asks for nothing more.

    Parameters
    ----------
    unit : str
        Name of the unit.
    depth : int
        Beats that wait in its queue.

    Members
    -------
    i : In(stream)
        `unit_beats` of each instruction.
    wait, granted, take, signal
        The unit's lines of `Tokens`.
    free : In(1)
        The engine may begin; until then an instruction waits, but not `sync`, whatever tokens are there.
    clear : In(1)
        Set the counters to 0.
    instruction, start, done
        The engine's ports.
    state, number, busy, waiting : Out
        What the registers show: cycles running and waiting.
    retired, cycles : Out
        For one cycle: an instruction has written all, this long after its start.
    idle : Out(1)
        Nothing at work and nothing in the queue.
    """

    def __init__(self, unit: str, depth: int = QUEUE):
        self.unit, self.depth = unit, depth
        self.words, self.beats = unit_words(unit), unit_beats(unit)
        super().__init__(
            {
                "i": In(stream.Signature(32 * BEAT_WORDS)),
                "wait": Out(COUNT),
                "granted": In(1),
                "free": In(1, init=1),
                "take": Out(1),
                "signal": Out(COUNT),
                "clear": In(1),
                "instruction": Out(32 * self.words),
                "start": Out(1),
                "done": In(1),
                "state": Out(State),
                "number": Out(NUMBER_BITS),
                "busy": Out(32),
                "waiting": Out(32),
                "retired": Out(1),
                "cycles": Out(32),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFO(width=32 * BEAT_WORDS, depth=self.depth)
        taken, got = Signal(32 * BEAT_WORDS * self.beats, reset_less=True), Signal(range(self.beats))
        instruction = as_kind(self.instruction, "sync")
        is_sync = instruction.opcode == BY_NAME["sync"].opcode
        m.d.comb += [
            queue.w_data.eq(self.i.payload),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            self.idle.eq((self.state == State.IDLE) & (got == 0) & ~queue.r_rdy),
            self.instruction.eq(taken),
            self.number.eq(taken[-32:]),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += queue.r_en.eq(1)
                m.d.sync += self.cycles.eq(0)
                with m.If(queue.r_rdy):
                    m.d.sync += [taken.eq(Cat(taken, queue.r_data)[32 * BEAT_WORDS :]), got.eq(got + 1)]
                    with m.If(got == self.beats - 1):
                        m.d.sync += got.eq(0)
                        m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += [
                    self.state.eq(State.WAITING),
                    self.wait.eq(instruction.wait),
                    self.take.eq(self.granted & (self.free | is_sync)),
                ]
                with m.If(self.take):
                    m.next = "START"
            with m.State("START"):
                m.d.comb += [self.state.eq(State.RUNNING), self.start.eq(~is_sync)]
                m.next = "RUN"
            with m.State("RUN"):
                # `done` fell with the start; an instruction ends no sooner than it is seen high again
                m.d.comb += self.state.eq(State.RUNNING)
                m.d.sync += self.cycles.eq(Mux(is_sync, 0, self.cycles + 1))
                with m.If(self.done):
                    m.d.comb += [self.signal.eq(instruction.signal), self.retired.eq(1)]
                    m.next = "IDLE"
        with m.If(self.clear):
            m.d.sync += [self.busy.eq(0), self.waiting.eq(0)]
        with m.Else():
            m.d.sync += [
                self.busy.eq(self.busy + (self.state == State.RUNNING)),
                self.waiting.eq(self.waiting + (self.state == State.WAITING)),
            ]
        return m
