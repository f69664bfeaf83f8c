"""`gatecast demo`: from a trained network to answers over gRPC, in one command."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from gatecast.artifact import Artifact
from gatecast.client import PredictionClient
from gatecast.compiler import compile as compile_graph
from gatecast.graph import Graph, Signature
from gatecast.quantization import quantize
from gatecast.runtime import RunTime, Session, open_session
from gatecast.serving import ModelSource, Server, ServerOptions
from gatecast.zoo import Sample, find_weights, load, network, samples

from . import options
from .scores import best, probabilities
from .tensors import read_picture
from .terminal import downloading, milliseconds, print_table, print_text, say, size

Float32 = npt.NDArray[np.float32]

ENOUGH_CALLS = 60
"""Calls after which the latencies are printed."""

ENOUGH_S = 5.0
"""Seconds after which no further round of calls is begun."""

CALL_TIMEOUT_S = 300.0
"""Of one call: the device `reference` takes its time for a large network."""


@dataclass(frozen=True)
class Recorded:
    """A session that remembers the times of its runs; what a server needs of a session."""

    session: Session
    times: list[RunTime] = field(default_factory=list)

    @property
    def signature(self) -> Signature:
        """Of the session."""
        return self.session.signature

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the session."""
        return self.session.labels

    @property
    def input_aliases(self) -> Mapping[str, str]:
        """Of the session."""
        return self.session.input_aliases

    @property
    def output_aliases(self) -> Mapping[str, str]:
        """Of the session."""
        return self.session.output_aliases

    def run(self, inputs: Mapping[str, Any], outputs: Iterable[str] | None = None) -> dict[str, Float32]:
        """Run the session and keep the times."""
        results, times = self.session.run_timed(inputs, outputs)
        self.times.extend(times)
        return results

    def close(self) -> None:
        """Close the session."""
        self.session.close()


@dataclass(frozen=True)
class Answers:
    """What the server answered: scores of each picture, and microseconds of each call in order."""

    scores: Float32
    call_us: tuple[float, ...]
    device_us: tuple[float, ...]


@click.command("demo")
@click.option("--model", default="fashion", show_default=True, help="A network of `gatecast zoo list`.")
@click.option(
    "--image", "images", multiple=True, type=options.FILE, help="Picture to send instead. May be repeated."
)
@click.option("--format", "formats", default="bfp8", show_default=True, help="Formats to quantise to.")
@options.device
def command(model: str, images: Sequence[Path], formats: str, device: str) -> None:
    """Show the whole path, from a trained network to answers over gRPC.

    Takes a trained network, quantises it, compiles it, serves the artifact on this machine, sends it pictures
    as files over gRPC, and prints what it answered beside the true labels. The server ends with the command.
    """
    with downloading() as progress:
        weights = find_weights(model, progress=progress)
        pictures = _read(images) if images else samples(model, progress=progress)
    print_text(f"network: {model}, {network(model).description}")
    print_text(weights.notice)
    for licence in dict.fromkeys(picture.licence for picture in pictures if picture.licence):
        print_text(f"pictures: {licence}")
    graph = load(model, weights=weights)
    with TemporaryDirectory(prefix="gatecast-demo-") as folder:
        path = Path(folder) / f"{model}.gcast"
        artifact = _compile(graph, formats, path)
        answers = _serve_and_ask(path, device, pictures)
    expected = _float_scores(graph, pictures)
    _print(pictures, artifact, answers, expected)


def _read(images: Sequence[Path]) -> tuple[Sample, ...]:
    """Pictures of the user's, whose classes are not known."""
    return tuple(Sample(path.name, -1, "", read_picture(path), "") for path in images)


def _compile(graph: Graph, formats: str, path: Path) -> Artifact:
    start = time.perf_counter()
    quantized = quantize(graph, formats)
    middle = time.perf_counter()
    artifact: Artifact = compile_graph(quantized, "software")
    artifact.save(path)
    end = time.perf_counter()
    say(f"Quantised to {formats} in {middle - start:.1f} s")
    say(f"Compiled and saved in {end - middle:.1f} s: {path.name}, {size(path.stat().st_size)}")
    return artifact


def _serve_and_ask(path: Path, device: str, pictures: Sequence[Sample]) -> Answers:
    """Serve the artifact on free ports of this machine while the pictures are sent, again and again."""
    opened: list[Recorded] = []

    def open_recorded(artifact: Path) -> Recorded:
        opened.append(Recorded(open_session(artifact, device=device)))
        return opened[-1]

    options_ = ServerOptions(port=0, rest_port=0)
    with Server([ModelSource("default", path)], open_recorded, options_) as server:
        say(f"Serving on 127.0.0.1:{server.port} (gRPC) and {server.rest_port} (REST)")
        with PredictionClient(f"127.0.0.1:{server.port}") as client:
            scores, call_us = _ask(client, pictures)
    return Answers(scores, call_us, tuple(run.device_us for run in opened[0].times))


def _ask(client: PredictionClient, pictures: Sequence[Sample]) -> tuple[Float32, tuple[float, ...]]:
    call = partial(client.predict, timeout=CALL_TIMEOUT_S)
    rounds: list[list[Float32]] = []
    call_us: list[float] = []
    start = time.perf_counter()
    while not rounds or (len(call_us) < ENOUGH_CALLS and time.perf_counter() - start < ENOUGH_S):
        rounds.append([])
        for picture in pictures:
            before = time.perf_counter()
            outputs = call({"images": [picture.data]})
            call_us.append((time.perf_counter() - before) * 1e6)
            rounds[-1].append(next(iter(outputs.values())).reshape(-1))
    return np.stack(rounds[0]), tuple(call_us)


def _float_scores(graph: Graph, pictures: Sequence[Sample]) -> Float32:
    """Scores of the float network on the host, for comparison."""
    name, output = graph.interface.inputs[0].name, graph.interface.outputs[0].name
    with open_session(compile_graph(graph, "software")) as session:
        runs = [session.run({name: [picture.data]})[output].reshape(-1) for picture in pictures]
    return np.stack(runs)


def _print(pictures: Sequence[Sample], artifact: Artifact, answers: Answers, expected: Float32) -> None:
    labels, scores = artifact.interface.labels, probabilities(answers.scores)
    agrees = answers.scores.argmax(axis=1) == expected.argmax(axis=1)
    rows = [
        (
            picture.file,
            picture.name or "not known",
            *(f"{name or index} {score:.1%}" for index, name, score in best(row, labels, 3)),
            "yes" if agree else "no",
        )
        for picture, row, agree in zip(pictures, scores, agrees, strict=True)
    ]
    print_text("")
    print_table(("picture", "true label", "first", "second", "third", "same as float"), rows)
    known = [(p.index, int(row.argmax())) for p, row in zip(pictures, scores, strict=True) if p.index >= 0]
    if known:
        right = sum(true == found for true, found in known)
        print_text(
            f"\nRight: {right} of {len(known)}.  Same first class as the float network: "
            f"{int(agrees.sum())} of {len(agrees)}."
        )
    print_text("")
    latencies = (("device", answers.device_us), ("whole call over gRPC", answers.call_us))
    print_table(
        (f"latency, {len(answers.call_us)} calls of one picture", ">p50", ">p99"),
        [(name, *(milliseconds(v) for v in np.percentile(values, (50, 99)))) for name, values in latencies],
    )
