"""The one epilogue of the NPU: a map beside a convolution, whichever begins first, in bytes and in cycles."""

import numpy as np
import pytest

from gatecast.compiler.estimate import estimate
from gatecast.cosim import RtlDevice
from gatecast.devices import open_device
from gatecast.isa import UNITS, Port, Program, assemble, pack_inputs, verify
from gatecast.numerics import FORMATS, encode, pack

from .random_programs import TINY

pytestmark = pytest.mark.slow

ROW = "out_rows=1 out_columns=16 out_blocks=1"
TEXT = """
load      section=2 row_pitch=512 exponents=512 exponent_pitch=64 pixel_pitch=1 out=@0:16:1:bfp8 {row} \
signal(matrix,vector)
weights   format=bfp8 count=1 {weighed}
convolve  in=@0:16:1:bfp8 in_rows=1 in_columns=16 in_blocks=1 weight_format=bfp8 out=@32:16:1:bfp8 {row} \
wait(load,weights) signal(store)
map       a=@0:16:1:bfp8 out=@64:16:1:bfp8 {row} activation=5 low=0.2 high=0.5 {mapped} signal(store)
store     section=3 row_pitch=512 exponents=1024 exponent_pitch=64 pixel_pitch=1 in=@32:16:1:bfp8 \
in_rows=1 in_columns=16 in_blocks=1 wait(matrix)
store     section=3 offset=512 row_pitch=512 exponents=1088 exponent_pitch=64 pixel_pitch=1 \
in=@64:16:1:bfp8 in_rows=1 in_columns=16 in_blocks=1 wait(vector)
end
"""
ORDERS = {
    "map": {"weighed": "signal(matrix)", "mapped": "wait(load)"},
    "convolve": {"weighed": "signal(matrix,vector)", "mapped": "wait(load,weights)"},
}


@pytest.mark.parametrize("first", ORDERS)
def test_a_map_and_a_convolution_take_turns(tools, first):
    rng = np.random.default_rng(0)
    mantissas, exponents = encode(rng.normal(size=(32, 32)).astype(np.float32), FORMATS["bfp8"])
    panel = pack(mantissas[:, 0], FORMATS["bfp8"]).tobytes() + exponents.tobytes()
    program = Program(
        TINY,
        assemble(TEXT.format(row=ROW, **ORDERS[first])),
        weights=panel,
        inputs=(Port.packed("x", (1, 16, 32), "bfp8"),),
        outputs=(Port.packed("y", (2, 16, 32), "bfp8"),),
    )
    verify(program)
    inputs = pack_inputs(program, {"x": rng.normal(size=(1, 16, 32)).astype(np.float32)})
    loaded = RtlDevice().load(program)
    assert loaded.run(inputs) == open_device("reference").load(program).run(inputs)
    cycles = {UNITS[record.unit]: record.cycles for record in loaded.retired if record.number in (2, 3)}
    waited = loaded.report["units"]["vector"]["waiting"]
    loaded.close()
    spans = estimate(program).spans
    convolve, mapped = spans[2], spans[3]
    for unit, span in (("matrix", convolve), ("vector", mapped)):
        assert abs(span.cycles - cycles[unit]) <= 2, unit
    if first == "map":
        assert mapped.start < convolve.start < mapped.end < convolve.end
    else:
        assert convolve.end < mapped.start
        assert waited > cycles["matrix"]
