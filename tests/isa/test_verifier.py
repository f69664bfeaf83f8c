import itertools
import time

import numpy as np
import pytest

from gatecast.errors import ProgramError
from gatecast.isa import UNITS, Instruction, Port, architecture, assemble, units, verify

LOAD, BIAS, WEIGHTS, STEM, STEM_2, POOL, POOL_2, WEIGHTS_2, LOGITS, STORE, END = range(11)


def message(program):
    with pytest.raises(ProgramError) as caught:
        verify(program)
    return str(caught.value)


@pytest.fixture
def edited(example):
    """Make the example with fields of some instructions changed, and parts of the Program."""

    def make(changes=None, **parts):
        text = list(example().text)
        for number, fields in (changes or {}).items():
            text[number] = text[number].replace(**fields)
        return example(text=text, **parts)

    return make


@pytest.fixture
def written(example):
    """Make a Program of assembly lines, with a section of ones as weights and small ports."""

    def make(*lines, **parts):
        vectors = np.ones((64, 32), "<f4").tobytes()
        ports = {"inputs": (Port.packed("x", (4, 4, 32), "bfp8"),), "outputs": (), "layers": ("layer",)}
        return example(text=assemble("\n".join((*lines, "end"))), **{"weights": vectors, **ports, **parts})

    return make


FETCH = (
    "load section=2 row_pitch=128 exponents=512 exponent_pitch=64 pixel_pitch=1"
    " out=@0:4:1:bfp8 out_rows=4 out_columns=4 out_blocks=1"
)
"""Loads the 4x4x1 input of `written` to activation memory 0 to 15."""

TILE = "out_rows=4 out_columns=4 out_blocks=1"


def test_the_example_of_the_page_is_valid(example):
    verify(example())


def test_each_wait_of_the_example_is_needed_for_its_order(example):
    """A wait and the signal that it takes are left out together, so that only the order is missing."""
    text, found = example().text, 0
    for number, unit in itertools.product(range(len(text)), range(len(UNITS))):
        if not text[number].wait >> unit & 1:
            continue
        waiter = UNITS.index({3: "matrix", 5: "vector", 6: "vector", 8: "matrix", 9: "store"}[number])
        kind = UNITS[unit]
        earlier = [n for n in range(number) if text[n].signal >> waiter & 1 and _unit(text[n]) == kind]
        position = sum(text[n].wait >> unit & 1 for n in range(number) if _unit(text[n]) == UNITS[waiter])
        changed = list(text)
        changed[number] = text[number].replace(wait=text[number].wait & ~(1 << unit))
        signaller = earlier[position]
        changed[signaller] = text[signaller].replace(signal=text[signaller].signal & ~(1 << waiter))
        assert "must be ordered after instruction" in message(example(text=changed))
        found += 1
    assert found == 7


def _unit(instruction):
    return {"convolve": "matrix", "pool": "vector", "constants": "weights"}.get(
        instruction.name, instruction.name
    )


def test_errors_name_instruction_layer_and_field(edited):
    assert message(edited({POOL: {"in_address": 320}})) == (
        "Instruction 5 (pool, pool): in must be ordered after instruction 4 (convolve), which writes "
        "block 320 of activation memory: no wait on matrix does it"
    )


@pytest.mark.parametrize(
    ("number", "changes", "expected"),
    [
        (LOAD, {"section": 3}, "section must be weights, workspace or inputs, not outputs"),
        (STORE, {"section": 2}, "section must be workspace or outputs, not inputs"),
        (WEIGHTS, {"section": 1}, "section must be weights, not workspace"),
        (BIAS, {"section": 2}, "section must be weights, not inputs"),
        (BIAS, {"offset": 14800}, "offset must be a multiple of 32, not 14800"),
        (LOAD, {"offset": 2}, "offset must be a multiple of 4, not 2"),
        (STORE, {"row_pitch": 129}, "row_pitch must be a multiple of 4, not 129"),
        (
            LOAD,
            {"out_format": 0, "out_row": 0, "out_pixel": 0},
            "out_format must be float32 or a block format",
        ),
        (STORE, {"exponents": 64}, "exponents must be 0 here: it would have no effect"),
        (STEM, {"in_format": "float32"}, "in_format must be a block format, not float32"),
        (STEM, {"suspend": 1}, "out_format must be 0 here: it would have no effect"),
        (STEM, {"partials": 3}, "partials must be 0 here: it would have no effect"),
        (LOGITS, {"bias": 1}, "bias must be 0 here: it would have no effect"),
        (LOGITS, {"shift": 1}, "shift must be 0 here: it would have no effect"),
        (STEM, {"low": 1.0}, "low must be 0 here: it would have no effect"),
        (STEM, {"activation": 2, "low": 2.0, "high": 1.0}, "low must not be above high, 1.0, not 2.0"),
        (STEM, {"activation": 2, "high": 1e30}, "high must be 0, 2**-80 to 2**64 in magnitude, or ±2**127"),
        (STEM, {"split": 3}, "split must make at most 4 groups, not 8"),
        (STEM, {"interleave": 33}, "interleave must be at most 32, not 33"),
        (STEM, {"in_blocks": 2400}, "in_blocks must make sums of at most 16384 blocks, not 16800"),
        (POOL, {"operation": 1}, "factor must lie in 2**-16..2**8, not 0.0"),
        (POOL, {"factor": 0.5}, "factor must be 0 here: it would have no effect"),
        (POOL, {"in_y": -2}, "in_y must put a tap of each window inside the map; output row 0 has none"),
        (POOL, {"in_x": 8}, "in_x must put a tap of each window inside the map; output column 0 has none"),
        (END, {"wait": units("load")}, "wait must be 0 here: it would have no effect"),
        (POOL, {"out_address": 1 << 20}, "out must stay within the 63488 blocks of activation memory, not"),
        (
            LOGITS,
            {"out_address": 1024},
            "out must stay within the 1024 vectors of vector memory, not reach 1024",
        ),
        (WEIGHTS, {"count": 99}, "offset must stay within the 48832 bytes of section weights, not reach"),
        (WEIGHTS, {"address": 3456}, "address must be one of the 3456 panels of weight memory, not 3456"),
        (STEM, {"in_blocks": 255}, "weights must begin a range of at most 3456 panels, not 3570"),
        (BIAS, {"offset": 48800}, "offset must stay within the 48832 bytes of section weights, not reach"),
        (WEIGHTS, {"count": 3457}, "address must begin a range of at most 3456 panels, not 3457"),
        (
            LOAD,
            {"offset": 64},
            "offset must be a block of a port; address 4096 of inputs holds something else",
        ),
        (STORE, {"offset": 64}, "offset must stay within the 128 bytes of section outputs, not reach 191"),
        (
            LOAD,
            {"out_rows": 65535, "out_columns": 65535},
            "out_rows must make a map of at most 16777216 blocks",
        ),
        (
            STEM,
            {"out_rows": 65535, "stride_y": 255},
            "stride_y must make a window of at most 16777216 blocks",
        ),
        (STEM, {"signal": units("matrix")}, "signal must not be to matrix, its own unit"),
        (
            STEM,
            {"wait": units("load", "weights", "store")},
            "wait must not be for store, which has not signalled",
        ),
        (LOGITS, {"signal": 0}, "wait must not be for matrix, which has not signalled"),
        (STORE, {"wait": 0}, "must find every signal taken; 1 from matrix to store are not"),
        (
            STEM,
            {"in_format": "bfp7"},
            "in must be what it is read as; address 0 of activation holds something else",
        ),
        (STEM, {"weight_format": "bfp7"}, "weights must be what it is read as; address 0 of weight holds"),
        (STEM, {"bias": 1}, "bias must not read vector 2 of vector memory, which was not written"),
        (LOAD, {"pixel_pitch": 2, "row_pitch": 128}, "exponents must be a block of a port"),
        (LOAD, {"exponents": 4160, "out_rows": 15}, "in must not read block 120 of activation memory"),
        (LOAD, {"out_row": 7}, "out must write each place once, not block 7 of activation memory again"),
        (POOL, {"out_address": 300}, "out must not meet what is read: block 300 of activation memory"),
    ],
)
def test_each_broken_rule_of_the_example_is_reported(edited, number, changes, expected):
    found = message(edited({number: changes}))
    assert expected in found
    assert found.startswith("Instruction ")


def test_narrow_builds_refuse_wide_formats(edited):
    from_a10 = edited().architecture
    narrow = type(from_a10)(**{**from_a10.to_dict(), "max_activation_bits": 6})
    assert "out_format must have at most 6 bits, not bfp8" in message(edited(architecture=narrow))
    narrow = type(from_a10)(**{**from_a10.to_dict(), "max_weight_bits": 5})
    assert "format must have at most 5 bits, not bfp8" in message(edited(architecture=narrow))


def test_end_closes_each_part_and_stands_nowhere_else(example, written):
    verify(written("sync"))
    assert (
        message(example(text=assemble("sync")))
        == "Instruction end must close each part, at [0], not stand at []"
    )
    assert message(written("end", "sync")).startswith(
        "Instruction end must close each part, at [2], not stand"
    )
    assert message(example(text=())) == "Text of a Program must have 1 to 262144 instructions, not 0"


def test_the_frame_is_checked(example):
    assert message(example(workspace_bytes=1 << 29)).startswith(
        "Workspace of a Program must have at most 268435456"
    )
    assert message(example(numerics_version=2)) == "Program must use version 1 of the arithmetic, not 2"


def test_a_prologue_loads_constants_that_the_body_leaves(written):
    resident = ("constants count=2", "end")
    verify(written(*resident, f"{FETCH}", prologue=2))
    found = message(written(*resident, "constants count=1 address=1", prologue=2))
    assert found.endswith("address must leave vector 1 of vector memory, which the prologue wrote")
    found = message(written(FETCH, "end", prologue=2))
    assert found == "Instruction 0 (load, layer) must not be in the prologue, which only loads constants"


def test_outputs_are_stored_whole_and_once(edited, example):
    text = list(example().text)
    store = text.pop(STORE)
    text[LOGITS] = text[LOGITS].replace(signal=0)
    assert message(example(text=text)) == "Outputs must be stored whole; byte 0 of section outputs is not"
    text = [*example().text[:-1], store.replace(wait=("store",)), Instruction("end")]
    assert "offset must store byte 0 of section outputs once, not again" in message(example(text=text))
    wide = Port.packed("logits", (1, 1, 10), "float32", offset=128)
    found = message(edited(outputs=(wide,)))
    assert "offset must be a block of a port; address 0 of outputs holds something else" in found


def test_ports_must_not_overlap(edited, example):
    image = example().inputs[0]
    other = Port.packed("other", (2, 2, 3), "bfp8", offset=64)
    assert message(edited(inputs=(image, other))) == "Inputs must not overlap; 'other' does"


def test_a_window_touches_only_what_its_taps_reach(written):
    """Row 3 of the map is stored elsewhere, but no tap reaches it."""
    pool = "pool in=@0:4:1:bfp8 in_rows=4 in_columns=4 stride_y=2 {} out=@20:4:1:bfp8 {} out_columns=4"
    pool += " out_blocks=1"
    fetch = FETCH.replace("out_rows=4", "out_rows=3") + " signal(vector)"
    verify(written(fetch, pool.format("", "out_rows=2") + " wait(load)"))
    found = message(written(fetch, pool.format("in_y=1", "out_rows=2") + " wait(load)"))
    assert "in must not read block 12 of activation memory, which was not written" in found


def test_a_drain_orders_a_unit_with_itself(written):
    first = f"map a=@0:4:1:bfp8 out=@16:4:1:bfp8 {TILE} wait(load)"
    second = f"map a=@16:4:1:bfp8 out=@32:4:1:bfp8 {TILE}"
    found = message(written(FETCH + " signal(vector)", first, second))
    assert "a must be ordered after instruction 1 (map), which writes block 16 of activation memory" in found
    verify(written(FETCH + " signal(vector)", first, second + " wait(vector)"))


def test_a_write_must_follow_earlier_reads(written):
    lines = (FETCH + " signal(vector)", f"map a=@0:4:1:bfp8 out=@16:4:1:bfp8 {TILE} wait(load)")
    found = message(written(*lines, FETCH))
    assert "must be ordered after instruction 0 (load), which writes block 0" in found
    found = message(written(*lines, FETCH + " wait(load)"))
    assert "must be ordered after instruction 1 (map), which reads block 0 of activation memory" in found
    lines = (lines[0], lines[1] + " signal(load)")
    verify(written(*lines, FETCH + " wait(load,vector)"))


@pytest.mark.parametrize(
    ("operands", "valid"),
    [
        ("operation=1 a=@0:4:1:bfp8 b=@16:4:1:bfp8 out=@0:4:1:bfp8", True),
        ("operation=1 a=@0:4:1:bfp8 b=@16:4:1:bfp8 out=@16:4:1:bfp8", True),
        ("operation=1 a=@0:4:1:bfp8 b=@0:4:1:bfp8 out=@0:4:1:bfp8", True),
        ("operation=1 a=@0:4:1:bfp8 b=@16:4:1:bfp8 out=@1:4:1:bfp8", False),
        ("operation=1 a=@0:4:1:bfp8 b=@16:4:1:bfp8 out=@0:1:4:bfp8", False),
        ("operation=1 a=@0:4:1:bfp8 b=@16:4:1:bfp8 out=@0:4:1:bfp7", False),
        ("a=@0:4:1:bfp8 repeat_y=2 out=@0:4:1:bfp8", False),
    ],
)
def test_results_may_replace_an_operand_only_place_by_place(written, operands, valid):
    second = FETCH.replace("out=@0", "out=@16") + " signal(vector)"
    program = written(FETCH, second, f"map {operands} {TILE} wait(load)")
    if valid:
        verify(program)
    else:
        assert "out must not meet what is read" in message(program)


PART = (
    "convolve in=@0:4:1:bfp8 in_rows=4 in_columns=4 in_blocks=1 weight_format=bfp8"
    " out_rows=4 out_columns=4 out_blocks=1"
)


@pytest.fixture
def panels():
    return bytes(1024) + bytes([127] * 32)


def test_partial_sums_are_resumed_from_what_was_suspended(written, panels):
    lines = (FETCH + " signal(matrix)", "weights format=bfp8 count=1 signal(matrix)")
    first, last = PART + " suspend=1", PART + " resume=1 out=@16:4:1:bfp8"
    verify(written(*lines, first + " wait(load,weights)", last + " wait(matrix)", weights=panels))
    found = message(written(*lines, last + " wait(load,weights)", weights=panels))
    assert "partials must not read vector 0 of vector memory, which was not written" in found
    small = last.replace("out_rows=4 out_columns=4", "out_rows=2 out_columns=4") + " wait(load,weights)"
    found = message(written("constants offset=1056 count=8", *lines, small, weights=panels + bytes(1024)))
    assert "partials must be what it is read as; address 0 of vector holds something else" in found
    again = PART + " resume=1 suspend=1 wait(matrix)"
    verify(written(*lines, first + " wait(load,weights)", again, last + " wait(matrix)", weights=panels))


def test_all_parts_of_a_sum_together_have_at_most_16384_blocks(written, panels):
    lines = (FETCH + " signal(matrix)", "weights format=bfp8 count=1 signal(matrix)")
    tall = PART.replace("in_blocks=1", "in_blocks=1 kernel_rows=128 kernel_columns=64").replace(
        "in=@0:4:1", "in=@0:0:0"
    )
    memory = {"weights": panels * 8192}
    lines = (lines[0], lines[1].replace("count=1", "count=8192"))
    first = tall + " suspend=1 wait(load,weights)"
    again = tall + " resume=1 suspend=1 wait(matrix)"
    software = {"architecture": architecture("software")}
    verify(written(*lines, first, again, **memory, **software))
    found = message(written(*lines, first, again, again, **memory, **software))
    assert "partials must be part of a sum of at most 16384 blocks, not 24576" in found


def test_scales_are_constants_in_range(written):
    use = f"map a=@0:4:1:bfp8 has_scale=1 scale=0 shift=1 out=@16:4:1:bfp8 {TILE} wait(load,weights)"
    lines = (FETCH + " signal(vector)", "constants count=2 signal(vector)", use)
    verify(written(*lines))
    values = np.ones((2, 32), "<f4")
    values[0, 5] = 2.0**9
    found = message(written(*lines, weights=values.tobytes()))
    assert "scale must hold values of 0 or 2**-16 to 2**8 in magnitude; one is not" in found
    values[0, 5], values[1, 7] = 0, 2.0**63
    verify(written(*lines, weights=values.tobytes()))
    values[1, 7] = np.nan
    found = message(written(*lines, weights=values.tobytes()))
    assert "offset must hold values of 0 or 2**-80 to 2**64 in magnitude; one is not" in found


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (
            "operation=3 a=@0:4:1:bfp8 b=@0:4:1:float32",
            "operation must not be multiply where an operand is float32",
        ),
        ("a=@0:4:1:bfp8 b=@0:4:1:bfp8", "b_format must be 0 here"),
        ("operation=1 a=@0:4:1:bfp8", "b_format must be float32 or a block format, not none"),
        (
            "a=@0:4:1:float32 activation=3 low=0.5",
            "activation must be none, ReLU or clip where the operand is float32",
        ),
        ("a=@0:4:1:bfp8 activation=3 low=1.0", "low must be a slope from 2**-16 to below 1, not 1.0"),
        (
            "a=@0:4:1:bfp8 activation=4 low=300.0",
            "low must be an alpha of 2**-16 to 2**8 in magnitude, not 300.0",
        ),
        ("a=@0:4:1:bfp8 activation=5 low=1 high=1e-30", "high must be 0 or 2**-80 to 2**64 in magnitude"),
        (
            "operation=3 a=@0:4:1:bfp8 b=@0:4:1:bfp8 has_scale=1 shift=1 activation=3 low=0.5",
            "activation must be none, ReLU or clip after a multiplication with scale and shift",
        ),
    ],
)
def test_maps_keep_the_limits_of_the_arithmetic(written, operation, expected):
    assert expected in message(written(f"map {operation} out=@16:4:1:bfp8 {TILE}"))


@pytest.mark.parametrize("name", ["bfp5", "bfp8"])
def test_panels_out_of_range_are_refused(written, name):
    bits = int(name[-1])
    size = 128 * bits + 32
    panels = np.zeros((3, size), np.uint8)
    panels[:, -32:] = 127
    verify(written(f"weights format={name} count=3", weights=panels.tobytes()))
    panels[1, -1] = 127 + 49
    found = message(written(f"weights format={name} count=3", weights=panels.tobytes()))
    assert "offset must hold |M| <= 2**(N-1) - 1 and |E| <= 48; panel 1 does not" in found
    panels[1, -1] = 127
    panels[2, 0] = 1 << (bits - 1)
    found = message(written(f"weights format={name} count=3", weights=panels.tobytes()))
    assert "panel 2 does not" in found


def test_constant_blocks_must_be_canonical(written):
    blocks = np.zeros(128, np.uint8)
    blocks[64:] = 127 - 48
    fetch = "load exponents=64 pixel_pitch=1 out=@0:0:1:bfp8 out_rows=1 out_columns=2 out_blocks=1"
    verify(written(fetch, weights=blocks.tobytes()))
    blocks[65] = 127
    assert "offset must hold blocks that encode makes; one is not" in message(
        written(fetch, weights=blocks.tobytes())
    )


def test_workspace_keeps_format_and_order(written):
    out = "row_pitch=128 exponents=512 exponent_pitch=64 pixel_pitch=1 in=@0:4:1:bfp8"
    out += " in_rows=4 in_columns=4 in_blocks=1"
    back = FETCH.replace("section=2", "section=1").replace("out=@0", "out=@32")
    lines = (FETCH + " signal(store)", f"store section=1 {out} wait(load) signal(load)")
    verify(written(*lines, back + " wait(store)", workspace_bytes=1024))
    unordered = (lines[0], lines[1].replace(" signal(load)", ""), back)
    found = message(written(*unordered, workspace_bytes=1024))
    assert (
        "offset must be ordered after instruction 1 (store), which writes byte 0 of section workspace"
        in found
    )
    found = message(written(*lines, back.replace("bfp8", "bfp7") + " wait(store)", workspace_bytes=1024))
    assert "offset must be what it is read as" in found
    found = message(
        written(*lines, back.replace("exponents=512", "exponents=576") + " wait(store)", workspace_bytes=1024)
    )
    assert "exponents must not read byte 768 of section workspace, which was not written" in found


def test_a_counter_must_not_pass_255(written):
    ahead = ["sync unit=load signal(matrix)"] * 255
    behind = ["sync unit=matrix wait(load)"] * 255
    verify(written(*ahead, *behind))
    found = message(written(*ahead, ahead[0], *behind, behind[0]))
    assert found == "Instruction 255 (sync, layer): signal must not let the counter to matrix pass 255"
    assert "pass 255" in message(
        written(*[line for pair in zip(ahead, behind, strict=True) for line in pair] * 2)
    )
    bounded = [
        "sync unit=load signal(matrix)",
        "sync unit=matrix wait(load) signal(load)",
        "sync unit=load wait(matrix)",
    ]
    verify(written(*(bounded * 300)))


def test_weight_memory_wraps(written):
    weights = np.zeros((24, 1056), np.uint8)
    weights[:, 1024:] = 127
    tiny = architecture("tiny")
    use = (
        PART.replace("in_blocks=1", "in_blocks=1 kernel_rows=4")
        + " weights=22 out=@16:4:1:bfp8 wait(load,weights)"
    )
    fetch = FETCH + " signal(matrix)"
    load = "weights format=bfp8 address=22 count={} signal(matrix)"
    verify(written(fetch, load.format(4), use, weights=weights.tobytes(), architecture=tiny))
    found = message(written(fetch, load.format(3), use, weights=weights.tobytes(), architecture=tiny))
    assert "weights must not read panel 1 of weight memory, which was not written" in found


def test_a_program_of_thousands_of_instructions_is_verified_in_seconds(written):
    fetch = FETCH + " signal(vector) wait(load)"
    turns = [fetch, f"map a=@0:4:1:bfp8 out=@16:4:1:bfp8 {TILE} wait(load,vector) signal(load)"]
    lines = [fetch, turns[1]] + [fetch.replace("wait(load)", "wait(load,vector)"), turns[1]] * 1500
    program = written(*lines, "sync unit=load wait(vector)")
    start = time.perf_counter()
    verify(program)
    assert time.perf_counter() - start < 10
