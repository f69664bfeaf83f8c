"""Instructions as chains of operations, for people. See docs/spec/isa.md §9."""

from collections.abc import Callable, Iterable

from .fields import FORMAT_NAMES, NONE, Activation, MapOperation, PoolOperation, Section
from .instructions import Instruction, unit_of

_ARROW = " → "


def chain(instruction: Instruction) -> str:
    """One instruction, such as ``rd 16x8x1 → mv_mul 7x1x1 → add → relu → wr 4x8x2``."""
    return _ARROW.join(_CHAINS[instruction.name](instruction))


def chains(instructions: Iterable[Instruction], layers: tuple[str, ...] = ()) -> str:
    """A line for each instruction: number, unit, layer and chain."""
    lines = []
    for number, instruction in enumerate(instructions):
        layer = layers[instruction.layer] if instruction.layer < len(layers) else str(instruction.layer)
        lines.append(f"{number:5d} {unit_of(instruction):8s}{layer}: {chain(instruction)}\n")
    return "".join(lines)


def _extent(instruction: Instruction, view: str) -> str:
    rows, columns, blocks = (getattr(instruction, f"{view}_{part}") for part in ("rows", "columns", "blocks"))
    return f"{rows}x{columns}x{blocks}"


def _section(instruction: Instruction) -> str:
    return Section(instruction.section).name.lower()


def _write(instruction: Instruction) -> str:
    return f"wr {_extent(instruction, 'out')} {FORMAT_NAMES[instruction.out_format]}"


def _window(instruction: Instruction) -> str:
    return f"rd {instruction.in_rows}x{instruction.in_columns}"


def _tail(instruction: Instruction) -> Iterable[str]:
    if instruction.has_scale:
        yield from ("mul", "add")
    if instruction.has("residual_format") and instruction.residual_format != NONE:
        yield "add residual"
    if instruction.activation:
        yield Activation(instruction.activation).name.lower()
    yield _write(instruction)


def _end(instruction: Instruction) -> Iterable[str]:
    return ("end",)


def _sync(instruction: Instruction) -> Iterable[str]:
    return ("sync",)


def _load(instruction: Instruction) -> Iterable[str]:
    return (f"dma_rd {_section(instruction)}", _write(instruction))


def _store(instruction: Instruction) -> Iterable[str]:
    return (f"rd {_extent(instruction, 'in')}", f"dma_wr {_section(instruction)}")


def _weights(instruction: Instruction) -> Iterable[str]:
    return (f"dma_rd {_section(instruction)}", f"m_wr {instruction.count} panels")


def _constants(instruction: Instruction) -> Iterable[str]:
    return (f"dma_rd {_section(instruction)}", f"v_wr {instruction.count} vectors")


def _convolve(instruction: Instruction) -> Iterable[str]:
    yield _window(instruction)
    kernel = f"{instruction.kernel_rows}x{instruction.kernel_columns}x{instruction.in_blocks}"
    yield f"mv_mul {kernel}" + (f" groups of {instruction.group_blocks}" if instruction.group_blocks else "")
    if instruction.resume:
        yield "add partials"
    if instruction.suspend:
        yield f"wr {_extent(instruction, 'out')} partials"
        return
    if instruction.has_bias:
        yield "add"
    yield from _tail(instruction)


def _pool(instruction: Instruction) -> Iterable[str]:
    yield _window(instruction)
    yield (
        f"{PoolOperation(instruction.operation).name.lower()} "
        f"{instruction.kernel_rows}x{instruction.kernel_columns}"
    )
    yield _write(instruction)


def _map(instruction: Instruction) -> Iterable[str]:
    yield "rd a" if instruction.operation == MapOperation.COPY else "rd a, b"
    if instruction.operation != MapOperation.COPY:
        yield f"vv_{MapOperation(instruction.operation).name.lower()}"
    yield from _tail(instruction)


_CHAINS: dict[str, Callable[[Instruction], Iterable[str]]] = {
    "end": _end,
    "sync": _sync,
    "load": _load,
    "store": _store,
    "weights": _weights,
    "constants": _constants,
    "convolve": _convolve,
    "pool": _pool,
    "map": _map,
}
