"""Where buffers live: on chip, or in a section of external memory."""

from collections.abc import Mapping
from dataclasses import dataclass

from gatecast.isa import Port, Section
from gatecast.numerics import BLOCK_SIZE, FORMATS

from .operations import Buffer, Deliver, Fetch, Lowered, Range
from .steps import Area


@dataclass(frozen=True)
class Region:
    """Rows, columns and blocks of a buffer."""

    rows: Range
    columns: Range
    blocks: Range

    @property
    def extent(self) -> tuple[int, int, int]:
        """How many of each."""
        return (
            self.rows[1] - self.rows[0],
            self.columns[1] - self.columns[0],
            self.blocks[1] - self.blocks[0],
        )

    @property
    def size(self) -> int:
        """Blocks."""
        rows, columns, blocks = self.extent
        return rows * columns * blocks


@dataclass(frozen=True)
class Home:
    """A place in external memory.

    Parameters
    ----------
    section : Section
    layout : Port
        Pitches, and offsets within the section, or within `area`.
    area : str, optional
        Area of the workspace.
    """

    section: Section
    layout: Port
    area: str | None = None

    def fields(self, region: Region) -> tuple[dict[str, int], dict[str, tuple[str, int]]]:
        """External fields of a `load` or `store` of a region, and its places."""
        layout = self.layout
        (y, _), (x, _), (block, _) = region.rows, region.columns, region.blocks
        place = x * layout.pixel_pitch + block
        starts = {"offset": layout.offset + y * layout.row_pitch + place * block_bytes(layout.format)}
        fixed = {
            "section": int(self.section),
            "row_pitch": layout.row_pitch,
            "pixel_pitch": layout.pixel_pitch,
        }
        if layout.format != "float32":
            starts["exponents"] = layout.exponents + y * layout.exponent_pitch + place
            fixed["exponent_pitch"] = layout.exponent_pitch
        if self.area is None:
            return {**fixed, **starts}, {}
        return fixed, {name: (self.area, start) for name, start in starts.items()}


def block_bytes(fmt: str) -> int:
    """Bytes of the mantissas of a block, or of a vector, in external memory."""
    return 4 * BLOCK_SIZE if fmt == "float32" else FORMATS[fmt].block_bytes


def homes(lowered: Lowered, outside: frozenset[str]) -> Mapping[str, Home]:
    """Homes of the buffers that are outside.

    An input that is a buffer by itself stays in the section `inputs`; an output that nothing else reads is
    written to `outputs` at once; all others get an area of the workspace, named like the buffer.
    """
    found = {}
    for name in sorted(outside & set(lowered.buffers)):
        buffer = lowered.buffers[name]
        home = _port_home(lowered, buffer)
        if home is None:
            layout = Port.packed(
                name, (buffer.rows, buffer.columns, buffer.blocks * BLOCK_SIZE), buffer.format
            )
            home = Home(Section.WORKSPACE, layout, name)
        found[name] = home
    return found


def workspace_area(home: Home) -> Area:
    """Area of the workspace that a home needs."""
    return Area(home.layout.name, "workspace", home.layout.end)


def _port_home(lowered: Lowered, buffer: Buffer) -> Home | None:
    users = [
        operation
        for operation in lowered.operations
        if any(ref.buffer == buffer.name for ref in (*operation.reads, *operation.writes))
    ]
    ports = {port.name: port for port in lowered.inputs}
    for operation in users:
        if isinstance(operation, Fetch) and operation.out.blocks == buffer.blocks:
            return Home(Section.INPUTS, ports[operation.port])
    ports = {port.name: port for port in lowered.outputs}
    reads = [o for o in users if any(ref.buffer == buffer.name for ref in o.reads)]
    if len(reads) == 1 and isinstance(reads[0], Deliver) and reads[0].source.blocks == buffer.blocks:
        return Home(Section.OUTPUTS, ports[reads[0].port])
    return None
