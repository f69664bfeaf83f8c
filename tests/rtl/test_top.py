"""The whole NPU through its registers: a Program, refused texts, one that hangs, and the Program again."""

import numpy as np
import pytest

from gatecast.devices import open_device
from gatecast.isa import UNITS, Port, Program, architecture, assemble, encode_text, pack_inputs, units, verify
from gatecast.numerics import FORMATS, encode, pack
from gatecast.rtl import register_words
from gatecast.rtl.lane import LaneDesign
from gatecast.rtl.registers import IDENTITY, Reason
from gatecast.rtl.top import Npu

TINY, WORDS = architecture("tiny"), register_words()

MAP = "rows=2 in_columns=2 in_blocks=1"
ONE = "out_rows=1 out_columns=1 out_blocks=1"
TEXT = f"""
weights   format=bfp6 count=1
constants offset=800 count=1
end
load      section=2 row_pitch=64 exponents=128 exponent_pitch=64 pixel_pitch=1 {{load}} signal(matrix)
sync      unit=weights signal(matrix)
convolve  in=@0:2:1:bfp5 in_{MAP} {{weights}} {{conv}} wait(load,weights) signal(vector)
pool      operation=1 in=@8:2:1:bfp8 {{window}} {{mean}} factor=0.25 wait(matrix) signal(store)
store     section=3 row_pitch=128 pixel_pitch=1 {{store}} wait(vector)
end
""".format(
    load="out=@0:2:1:bfp5 out_rows=2 out_columns=2 out_blocks=1",
    weights="weight_format=bfp6 has_bias=1 activation=1",
    conv="out=@8:2:1:bfp8 out_rows=2 out_columns=2 out_blocks=1",
    window="in_rows=2 in_columns=2 kernel_rows=2 kernel_columns=2",
    mean=f"out=@4:1:1:float32 {ONE}",
    store="in=@4:1:1:float32 in_rows=1 in_columns=1 in_blocks=1",
)
"""Runs 2 x 2 pixels of 32 channels through each unit."""


@pytest.fixture(scope="module")
def program():
    rng = np.random.default_rng(0)
    mantissas, exponents = encode(rng.normal(size=(32, 32)).astype(np.float32), FORMATS["bfp6"])
    panel = pack(mantissas[:, 0], FORMATS["bfp6"]).tobytes() + exponents.tobytes()
    bias = rng.normal(size=32).astype("<f4").tobytes()
    found = Program(
        TINY,
        assemble(TEXT),
        weights=panel + bias,
        inputs=(Port.packed("x", (2, 2, 32), "bfp5"),),
        outputs=(Port.packed("y", (1, 1, 32), "float32"),),
        prologue=3,
    )
    verify(found)
    return found


class Driver:
    """An NPU with 8 KiB of memory, and what a host does."""

    def __init__(self, npu):
        self.npu, self.memory, self.answers = npu, bytearray(8192), []
        self.rng, self.retired = np.random.default_rng(1), []

    async def serve(self, ctx):
        npu = self.npu
        while True:
            ready, answer = self.rng.random() < 0.8, bool(self.answers) and self.rng.random() < 0.8
            ctx.set(npu.memory_ready, ready)
            ctx.set(npu.response_valid, answer)
            ctx.set(npu.response_data, self.answers[0] if answer else 0)
            if ready and ctx.get(npu.memory_valid):
                self.beat(
                    *(ctx.get(getattr(npu, f"memory_{n}")) for n in ("address", "write", "data", "mask"))
                )
            if answer and ctx.get(npu.response_ready):
                self.answers.pop(0)
            for unit in UNITS:
                if ctx.get(getattr(npu, f"trace_{unit}_retired")):
                    self.retired.append((unit, ctx.get(getattr(npu, f"trace_{unit}_number"))))
            await ctx.tick()

    def beat(self, address, write, data, mask):
        for i in range(16 if write else 0):
            if mask >> i & 1:
                self.memory[address + i] = data >> 8 * i & 255
        if not write:
            self.answers.append(int.from_bytes(self.memory[address : address + 16], "little"))

    async def access(self, ctx, name, value=None):
        npu = self.npu
        for port, level in (("cyc", 1), ("stb", 1), ("we", value is not None), ("adr", WORDS[name])):
            ctx.set(getattr(npu, f"bus_{port}"), level)
        ctx.set(npu.bus_dat_w, value or 0)
        await ctx.tick().until(npu.bus_ack)
        found = ctx.get(npu.bus_dat_r)
        ctx.set(npu.bus_cyc, 0)
        ctx.set(npu.bus_stb, 0)
        await ctx.tick()
        return found

    async def run(self, ctx, text, count, patience=4000):
        """Status when the text is done, refused, or has run for long."""
        await self.access(ctx, "text", text)
        await self.access(ctx, "count", count)
        await self.access(ctx, "control", 1)
        for _ in range(patience // 50):
            if (status := await self.access(ctx, "status")) & 0b110:
                return status
            await ctx.tick().repeat(50)
        return status


DONE, ERROR, BUSY = 0b010, 0b100, 0b001


@pytest.mark.slow
def test_a_program_runs_and_faults_are_told(simulate, program):
    driver = Driver(Npu(TINY, LaneDesign(7, TINY.max_interleave)))
    text, found = encode_text(program.text), {}
    x = np.random.default_rng(2).normal(size=(2, 2, 32)).astype(np.float32)
    inputs = pack_inputs(program, {"x": x})
    places = {"text": 0, "weights": 2048, "inputs": 4096, "outputs": 5120}
    for name, content in (("text", text), ("weights", bytes(program.weights)), ("inputs", inputs)):
        driver.memory[places[name] : places[name] + len(content)] = content
    split = (
        f"in=@0:1:1:bfp8 in_rows=1 in_columns=1 in_blocks=1 weight_format=bfp8 out=@0:1:1:bfp8 {ONE} split=1"
    )
    bad = assemble(f"sync unit=load\nconvolve {split}\nend")
    driver.memory[6144 : 6144 + 384] = encode_text(bad)
    waits = assemble("sync unit=store wait(matrix,load)\nend")
    driver.memory[7168 : 7168 + 256] = encode_text(waits)

    async def bench(ctx):
        found["identity"] = [await driver.access(ctx, name) for name in ("identity", "digest0", "digest3")]
        for name in ("weights", "inputs", "outputs"):
            await driver.access(ctx, name, places[name])
        found["prologue"] = await driver.run(ctx, 0, 3)
        found["body"] = await driver.run(ctx, 3 * 128, 6)
        found["outputs"] = bytes(driver.memory[5120 : 5120 + program.outputs_bytes])
        found["retired"] = list(driver.retired)
        counters = ("cycles", "instructions", "products", "reads", "writes", "matrix_busy", "store_waiting")
        found["counters"] = {name: await driver.access(ctx, name) for name in counters}
        for name, place, count in (("refused", 6144, 3), ("endless", 6144, 1), ("hangs", 7168, 2)):
            status = await driver.run(ctx, place, count, patience=500)
            names = ("error", "error_number", "store_state", "store_number")
            found[name] = [status] + [await driver.access(ctx, register) for register in names]
            await driver.access(ctx, "control", 2)
            found[name].append(await driver.access(ctx, "status"))
        driver.memory[5120:5248] = bytes(128)
        found["again"] = await driver.run(ctx, 3 * 128, 6)

    simulate(driver.npu, bench, deadline=30_000, background=[driver.serve])
    assert found["identity"] == [IDENTITY, *np.frombuffer(TINY.digest, "<u4")[[0, 3]]]
    assert (found["prologue"], found["body"], found["again"]) == (DONE, DONE, DONE)
    assert found["outputs"] == open_device("reference").load(program).run(inputs)
    assert driver.memory[5120:5248] == found["outputs"]
    prologue = [("weights", 0), ("weights", 1)]
    assert found["retired"][:2] == prologue
    assert sorted(found["retired"][2:]) == sorted(
        [("load", 0), ("weights", 1), ("matrix", 2), ("vector", 3), ("store", 4)]
    )
    counters = found["counters"]
    assert (counters["instructions"], counters["products"], counters["writes"]) == (5, 8 * 4, 8)
    assert counters["reads"] == 6 * 6 + 4 * (2 + 1) + sum(
        (20 * n) // 16 != (20 * n + 19) // 16 - 1 for n in range(4)
    )
    assert counters["matrix_busy"] < counters["cycles"]
    assert counters["store_waiting"] > counters["matrix_busy"]
    assert found["refused"][:3] == [ERROR, Reason.SPLIT, 1]
    assert found["endless"][:3] == [ERROR, Reason.NO_END, 1]
    assert found["hangs"][0] == BUSY
    assert found["hangs"][3:5] == [1 | units("load", "matrix") << 8, 0]
    assert found["hangs"][5] == found["refused"][5] == 0
