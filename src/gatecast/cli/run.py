"""`gatecast run`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from gatecast.errors import RequestError
from gatecast.runtime import RunTime, Session, open_session

from . import options
from .scores import best
from .simulation import simulation
from .tensors import read_input, write_outputs
from .terminal import count, milliseconds, print_json, print_table, say

Float32 = npt.NDArray[np.float32]


@click.command("run")
@click.argument("source", metavar="X.gcast", type=options.FILE)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="NAME=FILE",
    help="An .npy array with a batch dimension, or a JPEG or PNG picture. Several pictures make a batch.",
)
@click.option(
    "--output", type=options.OUTPUT, metavar="F.npz", help="Write the outputs, by name, to this file."
)
@options.device
@options.threads
@click.option(
    "--trace", type=options.OUTPUT, metavar="F.fst", help="Write a waveform, for GTKWave; with device rtl."
)
@options.as_json
def command(
    source: Path,
    inputs: Sequence[str],
    output: Path | None,
    device: str,
    threads: int | None,
    trace: Path | None,
    json_: bool,
) -> None:
    """Run an artifact on files, without a server.

    Without `--output`, the outputs are printed: their shapes and largest values, or all values with `--json`.
    """
    given = [options.pair(text, "--input") for text in inputs]
    with (
        simulation() as progress,
        open_session(source, device, threads, trace=trace, progress=progress) as session,
    ):
        results, times = session.run_timed(_tensors(session, given))
    if output is not None:
        write_outputs(output, results)
        say(f"Wrote {output}")
    if json_:
        print_json(_as_json(results, times, device, with_values=output is None))
    elif output is None:
        _print(session, results)
    else:
        print_table(("output", "shape"), [(name, list(values.shape)) for name, values in results.items()])
    if not json_:
        total = sum(time.total_us for time in times)
        on_device = sum(time.device_us for time in times)
        say(f"{len(times)} image(s) in {milliseconds(total)}, {milliseconds(on_device)} on device {device}")
        cycles = [report.get("cycles", 0) for time in times for report in time.reports.values()]
        if cycles:
            say(f"{count(sum(cycles))} cycles of the device")


def _tensors(session: Session, given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Read the files; pictures for one input become a batch."""
    tensors: dict[str, Any] = {}
    for name, file in given:
        value = read_input(Path(file))
        if isinstance(value, bytes) and isinstance(tensors.setdefault(name, []), list):
            tensors[name].append(value)
        elif name in tensors:
            raise RequestError(
                f"Input {name} of {session.name} must be given as pictures, or once as an array"
            )
        else:
            tensors[name] = value
    return tensors


def _print(session: Session, results: dict[str, Float32]) -> None:
    rows = []
    for name, values in results.items():
        for image, scores in enumerate(values.reshape(values.shape[0], -1)):
            for rank, (index, label, score) in enumerate(best(scores, session.labels, 5)):
                first = (name, list(values.shape)) if (image, rank) == (0, 0) else ("", "")
                rows.append((*first, image if rank == 0 else "", index, label, f"{score:.6g}"))
    print_table(("output", "shape", ">image", ">index", "name", ">value"), rows)


def _as_json(
    results: dict[str, Float32], times: Sequence[RunTime], device: str, with_values: bool
) -> dict[str, Any]:
    printed: dict[str, Any] = {
        "outputs": {
            name: {"shape": list(values.shape), **({"values": values.tolist()} if with_values else {})}
            for name, values in results.items()
        },
        "device": device,
        "times_us": [
            {"image": time.image_us, "host": time.host_us, "device": time.device_us} for time in times
        ],
    }
    if any(time.reports for time in times):
        printed["reports"] = [dict(time.reports) for time in times]
    return printed
