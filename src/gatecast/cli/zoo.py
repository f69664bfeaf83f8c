"""`gatecast zoo`: known networks."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gatecast.interchange import export
from gatecast.zoo import NETWORKS, PREPROCESSINGS, Network, Source, find_weights, load, network, write_samples

from . import options
from .terminal import count, downloading, print_json, print_table, print_text, say


@click.group("zoo")
def command() -> None:
    """List, fetch and describe known networks."""


@command.command("list")
@options.as_json
def list_(json_: bool) -> None:
    """List the networks, and the preprocessings that `compile --preprocess` takes."""
    if json_:
        print_json(
            {
                "networks": [_summary(known) for known in NETWORKS.values()],
                "preprocessings": [asdict(rule) for rule in PREPROCESSINGS.values()],
            }
        )
        return
    print_table(("network", "what", "weights"), [_network_row(known) for known in NETWORKS.values()])
    print_text("")
    print_table(
        ("preprocessing", "size", "channels", "resize"),
        [
            (rule.name, f"{rule.height} x {rule.width}", rule.channels, rule.resize)
            for rule in PREPROCESSINGS.values()
        ],
    )


@command.command()
@click.argument("name")
@options.as_json
def show(name: str, json_: bool) -> None:
    """Describe a network: its inputs, and the files of weights that it takes, with their digests."""
    known = network(name)
    if json_:
        print_json({**_summary(known), "sources": [asdict(source) for source in known.sources]})
        return
    summary = _summary(known)
    summary["labels"] = f"{len(summary['labels'])}: {'; '.join(summary['labels'][:4])}; …"
    summary["preprocessings"] = ", ".join(summary["preprocessings"])
    for key, value in summary.items():
        print_text(f"{key:16} {value}")
    print_text(
        f"{'weights':16} {'files, in the order in which they are looked for' if known.sources else 'carried'}"
    )
    for source in known.sources:
        print_text("")
        for key, value in _source_lines(source):
            print_text(f"  {key:14} {value}")


@command.command()
@click.argument("name")
@click.option(
    "-o", "--output", required=True, metavar="FILE.onnx", type=options.OUTPUT, help="File to write."
)
@click.option("--weights", type=options.FILE, help="File of weights to use instead of those that are found.")
@click.option(
    "--preprocess", metavar="NAME", help="Preprocessing, if not the one the weights were trained with."
)
def pull(name: str, output: Path, weights: Path | None, preprocess: str | None) -> None:
    """Write a network with its weights, image stage and labels as ONNX.

    Weights come from the package, the cache, the folder GATECAST_WEIGHTS, or the official source.
    """
    with downloading() as progress:
        found = weights if weights is not None else find_weights(name, progress=progress)
    if not isinstance(found, Path):
        say(found.notice)
    export(load(name, weights=found, preprocess=preprocess), output)
    say(f"Wrote {output}, {count(output.stat().st_size)} bytes")


@command.command()
@click.argument("name")
@click.option("-o", "--output", required=True, metavar="DIR", type=options.FILE, help="Folder to write to.")
def samples(name: str, output: Path) -> None:
    """Write a few pictures that suit a network, and labels.csv with their classes."""
    with downloading() as progress:
        written = write_samples(name, output, progress=progress)
    print_table(("file", ">class", "name"), [(sample.file, sample.index, sample.name) for sample in written])
    say(f"Wrote {len(written)} picture(s), labels.csv and ATTRIBUTION.txt to {output}")


def _network_row(known: Network) -> tuple[str, str, str]:
    return (known.name, known.description, "downloaded" if known.sources else "carried by the package")


def _summary(known: Network) -> dict[str, Any]:
    return {
        "name": known.name,
        "description": known.description,
        "licence": known.licence,
        "preprocessings": list(known.preprocessings),
        "labels": list(known.labels()),
    }


def _digest(sha256: str) -> str:
    if not sha256:
        return "not published; the first download's is remembered"
    return sha256 if len(sha256) == 64 else f"starts with {sha256}, as published"


def _source_lines(source: Source) -> list[tuple[str, object]]:
    use = "tests only, non-commercial; looked for under GATECAST_TEST_DATA" if source.test_only else ""
    reached = "" if source.reached or not source.address else " (untested: it was never reached)"
    lines = [
        ("file", source.file),
        ("SHA-256", _digest(source.sha256)),
        ("bytes", count(source.bytes) if source.bytes else ""),
        ("address", f"{source.address}{reached}"),
        ("publisher", source.publisher),
        ("licence", source.licence),
        ("preprocessing", source.preprocessing),
        ("use", use),
    ]
    return [(key, value) for key, value in lines if value]
