"""Writes the steps of one operation from its plan: loads, weights, the tiles themselves, stores."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import singledispatchmethod

from gatecast.errors import CompileError
from gatecast.isa import PoolOperation, Section

from .homes import Home, Region
from .operations import (
    Convolve,
    Deliver,
    Epilogue,
    Fetch,
    Kernel,
    Lowered,
    Map,
    Operation,
    Pool,
    Range,
    Ref,
)
from .plan import FIELD, Plan, block_ranges, is_broadcast, output_of, read_blocks
from .steps import Area, Chunk, ConstantChunk, Part, Step, WeightChunk

Fields = dict[str, int | float | str]
Places = dict[str, tuple[str, int]]


@dataclass(frozen=True)
class Tile:
    """Output rows, columns and blocks; blocks count from the first one of the operation's output."""

    rows: Range
    columns: Range
    blocks: Range

    @property
    def extent(self) -> tuple[int, int, int]:
        """How many of each."""
        return Region(self.rows, self.columns, self.blocks).extent


@dataclass
class Writer:
    """Collects steps and areas of all operations.

    Parameters
    ----------
    lowered : Lowered
    homes : mapping of buffer name to Home
        Of buffers that are not on chip.
    keeps_weights, keeps_constants : bool
        Whether they are loaded once, in the prologue.
    """

    lowered: Lowered
    homes: Mapping[str, Home]
    keeps_weights: bool
    keeps_constants: bool
    prologue: list[Step] = field(default_factory=list)
    body: list[Step] = field(default_factory=list)
    areas: dict[str, Area] = field(default_factory=dict)
    _held: dict[str, object] = field(default_factory=dict)
    _turn: dict[str, int] = field(default_factory=dict)
    _chunks: dict[object, tuple[str, Chunk]] = field(default_factory=dict)

    def write(self, number: int, operation: Operation, plan: Plan) -> None:
        """Append the steps of operation `number`."""
        self._held.clear()
        self._turn.clear()
        self._number, self._layer, self._plan = number, operation.layer, plan
        for slot in plan.slots:
            for turn in range(slot.count):
                self._add_area(Area(self._slot_area(slot.name, turn), slot.memory, slot.size))
        for tile in self._tiles(operation):
            self._tile(operation, tile)

    def _add_area(self, area: Area) -> str:
        self.areas[area.name] = area
        return area.name

    def _slot_area(self, slot: str, turn: int) -> str:
        return f"{self._number}.{slot}.{turn}"

    def _tiles(self, operation: Operation) -> Iterator[Tile]:
        pixels = list(self._pixels(operation))
        ranges = block_ranges(operation, self._plan.tile[2])
        if self._plan.blocks_first:
            yield from (Tile(rows, columns, blocks) for blocks in ranges for rows, columns in pixels)
        else:
            yield from (Tile(rows, columns, blocks) for rows, columns in pixels for blocks in ranges)

    def _pixels(self, operation: Operation) -> Iterator[tuple[Range, Range]]:
        buffer = self.lowered.buffers[output_of(operation).buffer]
        for rows in _ranges(buffer.rows, self._plan.tile[0]):
            for columns in _ranges(buffer.columns, self._plan.tile[1]):
                yield rows, columns

    @singledispatchmethod
    def _tile(self, operation: Operation, tile: Tile) -> None:
        raise CompileError(f"Operation of {operation.layer} must be a known one, not {type(operation)}")

    @_tile.register
    def _convolve(self, operation: Convolve, tile: Tile) -> None:
        for part in self._plan.parts:
            self._convolve_part(operation, tile, part)
        self._store(operation.out, tile)

    def _convolve_part(self, operation: Convolve, tile: Tile, part: Part) -> None:
        first, last = part == self._plan.parts[0], part == self._plan.parts[-1]
        fields, places = self._weights(operation, tile, part)
        kernel = operation.kernel
        begin = 0
        if operation.group_blocks:
            begin = tile.blocks[0] // operation.group_blocks * operation.in_blocks
            inside = tile.blocks[1] <= (tile.blocks[0] // operation.group_blocks + 1) * operation.group_blocks
            fields["group_blocks"] = 0 if inside else operation.group_blocks
        begin += part.blocks[0]
        blocks = (begin, begin + read_blocks(operation, tile.blocks, part))
        self._window(operation.source, tile, (kernel, part), blocks, fields, places)
        fields |= {"in_blocks": part.size[2], "suspend": int(not last), "resume": int(not first)}
        for axis, name in enumerate("yx"):
            fields[f"dilation_{name}"] = kernel.dilation[axis] if part.size[axis] > 1 else 1
        if not (first and last):
            places["partials"] = (self._slot_area("partials", 0), 0)
        if last:
            self._finish(operation.epilogue, operation.out, tile, fields, places)
            if operation.residual is not None:
                self._view("residual", operation.residual, _region(tile), fields, places)
        else:
            _set_extent("out", tile.extent, fields)
        self._add("convolve", fields, places)

    def _weights(self, operation: Convolve, tile: Tile, part: Part) -> tuple[Fields, Places]:
        chunk = WeightChunk(operation.panels, tile.blocks, part)
        area = self._chunk("weights", (tile.blocks, part), chunk, self.keeps_weights)
        return {"weight_format": operation.panels.format}, {"weights": (area, 0)}

    def _chunk(self, kind: str, key: object, chunk: Chunk, keep: bool) -> str:
        """Area that holds a chunk, loaded if it is not there."""
        memory = "weight" if kind == "weights" else "vector"
        if keep:
            name = f"{self._number}.{kind}.{key}"
            if name not in self.areas:
                self._load_chunk(self._add_area(Area(name, memory, chunk.count)), chunk, self.prologue)
            return name
        if self._held.get(kind) != key:
            if kind == "weights":
                name = self._add_area(Area(f"{kind}.{len(self.body)}", memory, chunk.count))
            else:
                name = self._slot_area(kind, 0)
            self._load_chunk(name, chunk, self.body)
            self._held[kind], self._held[f"{kind}.area"] = key, name
        return str(self._held[f"{kind}.area"])

    def _load_chunk(self, area: str, chunk: Chunk, steps: list[Step]) -> None:
        fields: Fields = {"section": 0, "count": chunk.count}
        name = "constants"
        if isinstance(chunk, WeightChunk):
            fields["format"], name = chunk.panels.format, "weights"
        steps.append(Step(name, self._layer, self._number, fields, {"address": (area, 0)}, chunk))

    @_tile.register
    def _pool(self, operation: Pool, tile: Tile) -> None:
        whole = Part((0, operation.kernel.size[0]), (0, operation.kernel.size[1]), (0, 0))
        for area in operation.areas:
            rows, columns = _meet(tile.rows, area.rows), _meet(tile.columns, area.columns)
            if rows[0] >= rows[1] or columns[0] >= columns[1]:
                continue
            part = Tile(rows, columns, tile.blocks)
            fields: Fields = {
                "operation": PoolOperation.MAXIMUM if operation.maximum else PoolOperation.AVERAGE
            }
            places: Places = {}
            if not operation.maximum:
                fields["factor"] = area.factor
            self._window(operation.source, part, (operation.kernel, whole), part.blocks, fields, places)
            self._output(operation.out, part, fields, places)
            self._add("pool", fields, places)
            self._store(operation.out, part)

    @_tile.register
    def _map(self, operation: Map, tile: Tile) -> None:
        fields: Fields = {"operation": operation.operation}
        places: Places = {}
        for name, ref in (("a", operation.a), ("b", operation.b)):
            if ref is None:
                continue
            region = _region(tile)
            if is_broadcast(operation, ref, self.lowered.buffers):
                self._view(name, ref, Region((0, 1), (0, 1), tile.blocks), fields, places)
                fields |= {f"{name}_row": 0, f"{name}_pixel": 0}
                continue
            if name == "a":
                up, across = operation.repeat
                fields |= {"repeat_y": up, "repeat_x": across}
                region = Region(_shrunk(tile.rows, up), _shrunk(tile.columns, across), tile.blocks)
            self._view(name, ref, region, fields, places)
        self._finish(operation.epilogue, operation.out, tile, fields, places)
        self._add("map", fields, places)
        self._store(operation.out, tile)

    @_tile.register
    def _fetch(self, operation: Fetch, tile: Tile) -> None:
        port = next(port for port in self.lowered.inputs if port.name == operation.port)
        fields, places = Home(Section.INPUTS, port).fields(_region(tile))
        out: Fields = {**fields}
        self._output(operation.out, tile, out, places)
        self._add("load", out, places)
        self._store(operation.out, tile)

    @_tile.register
    def _deliver(self, operation: Deliver, tile: Tile) -> None:
        port = next(port for port in self.lowered.outputs if port.name == operation.port)
        fields, places = Home(Section.OUTPUTS, port).fields(_region(tile))
        out: Fields = {**fields}
        self._view("in", operation.source, _region(tile), out, places)
        _set_extent("in", tile.extent, out)
        self._add("store", out, places)

    def _add(self, name: str, fields: Fields, places: Places) -> None:
        self.body.append(Step(name, self._layer, self._number, fields, places))

    def _window(
        self,
        ref: Ref,
        tile: Tile,
        window: tuple[Kernel, Part],
        blocks: Range,
        fields: Fields,
        places: Places,
    ) -> None:
        """Fields of a window: what is stored are the rows and columns that the tile needs."""
        kernel, part = window
        buffer = self.lowered.buffers[ref.buffer]
        ranges, taps = [], (part.rows, part.columns)
        for axis, (outputs, size) in enumerate(((tile.rows, buffer.rows), (tile.columns, buffer.columns))):
            stride, dilation = kernel.stride[axis], kernel.dilation[axis]
            first = outputs[0] * stride - kernel.before[axis] + taps[axis][0] * dilation
            last = first + (outputs[1] - outputs[0] - 1) * stride + (part.size[axis] - 1) * dilation
            stored = (0, size)
            if ref.buffer in self.homes:
                low = min(max(first, 0), size - 1)
                stored = (low, max(min(last + 1, size), low + 1))
            ranges.append(stored)
            name, what = ("y", "rows") if axis == 0 else ("x", "columns")
            fields |= {
                f"in_{name}": first - stored[0],
                f"in_{what}": stored[1] - stored[0],
                f"kernel_{what}": part.size[axis],
                f"stride_{name}": stride if stride <= FIELD else 1,
            }
        self._view("in", ref, Region(ranges[0], ranges[1], blocks), fields, places)

    def _view(self, name: str, ref: Ref, region: Region, fields: Fields, places: Places) -> None:
        """Fields of a view of some region of a ref, which is loaded first if it is not on chip."""
        region = _within(ref, region)
        buffer = self.lowered.buffers[ref.buffer]
        if ref.buffer in self.homes:
            area, offset = self._loaded(name, ref.buffer, region), 0
            pixel = region.extent[2]
            row = region.extent[1] * pixel
        else:
            area, pixel = ref.buffer, buffer.blocks
            row = buffer.columns * pixel
            offset = region.rows[0] * row + region.columns[0] * pixel + region.blocks[0]
        fields |= {f"{name}_format": buffer.format, f"{name}_row": row, f"{name}_pixel": pixel}
        places[f"{name}_address"] = (area, offset)

    def _loaded(self, slot: str, buffer: str, region: Region) -> str:
        """Area of a slot that holds a region, loaded if it is not there."""
        count = next(found.count for found in self._plan.slots if found.name == slot)
        names = [self._slot_area(slot, turn) for turn in range(count)]
        for name in names:
            if self._held.get(name) == (buffer, region):
                return name
        name = names[self._next(slot, count)]
        self._held[name] = (buffer, region)
        fixed, places = self.homes[buffer].fields(region)
        fields: Fields = {**fixed}
        _set_packed("out", self.lowered.buffers[buffer].format, region, fields)
        self._add("load", fields, {**places, "out_address": (name, 0)})
        return name

    def _next(self, slot: str, count: int) -> int:
        self._turn[slot] = (self._turn.get(slot, -1) + 1) % count
        return self._turn[slot]

    def _finish(self, epilogue: Epilogue, out: Ref, tile: Tile, fields: Fields, places: Places) -> None:
        """Fields of an epilogue and of the output."""
        vectors = epilogue.vectors
        if vectors:
            chunk = ConstantChunk(epilogue, tile.blocks)
            area = self._chunk("constants", tile.blocks, chunk, self.keeps_constants)
            places |= {name: (area, offset) for name, offset in chunk.offsets.items()}
            fields |= {f"has_{name}": 1 for name in vectors if name != "shift"}
        fields |= {"activation": epilogue.activation, "low": epilogue.low, "high": epilogue.high}
        if tile.blocks[1] == out.blocks:
            fields["last_channels"] = epilogue.last_channels
        self._output(out, tile, fields, places)

    def _output(self, out: Ref, tile: Tile, fields: Fields, places: Places) -> None:
        _set_extent("out", tile.extent, fields)
        region, buffer = _within(out, _region(tile)), self.lowered.buffers[out.buffer]
        if out.buffer not in self.homes:
            self._view("out", out, _region(tile), fields, places)
            return
        count = next(found.count for found in self._plan.slots if found.name == "out")
        name = self._slot_area("out", self._next("out", count))
        _set_packed("out", buffer.format, region, fields)
        places["out_address"] = (name, 0)

    def _store(self, out: Ref, tile: Tile) -> None:
        """Store what a tile has made, if it does not live on chip."""
        if out.buffer not in self.homes:
            return
        region = _within(out, _region(tile))
        fixed, places = self.homes[out.buffer].fields(region)
        fields: Fields = {**fixed}
        _set_packed("in", self.lowered.buffers[out.buffer].format, region, fields)
        area = self._slot_area("out", self._turn["out"])
        self._add("store", fields, {**places, "in_address": (area, 0)})


def _ranges(size: int, step: int) -> list[Range]:
    return [(first, min(first + step, size)) for first in range(0, size, step)]


def _region(tile: Tile) -> Region:
    return Region(tile.rows, tile.columns, tile.blocks)


def _within(ref: Ref, region: Region) -> Region:
    """The region with blocks counted from the buffer's first one."""
    first, last = region.blocks
    return Region(region.rows, region.columns, (ref.block + first, ref.block + last))


def _meet(first: Range, second: Range) -> Range:
    return max(first[0], second[0]), min(first[1], second[1])


def _shrunk(outputs: Range, repeat: int) -> Range:
    """Rows or columns that are repeated into `outputs`, which begin at a multiple of `repeat`."""
    return outputs[0] // repeat, -(-outputs[1] // repeat)


def _set_extent(name: str, extent: tuple[int, int, int], fields: Fields) -> None:
    rows, columns, blocks = extent
    fields |= {f"{name}_rows": rows, f"{name}_columns": columns, f"{name}_blocks": blocks}


def _set_packed(name: str, fmt: str, region: Region, fields: Fields) -> None:
    """Fields of a view without gaps, and its extent."""
    _, columns, blocks = region.extent
    fields |= {f"{name}_format": fmt, f"{name}_row": columns * blocks, f"{name}_pixel": blocks}
    _set_extent(name, region.extent, fields)
