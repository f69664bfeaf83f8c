"""Finding the weights of a known network: cache, folder, test data, download; each file checked by digest."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gatecast.errors import DownloadError, FileError
from gatecast.files import cache_folder

from .download import Limits, Progress, download, file_sha256
from .sources import Source

Place = Literal["package", "cache", "folder", "test data", "download", "file"]

SHA256_DIGITS = 64

OFFLINE_BUDGET_S = 12.0
"""For all attempts to reach a server together, when none answers."""


@dataclass(frozen=True)
class Weights:
    """A file of weights at hand.

    Parameters
    ----------
    path : Path
    place : str
        ``package``, ``cache``, ``folder`` (`GATECAST_WEIGHTS`), ``test data`` (`GATECAST_TEST_DATA`),
        ``download``, or ``file`` (given by the caller).
    source : Source, optional
        Where it is from, with licence and `test_only`. None for a file given by the caller.
    """

    path: Path
    place: Place
    source: Source | None = None

    @property
    def test_only(self) -> bool:
        """Whether the licence allows tests only."""
        return self.source is not None and self.source.test_only

    @property
    def notice(self) -> str:
        """One line for the user: what is used, from where, under which licence."""
        if self.source is None:
            return f"weights: {self.path}"
        use = "test only, non-commercial: " if self.test_only else ""
        return f"{use}weights: {self.path} ({self.place}); {self.source.publisher}; {self.source.licence}"


def find_file(
    what: str, sources: Sequence[Source], *, progress: Progress | None = None, limits: Limits | None = None
) -> Weights:
    """Return the first of `sources` that can be had: cached, in `GATECAST_WEIGHTS`, in test data, downloaded.

    Parameters
    ----------
    what : str
        For messages, such as ``weights of resnet50``.

    Raises
    ------
    FileError
        A file of one of these names in `GATECAST_WEIGHTS` or `GATECAST_TEST_DATA` is not as published, the
        folder does not exist, or the cache cannot be used.
    DownloadError
        Nothing is at hand and no download succeeded; the hint names the ways out.
    """
    try:
        return local_file(sources) or _downloaded(what, sources, progress, limits or Limits())
    except OSError as error:
        raise FileError(
            f"Cache {cache_folder()} must be readable and writable: {error}",
            hint="Name another folder in GATECAST_CACHE.",
        ) from error


def local_file(sources: Sequence[Source]) -> Weights | None:
    """Return what `find_file` would without a download, or None."""
    return _cached(sources) or _in_folder(sources) or _in_test_data(sources)


def _cached(sources: Sequence[Source]) -> Weights | None:
    for source in sources:
        path = _cache_path(source)
        if path.is_file() and not source.test_only:
            if _matches(path, source):
                return Weights(path, "cache", source)
            path.unlink()  # damaged; the next place, or a download, has a whole one
    return None


def _in_folder(sources: Sequence[Source]) -> Weights | None:
    if (folder := _named_folder("GATECAST_WEIGHTS")) is None:
        return None
    for source in sources:
        path = folder / source.file
        if path.is_file() and not source.test_only:
            return _checked(path, "folder", source)
    return None


def _in_test_data(sources: Sequence[Source]) -> Weights | None:
    if (folder := _named_folder("GATECAST_TEST_DATA")) is None:
        return None
    for source in sources:
        path = folder / (source.test_data or source.file)
        if path.is_file():
            return _checked(path, "test data", source)
    return None


def _named_folder(variable: str) -> Path | None:
    """Return the folder that an environment variable names, or None if it is not set."""
    if not (name := os.environ.get(variable)):
        return None
    if not Path(name).is_dir():
        raise FileError(
            f"{variable} must name a folder, not {name}", hint=f"Set {variable} anew, or unset it."
        )
    return Path(name)


def _checked(path: Path, place: Place, source: Source) -> Weights:
    if not _matches(path, source):
        raise FileError(
            f"{path} must have the SHA-256 {_expected(source)}, not {file_sha256(path)}",
            hint="Copy the file again from its source, or take it away from this folder.",
        )
    return Weights(path, place, source)


def _downloaded(what: str, sources: Sequence[Source], progress: Progress | None, limits: Limits) -> Weights:
    failures: list[str] = []
    offered = [source for source in sources if source.address]
    limits = replace(limits, connect_s=min(limits.connect_s, OFFLINE_BUDGET_S / max(1, len(offered))))
    for source in offered:
        path = _cache_path(source)
        expected = _expected(source)
        try:
            digest = download(
                source.address, path, sha256=expected, size=source.bytes, limits=limits, progress=progress
            )
        except DownloadError as error:
            failures.append(str(error))
        else:
            _remember(source, digest)
            return Weights(path, "download", source)
    raise DownloadError(
        f"The {what} must be at hand or downloadable: {'; '.join(failures)}", hint=_ways_out(offered)
    )


def _ways_out(sources: Sequence[Source]) -> str:
    files = " or ".join(dict.fromkeys(f"{source.file} ({_digest_words(source)})" for source in sources))
    return (
        f"(1) Put {files} into a folder and name it in GATECAST_WEIGHTS; (2) connect to the network and try "
        f"again: the file is kept in {cache_folder()}, which GATECAST_CACHE changes; (3) use a network that "
        "needs no download: fashion."
    )


def _digest_words(source: Source) -> str:
    if not source.sha256:
        return "no SHA-256 published"
    return f"SHA-256 {'begins ' if len(source.sha256) < SHA256_DIGITS else ''}{source.sha256}"


def _cache_path(source: Source) -> Path:
    return cache_folder() / "weights" / Path(source.file).name


def _matches(path: Path, source: Source) -> bool:
    return file_sha256(path).startswith(_expected(source))


def _expected(source: Source) -> str:
    """Return the digest that a file must have: the published one, else the one remembered, else none."""
    remembered = _digest_path(source)
    if remembered.is_file() and (digest := remembered.read_text().strip()).startswith(source.sha256):
        return digest
    return source.sha256


def _remember(source: Source, digest: str) -> None:
    path = _digest_path(source)
    if not path.is_file():
        path.write_text(digest + "\n")


def _digest_path(source: Source) -> Path:
    path = _cache_path(source)
    return path.with_name(path.name + ".sha256")
