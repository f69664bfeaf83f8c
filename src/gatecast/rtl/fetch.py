"""Instruction fetch: from external memory to the queues of the units."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..isa import INSTRUCTION_BYTES, KINDS, UNITS, Architecture, block_format
from .external import BEAT, REQUEST
from .instructions import BEAT_WORDS, BY_NAME, MAX_WORDS, as_kind, unit_beats, unit_opcodes
from .pipeline import named
from .refusal import handed_to, refusal
from .registers import Reason
from .unit_control import NUMBER_BITS

_BEATS = -(-4 * MAX_WORDS // BEAT)


class Fetch(wiring.Component):
    """Read a text, refuse what this NPU cannot run, and hand each instruction to its unit, up to `end`.

    Parameters
    ----------
    architecture : Architecture
        Formats and interleave that are allowed.

    Members
    -------
    start : In(1)
        Begin at `text` (byte address); at most `count` instructions.
    <unit> : Out(stream)
        `unit_beats` of each instruction.
    ended : Out(1)
        `end` has been read; or stopped for a reason.
    reason, number : Out
        Why it stopped (0: it did not), and the instruction that is being read.
    request, response
        A user's side of `MemoryMaster`.
    """

    def __init__(self, architecture: Architecture):
        self.architecture = architecture
        members = {
            "start": In(1),
            "text": In(32),
            "count": In(NUMBER_BITS),
            "ended": Out(1),
            "reason": Out(3),
            "number": Out(NUMBER_BITS),
            "request": Out(stream.Signature(REQUEST)),
            "response": In(stream.Signature(8 * BEAT)),
        }
        for unit in UNITS:
            members[unit] = Out(stream.Signature(32 * BEAT_WORDS))
        super().__init__(members)

    def model(self, text: bytes, count: int) -> tuple[dict[str, list[tuple[int, bytes]]], Reason, int]:
        """What a text hands to each unit (number, instruction), why it stops, and at which instruction."""
        handed: dict[str, list[tuple[int, bytes]]] = {unit: [] for unit in UNITS}
        for number in range(count):
            code = text[INSTRUCTION_BYTES * number : INSTRUCTION_BYTES * (number + 1)]
            reason = refusal(code, self.architecture)
            if reason != Reason.NONE or handed_to(code) not in UNITS:
                return handed, reason, number
            handed[handed_to(code)].append((number, code))
        return handed, Reason.NO_END, count

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        # what is looked at here stands in registers, all of it in a memory
        words = Signal(8 * BEAT * _BEATS, reset_less=True)
        m.submodules.beats = beats = memory.Memory(shape=8 * BEAT, depth=_BEATS, init=[])
        write, read = beats.write_port(), beats.read_port(domain="comb")
        address, asked, got = Signal(32), Signal(range(_BEATS + 1)), Signal(range(_BEATS + 1))
        opcode = named(m, words[:8], "opcode")
        reason = self._check(m, words, opcode)
        handing = Signal()
        taken = self._dispatch(m, words, opcode, handing, read)
        m.d.comb += [
            self.request.payload.address.eq((address + Cat(Const(0, 4), asked))[:32]),
            self.response.ready.eq(1),
            write.addr.eq(got),
            write.data.eq(self.response.payload),
            write.en.eq(self.response.valid),
        ]
        with m.If(self.response.valid):
            m.d.sync += [got.eq(got + 1), words.word_select(got, 8 * BEAT).eq(self.response.payload)]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [
                        self.ended.eq(0),
                        self.number.eq(0),
                        self.reason.eq(Reason.NONE),
                        address.eq(self.text),
                    ]
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += [asked.eq(0), got.eq(0)]
                m.next = "READ"
                with m.If(self.number == self.count):
                    m.d.sync += [self.reason.eq(Reason.NO_END), self.ended.eq(1)]
                    m.next = "IDLE"
            with m.State("READ"):
                m.d.comb += self.request.valid.eq(asked != _BEATS)
                with m.If(self.request.valid & self.request.ready):
                    m.d.sync += asked.eq(asked + 1)
                with m.If(got == _BEATS):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "HAND"
                with m.If(reason != Reason.NONE):
                    m.d.sync += [self.reason.eq(reason), self.ended.eq(1)]
                    m.next = "IDLE"
                with m.Elif(opcode == BY_NAME["end"].opcode):
                    m.d.sync += self.ended.eq(1)
                    m.next = "IDLE"
            with m.State("HAND"):
                m.d.comb += handing.eq(1)
                with m.If(taken):
                    m.d.sync += [
                        self.number.eq(self.number + 1),
                        address.eq(address + INSTRUCTION_BYTES),
                    ]
                    m.next = "NEXT"
        return m

    def _dispatch(self, m, words, opcode, handing, read):
        """Hand the instruction to its unit, beat by beat; returns a strobe of the last one."""
        sync, beat, owner = as_kind(words, "sync"), Signal(range(_BEATS)), Signal(len(UNITS))
        m.d.comb += read.addr.eq(beat)
        with m.If(~handing):
            m.d.sync += beat.eq(0)
            m.d.sync += owner.eq(
                Cat(
                    opcode.matches(*unit_opcodes(unit))
                    | ((opcode == BY_NAME["sync"].opcode) & (sync.unit == number))
                    for number, unit in enumerate(UNITS)
                )
            )
        last = Cat(owner[n] & (beat == unit_beats(unit) - 1) for n, unit in enumerate(UNITS)).any()
        last = named(m, last, "last_beat")
        ports = [getattr(self, unit) for unit in UNITS]
        for number, port in enumerate(ports):
            m.d.comb += [
                port.valid.eq(handing & owner[number]),
                port.payload.eq(
                    Cat(read.data[: 8 * BEAT - 32], Mux(last, self.number, read.data[8 * BEAT - 32 :]))
                ),
            ]
        taken = named(m, Cat(port.valid & port.ready for port in ports).any(), "beat_taken")
        with m.If(taken):
            m.d.sync += beat.eq(beat + 1)
        return named(m, taken & last, "instruction_taken")

    def _check(self, m, words, opcode):
        """Why an instruction cannot run here."""
        reason = Signal(3)
        known = [kind.opcode for kind in KINDS]
        sizes = self.architecture
        with m.Switch(opcode):
            for name, checks in _checks(words, sizes).items():
                with m.Case(BY_NAME[name].opcode):
                    for why, wrong in checks:
                        with m.If(wrong):
                            m.d.comb += reason.eq(why)
        with m.If(~opcode.matches(*known)):
            m.d.comb += reason.eq(Reason.OPCODE)
        return reason


def _bad_view(view, most, encoded=False):
    allowed = [code for code in range(2, 7) if block_format(code).bits <= most] + ([] if encoded else [1])
    return ~view.matches(*allowed)


def _checks(words, sizes):
    """For each kind, reasons and when they hold; the last one counts."""
    sync, load, store = (as_kind(words, name) for name in ("sync", "load", "store"))
    weights, convolve = as_kind(words, "weights"), as_kind(words, "convolve")
    pool, map_ = as_kind(words, "pool"), as_kind(words, "map")
    most, most_weights = sizes.max_activation_bits, sizes.max_weight_bits
    out = _bad_view(convolve.out_format, most) & ~convolve.suspend
    residual = _bad_view(convolve.residual_format, most) & (convolve.residual_format != 0)
    return {
        "sync": [(Reason.OPCODE, sync.unit >= len(UNITS))],
        "load": [(Reason.FORMAT, _bad_view(load.out_format, most))],
        "store": [(Reason.FORMAT, _bad_view(store.in_format, most))],
        "weights": [(Reason.FORMAT, _bad_view(weights.format, most_weights, encoded=True))],
        "convolve": [
            (Reason.INTERLEAVE, convolve.interleave > sizes.max_interleave),
            (Reason.SPLIT, convolve.split != 0),
            (
                Reason.FORMAT,
                _bad_view(convolve.in_format, most, encoded=True)
                | _bad_view(convolve.weight_format, most_weights, encoded=True)
                | out
                | residual,
            ),
        ],
        "pool": [
            (Reason.FORMAT, _bad_view(pool.in_format, most) | _bad_view(pool.out_format, most)),
        ],
        "map": [
            (
                Reason.FORMAT,
                _bad_view(map_.a_format, most)
                | _bad_view(map_.out_format, most)
                | ((map_.operation != 0) & _bad_view(map_.b_format, most)),
            ),
            (Reason.OPERATION, (map_.operation > 5) | (map_.activation > 5)),
        ],
    }
