"""`gatecast predict`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from gatecast.client import PredictionClient
from gatecast.errors import GatecastError, ServingError

from . import options
from .scores import best
from .tensors import read_input
from .terminal import print_json, print_table

Float32 = npt.NDArray[np.float32]
Row = tuple[int, str, float]
Result = tuple[str, int, list[Row]]


@click.command("predict")
@click.argument("address", metavar="ADDRESS")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=options.FILE)
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many classes to print."
)
@click.option(
    "--model_name", default="", help="Model to ask; without it, the only one that a Gatecast server has."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Of one call, in seconds.",
)
@options.as_json
def command(
    address: str, files: Sequence[Path], top: int, model_name: str, timeout: float, json_: bool
) -> None:
    """Send pictures to a server and print the best classes.

    ADDRESS is HOST:PORT, or that of a service as in http://127.0.0.1/. Each FILE is a JPEG or PNG picture, or
    an .npy array with a batch dimension. Classes are printed by name where the server knows them, else by
    index. The first FILE that fails ends the command with its error, after the classes of those before it.
    """
    results: list[Result] = []
    try:
        with PredictionClient(address, model=model_name) as client:
            for result in _ask(client, files, top, timeout):
                results.append(result)
    except GatecastError:
        if results:
            _print(results, json_)
        raise
    _print(results, json_)


def _ask(client: PredictionClient, files: Sequence[Path], top: int, timeout: float) -> Iterator[Result]:
    name = client.describe().inputs[0].name if client.model else "images"
    labels: tuple[str, ...] | None = None
    for file in files:
        value = read_input(file)
        inputs = {name: [value] if isinstance(value, bytes) else value}
        scores = _scores(client.predict(inputs, timeout=timeout), client.address)
        if labels is None:
            labels = client.labels()
        for image, row in enumerate(scores):
            yield str(file), image, best(row, labels, top)


def _scores(outputs: dict[str, Float32], address: str) -> Float32:
    """Scores ``[images, classes]`` of the one output that holds them."""
    found = [values for values in outputs.values() if values.size == values.shape[0] * max(values.shape[1:])]
    if len(outputs) != 1 or len(found) != 1:
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in outputs.items())
        raise ServingError(
            f"Model at {address} must have one output with a score for each class, not {shapes}",
            hint="Use `gatecast.client.PredictionClient`, which returns every output.",
        )
    return found[0].reshape(found[0].shape[0], -1)


def _print(results: Sequence[Result], json_: bool) -> None:
    if json_:
        print_json(
            [
                {
                    "file": file,
                    "image": image,
                    "classes": [
                        {"index": index, "name": name, "score": score} for index, name, score in rows
                    ],
                }
                for file, image, rows in results
            ]
        )
        return
    print_table(
        ("picture", ">class", "name", ">score"),
        [
            (file if rank == 0 else "", index, name, f"{score:.4f}")
            for file, _, rows in results
            for rank, (index, name, score) in enumerate(rows)
        ],
    )
