import numpy as np
import pytest

from gatecast.devices import Device, LoadedProgram, device_names, open_device
from gatecast.devices.reference import ReferenceDevice
from gatecast.errors import DeviceError, ProgramError, RequestError
from gatecast.isa import (
    Instruction,
    Port,
    Program,
    View,
    architecture,
    assemble,
    pack_inputs,
    panel_bytes,
    unpack_outputs,
)
from gatecast.numerics import FORMATS, Window, convolve, decode, decode_blocks, encode, pack

SOFTWARE = architecture("software")
FORMAT = FORMATS["bfp8"]


class Layer:
    """A convolution with random weights, and what the arithmetic says that it computes."""

    def __init__(self, size, blocks, kernel, seed=0, **window):
        rng = np.random.default_rng(seed)
        self.size, (self.stored, self.out_blocks), self.kernel = size, blocks, kernel
        self.stride, self.dilation, self.pad, self.group = (
            window.get(name, default)
            for name, default in (("stride", 1), ("dilation", 1), ("pad", 0), ("group", 0))
        )
        self.in_blocks = self.stored // (self.out_blocks // self.group) if self.group else self.stored
        self.out = (size + 2 * self.pad - self.dilation * (kernel - 1) - 1) // self.stride + 1
        self.x = rng.normal(size=(size, size, 32 * self.stored)).astype(np.float32)
        shape = (self.out_blocks, kernel * kernel * self.in_blocks, 32, 32)
        self.panels = encode(rng.normal(size=shape).astype(np.float32), FORMAT)

    def expected(self):
        """Sums ``[out, out, channels]`` by `numerics.convolve`."""
        x = decode(*encode(self.x, FORMAT), FORMAT).reshape(self.size, self.size, -1, 32)
        mantissas, exponents = (part.squeeze(-2 if part.ndim == 5 else -1) for part in self.panels)
        weights = decode_blocks(mantissas, exponents, FORMAT)
        k = self.kernel
        weights = weights.reshape(self.out_blocks, k, k, self.in_blocks, 32, 32).transpose(0, 4, 1, 2, 3, 5)
        weights = weights.reshape(-1, k, k, self.in_blocks, 32)
        firsts = range(0, self.stored, self.in_blocks) if self.group else (0,)
        window = Window((self.stride,) * 2, (self.pad,) * 4, (self.dilation,) * 2)
        return convolve(x, weights, window, tuple(firsts))

    def packed(self, order):
        """Section of panels in this order of (output block, step)."""
        mantissas, exponents = self.panels
        parts = []
        for block, step in order:
            parts += [pack(mantissas[block, step, :, 0], FORMAT).tobytes(), exponents[block, step].tobytes()]
        return b"".join(parts)

    def whole(self):
        """Fields of the whole layer as one `convolve`."""
        view = View(0, "bfp8", self.size * self.stored, self.stored)
        out = View(0, "float32", self.out * self.out_blocks, self.out_blocks)
        return {
            **view.fields("in"),
            "in_rows": self.size,
            "in_columns": self.size,
            "in_y": -self.pad,
            "in_x": -self.pad,
            "kernel_rows": self.kernel,
            "kernel_columns": self.kernel,
            "stride_y": self.stride,
            "stride_x": self.stride,
            "dilation_y": self.dilation,
            "dilation_x": self.dilation,
            "in_blocks": self.in_blocks,
            "group_blocks": self.group,
            "weight_format": "bfp8",
            **out.fields("out"),
            "out_rows": self.out,
            "out_columns": self.out,
            "out_blocks": self.out_blocks,
        }

    def run(self, device, tiles, order):
        """Outputs of a Program that makes the layer by these `convolve` instructions, one after another."""
        source = Port.packed("x", self.x.shape, "bfp8")
        result = Port.packed("y", (self.out, self.out, 32 * self.out_blocks), "float32")
        load = Instruction(
            "load", section=2, **_place(source), **_tile(source, "out", View(0, "bfp8", *_steps(source)))
        )
        store = Instruction(
            "store",
            section=3,
            wait="matrix",
            **_place(result),
            **_tile(result, "in", View(0, "float32", *_steps(result))),
        )
        count = len(order)
        weights = Instruction("weights", format="bfp8", count=count, signal="matrix")
        text = [load.replace(signal="matrix"), weights]
        for number, tile in enumerate(tiles):
            waits = ("load", "weights") if number == 0 else ("matrix",)
            signal = ("store",) if number == len(tiles) - 1 else ()
            text.append(Instruction("convolve", **tile, wait=waits, signal=signal))
        text += [store, Instruction("end")]
        program = Program(SOFTWARE, text, self.packed(order), 0, (source,), (result,))
        loaded = device.load(program)
        return unpack_outputs(program, loaded.run(pack_inputs(program, {"x": self.x})))["y"]

    def order(self):
        """Panels as the whole layer takes them."""
        steps = self.kernel**2 * self.in_blocks
        return [(block, step) for block in range(self.out_blocks) for step in range(steps)]


def _steps(port):
    return port.columns * port.blocks, port.blocks


def _place(port):
    names = ("offset", "row_pitch", "exponents", "exponent_pitch", "pixel_pitch")
    return {name: getattr(port, name) for name in names}


def _tile(port, name, view):
    extent = {f"{name}_rows": port.rows, f"{name}_columns": port.columns, f"{name}_blocks": port.blocks}
    return {**view.fields(name), **extent}


LAYERS = [
    Layer(6, (2, 2), 3, pad=1),
    Layer(7, (1, 2), 3, stride=2, pad=1),
    Layer(9, (1, 1), 3, dilation=2, pad=2),
    Layer(5, (4, 4), 3, pad=1, group=2),
    Layer(5, (2, 2), 3, pad=1, group=1),
    Layer(4, (3, 2), 1),
]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_whole_layer_is_one_instruction(layer, device):
    assert (layer.run(device, [layer.whole()], layer.order()) == layer.expected()).all()


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("layer", LAYERS)
def test_row_tiles_with_halo_keep_the_bits(layer, rows, device):
    tiles, whole, span = [], layer.whole(), layer.dilation * (layer.kernel - 1)
    for row in range(0, layer.out, rows):
        count, top = min(rows, layer.out - row), row * layer.stride - layer.pad
        low, high = max(0, top), min(layer.size, top + (count - 1) * layer.stride + span + 1)
        tile = {
            "in_address": low * whole["in_row"],
            "in_rows": high - low,
            "in_y": top - low,
            "out_rows": count,
        }
        tiles.append({**whole, **tile, "out_address": row * whole["out_row"]})
    assert (layer.run(device, tiles, layer.order()) == layer.expected()).all()


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if not layer.group])
def test_channel_tiles_keep_the_bits(layer, device):
    steps, whole = layer.kernel**2 * layer.in_blocks, layer.whole()
    tiles = [
        {**whole, "weights": block * steps, "out_blocks": 1, "out_address": block}
        for block in range(layer.out_blocks)
    ]
    assert (layer.run(device, tiles, layer.order()) == layer.expected()).all()


@pytest.mark.parametrize("layer", LAYERS)
def test_sums_in_parts_keep_the_bits(layer, device):
    """One part for each kernel row; each part's panels are packed as a tile of its own."""
    whole, row = layer.whole(), layer.kernel * layer.in_blocks
    order, tiles = [], []
    for ky in range(layer.kernel):
        part = {"kernel_rows": 1, "in_y": ky * layer.dilation - layer.pad, "weights": len(order)}
        part |= {"resume": int(ky > 0), "suspend": int(ky < layer.kernel - 1)}
        order += [(b, ky * row + i) for b in range(layer.out_blocks) for i in range(row)]
        partials = layer.out**2 * layer.out_blocks if layer.kernel > 1 else 0
        out = {} if ky == layer.kernel - 1 else View(0, "none", 0, 0).fields("out")
        tiles.append({**whole, **part, **out, "partials": partials})
    assert (layer.run(device, tiles, order) == layer.expected()).all()


def test_sums_of_blocks_in_parts_keep_the_bits(device):
    layer = Layer(4, (3, 2), 1)
    order = [(block, step) for step in range(3) for block in range(2)]
    tiles = []
    for step in range(3):
        out = {} if step == 2 else View(0, "none", 0, 0).fields("out")
        part = {"in_address": step, "in_blocks": 1, "weights": 2 * step, "partials": 32}
        tiles.append({**layer.whole(), **part, **out, "resume": int(step > 0), "suspend": int(step < 2)})
    assert (layer.run(device, tiles, order) == layer.expected()).all()


def test_schedule_fields_cannot_change_a_result(device):
    layer = LAYERS[0]
    changed = layer.run(device, [{**layer.whole(), "interleave": 7}], layer.order())
    assert (changed == layer.run(device, [layer.whole()], layer.order())).all()


@pytest.mark.parametrize("name", ["float32", *FORMATS])
def test_load_and_store_keep_the_bits(name, device):
    """A middle part of a map goes through the workspace and comes back."""
    source, result = Port.packed("x", (4, 6, 96), name), Port.packed("y", (2, 3, 64), name)
    element = result.map.element_bytes
    part = {"row_pitch": source.row_pitch, "exponent_pitch": source.exponent_pitch, "pixel_pitch": 3}
    part |= {"offset": source.row_pitch + (2 * 3 + 1) * element, "exponents": 0}
    if name != "float32":
        part["exponents"] = source.exponents + source.exponent_pitch + 2 * 3 + 1
    chip = View(5, name, 7, 2)
    tile = _tile(result, "out", chip)
    inward = _tile(result, "in", chip)
    text = (
        Instruction("load", section=2, **part, **tile, signal="store"),
        Instruction("store", section=1, **_place(result), **inward, wait="load", signal="load"),
        Instruction("load", section=1, **_place(result), **tile, wait=("load", "store"), signal="store"),
        Instruction("store", section=3, **_place(result), **inward, wait="load"),
        Instruction("end"),
    )
    program = Program(SOFTWARE, text, b"", result.end, (source,), (result,))
    x = np.random.default_rng(0).normal(size=source.shape).astype(np.float32)
    loaded = device.load(program)
    found = unpack_outputs(program, loaded.run(pack_inputs(program, {"x": x})))["y"]
    expected = x if name == "float32" else decode(*encode(x, FORMATS[name]), FORMATS[name])
    assert (found == expected[1:3, 2:5, 32:]).all()


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_unpacked_and_wrap(name):
    rng, fmt = np.random.default_rng(1), FORMATS[name]
    mantissas, exponents = encode(rng.normal(size=(5, 32, 32)).astype(np.float32), fmt)
    section = b"".join(
        pack(m, fmt).tobytes() + e.tobytes() for m, e in zip(mantissas[:, :, 0], exponents, strict=True)
    )
    assert len(section) == 5 * panel_bytes(Instruction("weights", format=name, count=1).format)
    text = assemble(f"weights format={name} address=22 count=5\nend")
    loaded = ReferenceDevice().load(Program(architecture("tiny"), text, section))
    loaded.run(b"")
    order = [22, 23, 0, 1, 2]
    assert (loaded._memory.panels[order] == mantissas[:, :, 0]).all()
    assert (loaded._memory.panel_exponents[order] == exponents[:, :, 0]).all()


def test_a_prologue_runs_once_and_stays(device):
    values = np.arange(64, dtype="<f4")
    store = Instruction(
        "store",
        section=3,
        row_pitch=128,
        pixel_pitch=1,
        **View(1, "float32", 0, 1).fields("in"),
        in_rows=1,
        in_columns=1,
        in_blocks=1,
    )
    text = (*assemble("constants count=2\nend"), store, Instruction("end"))
    port = Port.packed("y", (1, 1, 32), "float32")
    loaded = device.load(Program(SOFTWARE, text, values.tobytes(), outputs=(port,), prologue=2))
    for _ in range(2):
        assert loaded.run(b"") == values[32:].tobytes()


def test_runs_do_not_see_each_other(device):
    layer = LAYERS[0]
    first = layer.run(device, [layer.whole()], layer.order())
    assert (layer.run(device, [layer.whole()], layer.order()) == first).all()


def test_devices_are_opened_by_name():
    device = open_device("reference")
    assert device.name == "reference" and "reference" in device_names()
    with pytest.raises(DeviceError, match=r"^Device must be one of .*reference.*, not 'gpu'$"):
        open_device("gpu")


def test_loading_verifies(device):
    with pytest.raises(ProgramError, match="^Instruction end must close each part"):
        device.load(Program(SOFTWARE, assemble("sync")))


def test_wrong_inputs_and_closed_programs_are_refused(device: Device):
    loaded: LoadedProgram = device.load(Program(SOFTWARE, assemble("end")))
    assert loaded.run(b"") == b""
    with pytest.raises(RequestError, match=r"^Section inputs must have 0 bytes, not 3$"):
        loaded.run(b"abc")
    loaded.close()
    loaded.close()
    with pytest.raises(DeviceError, match=r"^Program must be loaded to run, not closed$"):
        loaded.run(b"")
