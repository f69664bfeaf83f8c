"""Where the parts of each Concat lie: side by side in its buffer, so that nothing is copied.

Ref: docs/spec/isa.md §2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatecast.numerics import BLOCK_SIZE, blocks_of

from .operations import Buffer, Ref


@dataclass(frozen=True)
class Join:
    """A Concat and the Encode behind it.

    Parameters
    ----------
    value : str
        The value that it makes in the end.
    parts : tuple of str
        Values that it reads.
    channels : tuple of int
        Of each part.
    format : str
        Of the result, ``float32`` if it is not encoded.
    part_formats : tuple of str
        Of each part.
    size : tuple of int
        Rows and columns.
    """

    value: str
    parts: tuple[str, ...]
    channels: tuple[int, ...]
    format: str
    part_formats: tuple[str, ...]
    size: tuple[int, int]

    @property
    def aligned(self) -> bool:
        """Whether each part begins at a whole block."""
        return all(count % BLOCK_SIZE == 0 for count in self.channels[:-1])

    @property
    def offsets(self) -> tuple[int, ...]:
        """First block of each part, and the number of all, where each part is padded to whole blocks."""
        offsets = [0]
        for count in self.channels:
            offsets.append(offsets[-1] + blocks_of(count))
        return tuple(offsets)

    @property
    def gathered(self) -> str:
        """Name of the buffer in which unaligned parts are gathered."""
        return f"{self.value}.parts"

    @property
    def gathered_format(self) -> str:
        """Widest format of the parts: a wider format holds each narrower block exactly."""
        return max(self.part_formats)


@dataclass(frozen=True)
class Placement:
    """Buffers made for joins, and the values that lie inside one."""

    buffers: Mapping[str, Buffer]
    refs: Mapping[str, Ref]


def place_joins(joins: Sequence[Join], may_place: Callable[[str], bool]) -> Placement:
    """Give each join a buffer and its parts their places there.

    Later joins go first, so that a join whose parts already lie side by side in a later one (as in DenseNet)
    is a part of that buffer itself. A part that cannot be placed, because it lies elsewhere or in another
    format, is left out: it is copied.

    Parameters
    ----------
    joins : sequence of Join
        In the order of the graph.
    may_place : function
        Whether a value is written by an operation of its own, and so may be written anywhere.
    """
    buffers: dict[str, Buffer] = {}
    refs: dict[str, Ref] = {}
    for join in reversed(joins):
        offsets = join.offsets
        if join.aligned:
            target = refs.get(join.value) or _side_by_side(join, refs)
            fmt = join.format
        else:
            target, fmt = None, join.gathered_format
        if target is None:
            name = join.value if join.aligned else join.gathered
            buffers[name] = Buffer(name, fmt, *join.size, offsets[-1])
            target = Ref(name, 0, offsets[-1])
        if join.aligned:
            refs[join.value] = target
        for part, part_format, start, stop in zip(
            join.parts, join.part_formats, offsets, offsets[1:], strict=False
        ):
            if part_format == fmt and may_place(part):
                refs.setdefault(part, Ref(target.buffer, target.block + start, stop - start))
    return Placement(buffers, refs)


def _side_by_side(join: Join, refs: Mapping[str, Ref]) -> Ref | None:
    """Where all parts already lie in order in one buffer, as one part of it."""
    found = [refs.get(part) for part in join.parts]
    if set(join.part_formats) != {join.format} or not found[0] or len(set(join.parts)) != len(join.parts):
        return None
    block = found[0].block
    for ref, start in zip(found, join.offsets, strict=False):
        if ref is None or ref.buffer != found[0].buffer or ref.block != block + start:
            return None
    return Ref(found[0].buffer, block, join.offsets[-1])
