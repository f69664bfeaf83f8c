"""How long each step from a network to an opened artifact takes, and how large the artifact is.

    python benchmarks/time_to_artifact.py [NETWORK ...] [--format bfp8] [--json]

Networks are those of `gatecast zoo list`; without weights at hand, they get random ones (`--random`), which
take the same time and room. A weight of bfp8 takes 8.25 bits with its share of an exponent; an artifact also
holds zeros that pad channels to whole blocks, constants, host stages, and its manifest.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import gatecast
from gatecast import zoo
from gatecast.graph import BlockWeights, Convolution, Graph, MatMul


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["fashion", "resnet50"])
    parser.add_argument("--format", default="bfp8")
    parser.add_argument(
        "--random", action="store_true", help="random weights for networks that need a download"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [measure(name, options.format, options.random) for name in options.networks]
    if options.json:
        print(json.dumps(rows))
        return
    table = Table(
        "network", *(key for key in rows[0] if key != "network"), title=f"{options.format}, times in s"
    )
    for row in rows:
        table.add_row(
            *(f"{value:,.2f}" if isinstance(value, float) else str(value) for value in row.values())
        )
    Console(width=160).print(table)


def measure(name: str, formats: str, random: bool) -> dict[str, Any]:
    """Take one network the whole way in a temporary folder."""
    times: dict[str, float] = {}

    def timed(step: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        times[step] = time.perf_counter() - start
        return result

    network = zoo.network(name)
    arrays = network.random_arrays() if random and network.sources else None
    graph = network.build(arrays) if arrays else zoo.load(name)
    with tempfile.TemporaryDirectory() as folder:
        source, artifact = Path(folder) / "float.onnx", Path(folder) / "x.gcast"
        gatecast.export(graph, source)
        graph = timed("load", lambda: gatecast.load(source))
        quantized = timed("quantise", lambda: gatecast.quantize(graph, formats))
        timed("export", lambda: gatecast.export(quantized, Path(folder) / "quantised.onnx"))
        model = timed("compile", lambda: gatecast.compile(quantized))
        timed("save", lambda: model.save(artifact))
        timed("open", lambda: gatecast.open(artifact)).close()
        size = artifact.stat().st_size
    weights = count_weights(quantized)
    return {
        "network": name,
        **times,
        "weights": weights,
        "artifact bytes": size,
        "bits a weight": size * 8 / weights,
    }


def count_weights(graph: Graph) -> int:
    """Weights in blocks, without the zeros that pad them."""
    return sum(
        math.prod(layer.weights.shape)
        for layer in graph.layers
        if isinstance(layer, Convolution | MatMul) and isinstance(layer.weights, BlockWeights)
    )


if __name__ == "__main__":
    main()
