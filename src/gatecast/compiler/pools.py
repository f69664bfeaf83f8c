"""How pools become operations. Ref: docs/spec/isa.md §6, pool."""

from collections.abc import Sequence

import numpy as np

from gatecast import graph as op
from gatecast.errors import CompileError
from gatecast.isa import MapOperation
from gatecast.numerics import BLOCK_SIZE, average_factor

from .chain import Chain, Lowering
from .epilogue import last_channels
from .operations import Area, Convolve, Epilogue, Kernel, Map, Operation, Pool, Ref
from .panels import ones

_FIELD = 255
"""Most that a kernel of an instruction may be."""


def max_pool(root: op.MaxPool, chain: Chain, state: Lowering) -> list[Operation]:
    """One operation, or maxima of some rows of each window where a window is too large."""
    kernel = Kernel(root.kernel, root.stride, (1, 1), (root.pads[0], root.pads[1]))
    source = state.ref(root.inputs[0])
    whole = (Area((0, chain.size[0]), (0, chain.size[1]), 0.0),)
    if _fits(kernel, state):
        out = chain.place(state)
        return [Pool(layer=root.name, maximum=True, source=source, out=out, kernel=kernel, areas=whole)]
    if any(root.pads) or root.ceil:
        raise CompileError(
            f"Layer {root.name} must have a kernel that fits {state.architecture.name}, or no padding, "
            f"not {root.kernel} with padding {root.pads}"
        )
    return _max_pool_by_rows(chain, state, kernel, source)


def _fits(kernel: Kernel, state: Lowering) -> bool:
    """Whether one window of a pool, and its result, fit on chip."""
    rows, columns = kernel.size
    return max(rows, columns) <= _FIELD and rows * columns < state.architecture.activation_blocks


def _max_pool_by_rows(chain: Chain, state: Lowering, kernel: Kernel, source: Ref) -> list[Operation]:
    """Maxima of some rows of each window, kept in float32; then the maximum of those."""
    rows, columns = kernel.size
    height = min(_FIELD, rows - 1, (state.architecture.activation_blocks - 1) // columns)
    if columns > _FIELD or height < 1:
        raise CompileError(
            f"Layer {chain.root.name} must have a row of its kernel fit {state.architecture.name}, "
            f"not {columns} pixels"
        )
    found: list[Operation] = []
    whole = (Area((0, chain.size[0]), (0, chain.size[1]), 0.0),)
    previous: Ref | None = None
    for top in range(0, rows, height):
        part = Kernel((min(height, rows - top), columns), kernel.stride, (1, 1), (-top, 0))
        out = state.place(f"{chain.value}.max{top}", chain.size, "float32")
        found.append(
            Pool(layer=chain.root.name, maximum=True, source=source, out=out, kernel=part, areas=whole)
        )
        if previous is not None:
            last = top + height >= rows
            target = (
                chain.place(state) if last else state.place(f"{chain.value}.to{top}", chain.size, "float32")
            )
            found.append(
                Map(
                    layer=chain.root.name,
                    a=previous,
                    b=out,
                    out=target,
                    operation=MapOperation.MAXIMUM,
                    epilogue=Epilogue(last_channels=last_channels(chain.size[2])),
                )
            )
            out = target
        previous = out
    return found


def average_pool(root: op.AveragePool, chain: Chain, state: Lowering) -> list[Operation]:
    """One operation, with an area for each number that windows divide by."""
    counts = _counts(root, chain)
    kernel = Kernel(root.kernel, root.stride, (1, 1), (root.pads[0], root.pads[1]))
    areas = tuple(
        Area(rows, columns, float(average_factor(int(counts[0][rows[0]] * counts[1][columns[0]]))))
        for rows in _runs(counts[0])
        for columns in _runs(counts[1])
    )
    return _average(chain, state, kernel, areas)


def _counts(root: op.AveragePool, chain: Chain) -> list[list[int]]:
    """Positions that each window divides by, along rows and along columns."""
    found = []
    for axis in (0, 1):
        size, before, after = chain.source_size()[axis], root.pads[axis], root.pads[axis + 2]
        low, high = (-before, size + after) if root.count_pads else (0, size)
        starts = [i * root.stride[axis] - before for i in range(chain.size[axis])]
        found.append([min(start + root.kernel[axis], high) - max(start, low) for start in starts])
    return found


def _runs(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of equal neighbours."""
    starts = [i for i, count in enumerate(counts) if i == 0 or count != counts[i - 1]]
    return list(zip(starts, [*starts[1:], len(counts)], strict=True))


def global_average_pool(root: op.GlobalAveragePool, chain: Chain, state: Lowering) -> list[Operation]:
    """An average over a window of the whole map."""
    rows, columns, _ = chain.source_size()
    area = Area((0, 1), (0, 1), float(average_factor(rows * columns)))
    return _average(chain, state, Kernel((rows, columns)), (area,))


def _average(chain: Chain, state: Lowering, kernel: Kernel, areas: tuple[Area, ...]) -> list[Operation]:
    name, source = chain.root.name, state.ref(chain.root.inputs[0])
    if _fits(kernel, state):
        out = chain.place(state)
        return [Pool(layer=name, maximum=False, source=source, out=out, kernel=kernel, areas=areas)]
    if len(areas) > 1:
        raise CompileError(
            f"Layer {name} must have a kernel that fits {state.architecture.name}, or divide by one number, "
            f"not {kernel.size} with padding"
        )
    return _average_by_convolution(chain, state, kernel, areas[0].factor)


def _average_by_convolution(chain: Chain, state: Lowering, kernel: Kernel, factor: float) -> list[Operation]:
    """Sums of a depthwise convolution with weights 1, which can be cut; then the factor as a scale."""
    name, source = chain.root.name, state.ref(chain.root.inputs[0])
    sums = state.place(f"{chain.value}.sums", chain.size, "float32")
    channels = last_channels(chain.size[2])
    scale = np.full((sums.blocks, BLOCK_SIZE), factor, np.float32)
    return [
        Convolve(
            layer=name,
            source=source,
            out=sums,
            kernel=kernel,
            panels=ones(sums.blocks, kernel.size),
            in_blocks=1,
            group_blocks=1,
            epilogue=Epilogue(last_channels=channels),
        ),
        Map(
            layer=name,
            a=sums,
            out=chain.place(state),
            epilogue=Epilogue(scale=scale, shift=np.zeros_like(scale), last_channels=channels),
        ),
    ]
