"""`gatecast rtl`: the NPU as Verilog, and its register map."""

from pathlib import Path

import click

from gatecast import rtl
from gatecast.errors import DeviceError
from gatecast.isa import architecture

from . import options
from .terminal import say, size, working

FAMILIES = {"generic": {}, "ecp5": {"cells": True}}
"""How products are made: of plain operators, or two lanes of them in the multipliers of an ECP5."""


@click.command("rtl")
@click.option("--target", required=True, help="Architecture to build, such as tiny or ecp5_85f.")
@click.option("-o", "--output", required=True, metavar="X.v", type=options.OUTPUT, help="Verilog to write.")
@click.option(
    "--family",
    type=click.Choice(list(FAMILIES)),
    default="generic",
    show_default=True,
    help="FPGA family that the products are made for.",
)
@click.option(
    "--registers",
    "maps",
    multiple=True,
    metavar="MAP",
    type=options.OUTPUT,
    help="Register map to write, as its ending says: .json or .svd. May be repeated.",
)
def command(target: str, output: Path, family: str, maps: tuple[Path, ...]) -> None:
    """Write the NPU as Verilog, and its register map.

    One file; its top module is `npu`. docs/spec/npu.md describes ports, registers and how a Program is run.
    """
    sizes = architecture(target)
    writers = {".json": rtl.register_map_json, ".svd": rtl.register_map_svd}
    for path in maps:
        if path.suffix not in writers:
            raise click.UsageError(f"Register map must end in .json or .svd, not {path.name!r}.")
    with working(f"Writing the NPU {target}"):
        try:
            write_verilog = rtl.write_verilog
        except ImportError as error:
            raise DeviceError(
                f"The NPU needs Amaranth, which cannot be imported: {error}",
                hint="Install it with `pip install 'gatecast[hardware]'`.",
            ) from None
        text = write_verilog(sizes, **FAMILIES[family])
    for path, content in ((output, text), *((path, writers[path.suffix](sizes)) for path in maps)):
        path.write_text(content)
        say(f"Wrote {path}, {size(len(content))}")
