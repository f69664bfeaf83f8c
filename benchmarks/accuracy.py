"""How much accuracy each format keeps: real ResNet-50, real labelled pictures, the arithmetic contract.

    python benchmarks/accuracy.py [--formats bfp8 bfp6 bfp5/bfp6] [--limit 20] [--json]

Every picture goes through the graph evaluator, so the bits are those of every device. Needs ResNet-50
weights (see `gatecast zoo show resnet50`) and, in the folder GATECAST_TEST_DATA, 100 labelled pictures
(`images/nips17_ccby` with `images.csv`). SQNR is of the logits against the float network, in dB.
"""

import argparse
import csv
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gatecast import zoo
from gatecast.graph import Graph, evaluate_values
from gatecast.quantization import quantize
from gatecast.runtime.images import decode_image

FORMATS = ["bfp8", "bfp7", "bfp6", "bfp5", "bfp4", "bfp5/bfp6"]


@dataclass(frozen=True)
class Row:
    """What one format reached; `agreement` is the share of pictures with the float network's top-1."""

    format: str
    top1: float
    top5: float
    agreement: float
    sqnr_db: float


def pictures(limit: int | None) -> list[tuple[bytes, int]]:
    """Bytes and ImageNet class of the labelled pictures of the test data."""
    root = os.environ.get("GATECAST_TEST_DATA")
    if root is None:
        sys.exit("error: GATECAST_TEST_DATA must name the folder with the labelled pictures")
    folder = Path(root) / "images" / "nips17_ccby"
    with (folder / "images.csv").open(newline="") as table:
        labels = {row["ImageId"]: int(row["TrueLabel"]) - 1 for row in csv.DictReader(table)}
    files = sorted(folder.glob("*.png"))[:limit]
    return [(file.read_bytes(), labels[file.stem]) for file in files]


def logits(graph: Graph, tensors: list[np.ndarray], title: str) -> np.ndarray:
    """Scores before the softmax, ``[images, classes]``."""
    (value,) = graph.inputs
    last = graph.by_name[graph.outputs[0]]
    scores = graph.outputs[0] if graph.shapes[last.inputs[0]] != graph.shapes[last.name] else last.inputs[0]
    results = (evaluate_values(graph, {value.name: x})[scores] for x in tensors)
    console = Console(stderr=True)
    return np.stack(list(track(results, title, total=len(tensors), console=console))).reshape(
        len(tensors), -1
    )


def row(name: str, scores: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> Row:
    """Compare scores with the labels and with the float network's scores."""
    order = np.argsort(-scores, axis=1, kind="stable")
    noise = float(((scores.astype(np.float64) - reference) ** 2).sum())
    signal = float((reference.astype(np.float64) ** 2).sum())
    return Row(
        format=name,
        top1=float((order[:, 0] == labels).mean()),
        top5=float((order[:, :5] == labels[:, None]).any(axis=1).mean()),
        agreement=float((order[:, 0] == reference.argmax(axis=1)).mean()),
        sqnr_db=10 * float(np.log10(signal / noise)) if noise else float("inf"),
    )


def measure(network: str, formats: list[str], limit: int | None) -> list[Row]:
    """Rows for the float network and for each format."""
    graph = zoo.load(network)
    rule = graph.interface.inputs[0].image
    if rule is None:
        sys.exit(f"error: {network} must declare how pictures become its input")
    samples = pictures(limit)
    labels = np.array([label for _, label in samples])
    tensors = [decode_image(data, rule) for data, _ in samples]
    reference = logits(graph, tensors, "float")
    rows = [row("float", reference, reference, labels)]
    for name in formats:
        rows.append(row(name, logits(quantize(graph, name), tensors, name), reference, labels))
    return rows


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--limit", type=int, help="use only the first pictures")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.network, options.formats, options.limit)
    if options.json:
        print(json.dumps([vars(r) for r in rows]))
        return
    table = Table(title=f"{options.network}, {options.limit or 100} pictures")
    for column in ("format", "top-1", "top-5", "same top-1 as float", "SQNR dB"):
        table.add_column(column, justify="left" if column == "format" else "right")
    for r in rows:
        table.add_row(r.format, f"{r.top1:.2f}", f"{r.top5:.2f}", f"{r.agreement:.2f}", f"{r.sqnr_db:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
