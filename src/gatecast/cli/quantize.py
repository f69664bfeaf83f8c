"""`gatecast quantize`: a float network in, a quantised one out, both standard ONNX."""

from pathlib import Path

import click

from gatecast.interchange import export, load
from gatecast.quantization import Report, quantize_with_report

from . import options
from .terminal import count, print_json, print_table, print_text, say, working


@click.command("quantize")
@options.network("IN")
@click.option("-o", "--output", required=True, metavar="OUT.onnx", type=options.OUTPUT, help="File to write.")
@options.rounding
@click.option("--inline", is_flag=True, help="Write without local functions, as OpenVINO needs it.")
@options.as_json
def command(
    network: options.Network, output: Path, rounding: options.Rounding, inline: bool, json_: bool
) -> None:
    """Turn a network into a quantised one, written as standard ONNX.

    IN is a float network: an ONNX file, a TensorFlow SavedModel or a frozen graph. Norms are folded, stems
    unfolded, elementwise layers fused, weights rounded to blocks, and every point where values are rounded is
    made explicit. The report says what was done.
    """
    options.refuse_overwriting(network.path, [output])
    formats = "bfp8" if rounding.formats is None else rounding.formats
    with working(f"Quantising {network.path} to {formats}"):
        source = load(network.path, network.inputs, network.outputs)
        graph, report = quantize_with_report(
            source, formats, first=rounding.first, overrides=rounding.overrides
        )
        export(graph, output, inline=inline)
    if json_:
        print_json(_as_json(report, output))
    else:
        _print(report)
    say(f"Wrote {output}, {count(output.stat().st_size)} bytes")


def _print(report: Report) -> None:
    if not report.layers:
        print_text("Nothing to do: the network is quantised with these formats already.")
        return
    rows = [(item.layer, item.formats, count(item.weights), f"{item.sqnr_db:.1f}") for item in report.layers]
    print_table(("layer", "formats", ">weights", ">SQNR of weights, dB"), rows)
    print_text("")
    print_text(f"folded     {_listed([f'{norm} into {layer}' for norm, layer in report.folded])}")
    print_text(f"unfolded   {_listed(report.unfolded)}")
    print_text(f"fused      {_listed([f'{layer} into {host}' for layer, host in report.fused])}")
    print_text(f"flushed    {_listed([f'{f.count} of {f.layer}.{f.field}' for f in report.flushed])}")
    print_text(f"encodes    {report.encodes}")


def _listed(items: list[str], most: int = 4) -> str:
    """Count, and the first few by name."""
    if not items:
        return "none"
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return f"{len(items)}: {', '.join(items[:most])}{more}"


def _as_json(report: Report, output: Path) -> dict[str, object]:
    return {
        "output": str(output),
        "folded": [{"norm": norm, "into": layer} for norm, layer in report.folded],
        "unfolded": list(report.unfolded),
        "fused": [{"layer": layer, "into": host} for layer, host in report.fused],
        "flushed": [{"layer": f.layer, "field": f.field, "count": f.count} for f in report.flushed],
        "layers": [
            {
                "layer": item.layer,
                "formats": str(item.formats),
                "weights": item.weights,
                "sqnr_db": item.sqnr_db if item.sqnr_db != float("inf") else None,
            }
            for item in report.layers
        ],
        "encodes": report.encodes,
    }
