"""`gatecast bench`: how long an artifact takes."""

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from gatecast.graph import InputPort, outer_shape
from gatecast.runtime import RunTime, Session, open_session, profile

from . import options
from .drawing import check_suffix
from .layer_times import describe, plot, print_layer_times, to_json
from .terminal import milliseconds, print_json, print_table, say, working


@click.command("bench")
@click.argument("source", metavar="X.gcast", type=options.FILE)
@click.option(
    "--runs", type=click.IntRange(min=1), default=50, show_default=True, help="Of one image, measured."
)
@click.option(
    "--warm_up", type=click.IntRange(min=0), default=3, show_default=True, help="Runs before, not measured."
)
@click.option("--layers", is_flag=True, help="Tell the time of each layer instead; with device software.")
@click.option(
    "--plot",
    "drawing",
    metavar="F.svg|F.png",
    type=options.OUTPUT,
    help="With the layers, draw what each achieves against what is attainable.",
)
@options.device
@options.threads
@options.as_json
def command(
    source: Path,
    runs: int,
    warm_up: int,
    layers: bool,
    drawing: Path | None,
    device: str,
    threads: int | None,
    json_: bool,
) -> None:
    """Measure the latency of an artifact on a device.

    One image at a time, in this process: pictures of noise for inputs that take pictures, else random tensors
    with a fixed seed. `whole` is the call of `Session.run`.

    With `--layers`, the median time of each layer's instructions, and what is attainable for what it
    multiplies and touches: by the speed of the processor's multiplications and of its memory, measured in
    the same run.
    """
    if drawing is not None:
        check_suffix(drawing)
    with open_session(source, device, threads) as session:
        inputs = _inputs(session)
        if layers or drawing is not None:
            _tell_layers(session, inputs, runs, drawing, json_)
            return
        with working(f"Running {session.name} on device {device}, {runs} times"):
            for _ in range(warm_up):
                session.run(inputs)
            measured = [_measure(session, inputs) for _ in range(runs)]
        columns = _columns(measured)
        if json_:
            print_json(
                {
                    "model": session.name,
                    "device": device,
                    "runs": runs,
                    "latency_us": {name: _percentiles(values) for name, values in columns.items()},
                }
            )
            return
        print_table(("latency", ">p50", ">p99", ">min"), [_row(name, v) for name, v in columns.items()])
        say(f"{runs} runs of one image, model {session.name}, device {device}")


def _tell_layers(
    session: Session, inputs: dict[str, Any], runs: int, drawing: Path | None, as_json: bool
) -> None:
    with working(f"Running {session.name} on device {session.device}, {runs} times"):
        found = profile(session, inputs, runs)
    if drawing is not None:
        plot(found, f"{session.name}, device {session.device}, {runs} runs").save(drawing)
    if as_json:
        print_json({"model": session.name, "device": session.device, "runs": runs, **to_json(found)})
        return
    print_layer_times(found)
    say(f"{runs} runs of one image, model {session.name}, device {session.device}; {describe(found.roof)}")


def _inputs(session: Session) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {port.name: _input(session, port, random) for port in session.interface.inputs}


def _input(session: Session, port: InputPort, random: np.random.Generator) -> Any:
    batch = port.batch or 1
    if port.image is not None:
        rule = port.image
        # As large as it must be for any resizing, so that its cost is there.
        side = max(rule.height, rule.width, rule.short_side or 0)
        rows, columns = (rule.height, rule.width) if rule.resize == "none" else (side, side)
        pixels = random.integers(0, 256, (rows, columns, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return [file.getvalue()] * batch
    shape = outer_shape(session.artifact.shapes[port.value], port)
    return random.standard_normal((batch, *shape[1:]), np.float32)


def _measure(session: Session, inputs: dict[str, Any]) -> tuple[float, tuple[RunTime, ...]]:
    start = time.perf_counter()
    _, times = session.run_timed(inputs)
    return (time.perf_counter() - start) * 1e6, times


def _columns(measured: Sequence[tuple[float, tuple[RunTime, ...]]]) -> dict[str, list[float]]:
    """Microseconds of each run by what they were spent on."""
    parts = {"device": "device_us", "host stages": "host_us", "picture": "image_us"}
    columns = {
        name: [sum(getattr(time, part) for time in times) for _, times in measured]
        for name, part in parts.items()
    }
    return {**columns, "whole": [whole for whole, _ in measured]}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "min": min(values)}


def _row(name: str, values: Sequence[float]) -> tuple[str, ...]:
    return (name, *(milliseconds(value) for value in _percentiles(values).values()))
