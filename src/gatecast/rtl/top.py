"""The whole NPU, wired together. docs/spec/npu.md describes its ports."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..isa import UNITS, Architecture
from .block_dot import BLOCK_BITS
from .bus import RegisterBus
from .epilogue import Epilogue
from .external import BEAT, REQUEST, MemoryMaster
from .fetch import Fetch
from .instructions import as_kind
from .lane import LaneDesign
from .load_unit import LoadUnit
from .matrix_unit import MatrixUnit
from .operands import VECTOR_WORDS, WORD_VALUES
from .pipeline import named
from .reader import Reader
from .registers import IDENTITY, INTERFACE, Reason
from .shared_memory import SharedMemory
from .store_unit import StoreUnit
from .tokens import Tokens
from .unit_control import NUMBER_BITS, State, UnitControl
from .vector_unit import VectorUnit
from .weights_unit import WeightsUnit

_TRACE = {"retired": 1, "number": NUMBER_BITS, "cycles": 32}
_STATE = {"state": 2, "missing": len(UNITS), "busy": 32, "waiting": 32}
_EVENTS = ("product", "read", "write", "kept", "operand")


class Core(wiring.Component):
    """Fetch, units and memories: all that `control.reset` resets.

    Members
    -------
    reset : In(1)
        Forget everything, a cycle later: each part follows a register of its own, which stands near it.
    start, clear : In(1)
        Begin with `text` and `count`; set counters to 0.
    weights, workspace, inputs, outputs : In(32)
        Addresses of the sections.
    request, response
        External memory.
    ended, reason, number : Out
        See `Fetch`; `ended` only when all units are idle and all is written.
    <unit>_... : Out
        What registers and trace show of each unit.
    product, read, write, kept, operand : Out(1)
        The lanes take a block, external memory takes a read, a write, memory on chip a write; the epilogue
        asks for an operand.
    """

    def __init__(self, architecture: Architecture, design: LaneDesign):
        self.architecture, self.design = architecture, design
        members = {
            "reset": In(1),
            "start": In(1),
            "text": In(32),
            "count": In(NUMBER_BITS),
            "weights": In(32),
            "workspace": In(32),
            "inputs": In(32),
            "outputs": In(32),
            "request": Out(stream.Signature(REQUEST)),
            "response": In(stream.Signature(8 * BEAT)),
            "ended": Out(1),
            "reason": Out(3),
            "number": Out(NUMBER_BITS),
            **{name: Out(1) for name in _EVENTS},
        }
        for unit in UNITS:
            members |= {f"{unit}_{name}": Out(width) for name, width in (_TRACE | _STATE).items()}
        super().__init__(members)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        sizes = self.architecture
        blocks = SharedMemory(
            BLOCK_BITS,
            sizes.activation_blocks,
            ("epilogue", "store", "steps"),
            ("epilogue", "load"),  # the epilogue's writes cannot wait
        )
        words = SharedMemory(
            32 * WORD_VALUES,
            sizes.vectors * VECTOR_WORDS,
            ("epilogue", "store", "partials"),
            ("epilogue", "reader"),
        )
        for name, part in (("blocks", blocks), ("words", words)):
            self._add(m, name, part)
        place = (blocks.address_bits, words.address_bits)
        matrix = MatrixUnit(sizes, *place, self.design)
        written = matrix.array.written.shape()
        units = {
            "load": LoadUnit(*place),
            "weights": WeightsUnit(written, sizes.lanes, sizes.weight_panels, place[1]),
            "matrix": matrix,
            "vector": VectorUnit(*place),
            "store": StoreUnit(*place, sizes.max_activation_bits),
        }
        for name, unit in units.items():
            self._add(m, name, unit)
        epilogue = self._add(m, "epilogue", Epilogue(sizes.epilogue_values, *place))
        connect(m, matrix.epilogue, epilogue.matrix)
        connect(m, matrix.sums, epilogue.sums)
        connect(m, units["vector"].epilogue, epilogue.vector)
        _connect_memories(m, units, epilogue, blocks, words)
        m.d.comb += matrix.written.eq(units["weights"].written)
        master, fetch = self._memory(m, units)
        controls = self._control(m, units, fetch)
        self._share_epilogue(m, epilogue, *(controls[UNITS.index(name)] for name in ("matrix", "vector")))
        self._sections(m, units)
        idle = Cat(control.idle for control in controls).all()
        m.d.comb += [
            self.ended.eq(fetch.ended & (idle | (fetch.reason != Reason.NONE)) & ~master.request.valid),
            self.reason.eq(fetch.reason),
            self.number.eq(fetch.number),
            self.product.eq(matrix.product),
            self.kept.eq(blocks.written | words.written),
            self.read.eq(self.request.valid & self.request.ready & ~self.request.payload.write),
            self.write.eq(self.request.valid & self.request.ready & self.request.payload.write),
            self.operand.eq(blocks.read_epilogue.valid | words.read_epilogue.valid),
        ]
        return m

    def _add(self, m, name, part):
        """Make a part a submodule, with its reset."""
        reset = Signal(name=f"{name}_reset", attrs={"keep": 1})
        m.d.sync += reset.eq(self.reset)
        m.submodules[name] = ResetInserter(reset)(part)
        return part

    def _memory(self, m, units):
        sizes = self.architecture
        users = {name: units[name].tag.size for name in ("load", "weights")}
        reader = Reader(users, max(sizes.max_activation_bits, sizes.max_weight_bits))
        master = MemoryMaster(("fetch", "store", "reader"), writers=("store",))
        fetch = Fetch(sizes)
        for name, part in (("master", master), ("fetch", fetch), ("reader", reader)):
            self._add(m, name, part)
        for name, user in (("fetch", fetch), ("reader", reader), ("store", units["store"])):
            connect(m, user.request, getattr(master, f"{name}_request"))
        for name, user in (("fetch", fetch), ("reader", reader)):
            connect(m, user.response, getattr(master, f"{name}_response"))
        m.d.comb += master.store_response.ready.eq(1)
        for name in ("load", "weights"):
            connect(m, units[name].ask, getattr(reader, f"{name}_ask"))
            connect(m, getattr(reader, f"{name}_found"), units[name].found)
        connect(m, master.request, flipped(self.request))
        connect(m, master.response, flipped(self.response))
        m.d.comb += [
            fetch.start.eq(self.start),
            fetch.text.eq(self.text),
            fetch.count.eq(self.count),
        ]
        return master, fetch

    def _sections(self, m, units):
        sections = Array([self.weights, self.workspace, self.inputs, self.outputs])
        for name in ("load", "weights", "store"):
            unit = units[name]
            section = as_kind(unit.instruction, name).section  # `constants` has it where `weights` has it
            m.d.sync += unit.section.eq(sections[section[:2]])

    def _control(self, m, units, fetch):
        tokens = self._add(m, "tokens", Tokens())
        controls = []
        for number, (name, unit) in enumerate(units.items()):
            control = self._add(m, f"{name}_control", UnitControl(name))
            connect(m, getattr(fetch, name), control.i)
            m.d.comb += [
                tokens.wait[number].eq(control.wait),
                tokens.take[number].eq(control.take),
                tokens.signal[number].eq(control.signal),
                control.granted.eq(tokens.granted[number]),
                control.clear.eq(self.start),
                unit.instruction.eq(control.instruction),
                unit.start.eq(control.start),
                control.done.eq(unit.done),
                getattr(self, f"{name}_missing").eq(tokens.missing[number]),
            ]
            for shown in ("retired", "number", "cycles", "state", "busy", "waiting"):
                m.d.comb += getattr(self, f"{name}_{shown}").eq(getattr(control, shown))
            controls.append(control)
        return controls

    def _share_epilogue(self, m, epilogue, matrix, vector):
        """A pool or map begins while no convolution is at work, which goes before it.

        A convolution begins beside one: its sums wait.
        """
        m.d.comb += [
            vector.free.eq(~matrix.take & (matrix.state != State.RUNNING)),
            epilogue.vector_runs.eq(vector.state == State.RUNNING),
        ]


def _connect_memories(m, units, epilogue, blocks, words):
    matrix, load, store = (units[name] for name in ("matrix", "load", "store"))
    for user, port in (
        (epilogue.read_blocks, blocks.read_epilogue),
        (store.read_blocks, blocks.read_store),
        (matrix.read_steps, blocks.read_steps),
        (load.write_blocks, blocks.write_load),
        (epilogue.write_blocks, blocks.write_epilogue),
        (epilogue.read_words, words.read_epilogue),
        (store.read_words, words.read_store),
        (matrix.read_partials, words.read_partials),
        (epilogue.write_words, words.write_epilogue),
    ):
        connect(m, user, port)
    # the reader finds what is for one of them at a time
    constants, port = units["weights"].write_words, words.write_reader
    m.d.comb += [
        port.valid.eq(load.write_words.valid | constants.valid),
        port.address.eq(Mux(constants.valid, constants.address, load.write_words.address)),
        port.data.eq(constants.data),
        load.write_words.ready.eq(port.ready),
        constants.ready.eq(port.ready),
    ]


class Npu(wiring.Component):
    """Registers around a `Core`; the ports are those of docs/spec/npu.md.

    Parameters
    ----------
    architecture : Architecture
        Sizes, within those of `check_limits`.
    design : LaneDesign
        How a lane is made.
    """

    def __init__(self, architecture: Architecture, design: LaneDesign):
        self.architecture = architecture
        self.core = Core(architecture, design)
        members = {
            "bus_cyc": In(1),
            "bus_stb": In(1),
            "bus_we": In(1),
            "bus_adr": In(8),
            "bus_dat_w": In(32),
            "bus_dat_r": Out(32),
            "bus_ack": Out(1),
            "memory_valid": Out(1),
            "memory_ready": In(1),
            "memory_write": Out(1),
            "memory_address": Out(32),
            "memory_data": Out(8 * BEAT),
            "memory_mask": Out(BEAT),
            "response_valid": In(1),
            "response_ready": Out(1),
            "response_data": In(8 * BEAT),
            "progress": Out(1),
            "done": Out(1),
        }
        for unit in UNITS:
            members |= {f"trace_{unit}_{name}": Out(width) for name, width in _TRACE.items()}
        super().__init__(members)

    def elaborate(self, platform):
        """Make the circuit."""
        m = Module()
        m.submodules.bus = bus = RegisterBus()
        reset = Signal()
        m.submodules.core = self.core
        core, request = self.core, self.core.request
        for name in ("cyc", "stb", "we", "adr", "dat_w"):
            m.d.comb += getattr(bus, name).eq(getattr(self, f"bus_{name}"))
        m.d.comb += [
            self.bus_dat_r.eq(bus.dat_r),
            self.bus_ack.eq(bus.ack),
            self.memory_valid.eq(request.valid),
            request.ready.eq(self.memory_ready),
            self.memory_write.eq(request.payload.write),
            self.memory_address.eq(request.payload.address),
            self.memory_data.eq(request.payload.data),
            self.memory_mask.eq(Mux(request.payload.write, request.payload.mask, 0)),
            core.response.valid.eq(self.response_valid),
            self.response_ready.eq(core.response.ready),
            core.response.payload.eq(self.response_data),
            core.text.eq(bus.w_text),
            core.count.eq(bus.w_count),
        ]
        for name in ("weights", "workspace", "inputs", "outputs"):
            m.d.comb += getattr(core, name).eq(getattr(bus, f"w_{name}"))
        for unit in UNITS:
            for name in _TRACE:
                m.d.comb += getattr(self, f"trace_{unit}_{name}").eq(getattr(core, f"{unit}_{name}"))
        self._status(m, bus, core, reset)
        return m

    def _status(self, m, bus, core, reset):
        busy, error, cycles = Signal(), Signal(), Signal(64)
        retired = Cat(getattr(core, f"{unit}_retired") for unit in UNITS)
        m.d.comb += [
            reset.eq(bus.w_control[1]),
            core.reset.eq(reset),
            core.start.eq(bus.w_control[0] & ~busy),
            self.progress.eq(Cat(*(getattr(core, name) for name in _EVENTS), retired).any()),
        ]
        starting = Signal()  # `ended` falls a cycle after the start
        m.d.sync += starting.eq(core.start)
        with m.If(core.start):
            m.d.sync += [busy.eq(1), self.done.eq(0), error.eq(0), cycles.eq(0)]
        with m.Elif(busy):
            m.d.sync += cycles.eq(cycles + 1)
            with m.If(core.ended & ~starting):
                m.d.sync += [busy.eq(0), error.eq(core.reason != Reason.NONE)]
                m.d.sync += self.done.eq(core.reason == Reason.NONE)
        with m.If(reset):
            m.d.sync += [busy.eq(0), self.done.eq(0), error.eq(0)]
        counts = {"instructions": retired, "products": core.product, "reads": core.read, "writes": core.write}
        for name, event in counts.items():
            counter = Signal(32, name=name)
            more = named(m, sum(event[i] for i in range(len(event))), f"more_{name}")
            m.d.sync += counter.eq(Mux(core.start, 0, counter + more))
            m.d.comb += getattr(bus, f"r_{name}").eq(counter)
        digest = int.from_bytes(self.architecture.digest, "little")
        m.d.comb += [
            bus.r_identity.eq(IDENTITY),
            bus.r_interface.eq(INTERFACE),
            *(getattr(bus, f"r_digest{n}").eq(digest >> 32 * n & 0xFFFFFFFF) for n in range(4)),
            bus.r_status.eq(Cat(busy, self.done, error)),
            bus.r_error.eq(core.reason),
            bus.r_error_number.eq(core.number),
            bus.r_cycles.eq(cycles[:32]),
            bus.r_cycles_high.eq(cycles[32:]),
        ]
        for unit in UNITS:
            shown = {name: getattr(core, f"{unit}_{name}") for name in ("number", "busy", "waiting")}
            for name, value in shown.items():
                m.d.comb += getattr(bus, f"r_{unit}_{name}").eq(value)
            state, missing = getattr(core, f"{unit}_state"), getattr(core, f"{unit}_missing")
            m.d.comb += getattr(bus, f"r_{unit}_state").eq(Cat(state, Const(0, 6), missing))
