"""A few pictures with true labels for each known network."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from gatecast.errors import FileError

from .download import Limits, Progress
from .labels import imagenet_labels
from .networks import network
from .sources import SNOW_LEOPARD
from .weights import find_file

_SNOW_LEOPARD_INDEX = 289


@dataclass(frozen=True)
class Sample:
    """One picture: encoded bytes under a file name, the index and name of its class, its licence."""

    file: str
    index: int
    name: str
    data: bytes
    licence: str


def samples(
    name: str, *, progress: Progress | None = None, limits: Limits | None = None
) -> tuple[Sample, ...]:
    """Return pictures for the network called `name`.

    For `fashion` they are in the package: the first twelve of the test set, which training never saw. For
    ImageNet's networks it is one photograph, from the test data, the cache, or downloaded.

    Raises
    ------
    NotFoundError
        There is no such network.
    DownloadError, FileError
        As `find_file` does.
    """
    return _carried() if not network(name).sources else _snow_leopard(progress, limits)


def write_samples(name: str, folder: Path, *, progress: Progress | None = None) -> tuple[Sample, ...]:
    """Write the pictures, ``labels.csv`` (file, index, name) and ``ATTRIBUTION.txt``; return the samples.

    Raises
    ------
    FileError
        The folder cannot be written. Others as `samples`.
    """
    found = samples(name, progress=progress)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("file", "index", "name"))
    rows.writerows((sample.file, sample.index, sample.name) for sample in found)
    credits = "".join(f"{sample.file}: {sample.licence}\n" for sample in found)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for sample in found:
            (folder / sample.file).write_bytes(sample.data)
        (folder / "labels.csv").write_text(table.getvalue(), encoding="utf-8")
        (folder / "ATTRIBUTION.txt").write_text(credits, encoding="utf-8")
    except OSError as error:
        raise FileError(
            f"Folder {folder} must be writable: {error.strerror}", hint="Choose another -o."
        ) from error
    return found


def _carried() -> tuple[Sample, ...]:
    folder = Path(__file__).parent / "data" / "fashion"
    licence = (
        "Fashion-MNIST test set; MIT, (c) 2017 Zalando SE, https://github.com/zalandoresearch/fashion-mnist"
    )
    rows = csv.DictReader((folder / "labels.csv").read_text(encoding="utf-8").splitlines())
    return tuple(
        Sample(row["file"], int(row["index"]), row["name"], (folder / row["file"]).read_bytes(), licence)
        for row in rows
    )


def _snow_leopard(progress: Progress | None, limits: Limits | None) -> tuple[Sample, ...]:
    found = find_file("sample picture", (SNOW_LEOPARD,), progress=progress, limits=limits)
    return (
        Sample(
            SNOW_LEOPARD.file,
            _SNOW_LEOPARD_INDEX,
            imagenet_labels()[_SNOW_LEOPARD_INDEX],
            found.path.read_bytes(),
            f"{SNOW_LEOPARD.publisher}; {SNOW_LEOPARD.licence}",
        ),
    )
