"""Weights in blocks as nodes of standard ONNX: int8 mantissas, scale bytes, one table of powers of two.

Ref: docs/spec/onnx.md §2.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from gatecast.graph import BlockWeights
from gatecast.numerics import BLOCK_SIZE, EXPONENT_BIAS, EXPONENT_MAX

from .block_weights import Span, outputs_by_lane, spans
from .writer import Writer

POWERS = "e8m0.values"
"""Initializer that holds the value of each scale byte; one for a model."""


def powers_table() -> npt.NDArray[np.float32]:
    """``2**(byte - 127)`` for every byte that a scale can be."""
    return np.exp2(np.arange(EXPONENT_BIAS + EXPONENT_MAX + 1) - EXPONENT_BIAS).astype(np.float32)


def block_weights(writer: Writer, name: str, weights: BlockWeights, groups: int = 1) -> str:
    """Add nodes that make the weights (O, I / groups, kh, kw) as float32; return the tensor."""
    outputs, rows, columns, channels = weights.shape
    if groups == 1:
        whole = [
            Span(piece, 0, BLOCK_SIZE, piece * BLOCK_SIZE) for piece in range(weights.exponents.shape[3])
        ]
        tensor = _equal_pieces(writer, name, weights, {0: np.arange(outputs)}, {0: whole})
        if channels % BLOCK_SIZE == 0:
            return tensor
        first, last = writer.integers(f"{name}.first", 0), writer.integers(f"{name}.channels", channels)
        return writer.step(f"{name}.cut", "Slice", tensor, first, last, writer.integers(f"{name}.axis", 1))
    by_lane = outputs_by_lane(channels, groups, outputs)
    pieces = {lane: list(spans(channels, lane)) for lane in by_lane}
    kinds: dict[tuple[int, ...], list[int]] = {}
    for lane, cuts in pieces.items():
        kinds.setdefault(tuple(cut.length for cut in cuts), []).append(lane)
    parts, order = [], []
    for count, (lengths, lanes) in enumerate(kinds.items()):
        part_name = name if len(kinds) == 1 else f"{name}.part{count}"
        chosen = {lane: by_lane[lane] for lane in lanes}
        cut = {lane: pieces[lane] for lane in lanes}
        parts.append(_pieces(writer, part_name, weights, chosen, cut, lengths))
        order.append(np.sort(np.concatenate(list(chosen.values()))))
    if len(parts) == 1:
        return parts[0]
    joined = writer.step(f"{name}.joined", "Concat", *parts, axis=0)
    places = writer.constant(f"{name}.order", np.argsort(np.concatenate(order)))
    return writer.step(f"{name}.ordered", "Gather", joined, places, axis=0)


def _pieces(
    writer: Writer,
    name: str,
    weights: BlockWeights,
    outputs: dict[int, npt.NDArray[np.int64]],
    pieces: dict[int, list[Span]],
    lengths: Sequence[int],
) -> str:
    """Outputs whose pieces have the same lengths; one entry for all if the lengths are equal."""
    if len(set(lengths)) == 1:
        return _equal_pieces(writer, name, weights, outputs, pieces)
    entries = [
        _equal_pieces(
            writer, f"{name}.piece{i}", weights, outputs, {lane: [cuts[i]] for lane, cuts in pieces.items()}
        )
        for i in range(len(lengths))
    ]
    return writer.step(f"{name}.whole", "Concat", *entries, axis=1)


def _equal_pieces(
    writer: Writer,
    name: str,
    weights: BlockWeights,
    outputs: dict[int, npt.NDArray[np.int64]],
    pieces: dict[int, list[Span]],
) -> str:
    """Mantissas [O, P, length, kh, kw] times scales [O, P, 1, kh, kw], as [O, P * length, kh, kw].

    The outputs given, in ascending order; each lane's outputs take their pieces at other lanes.
    """
    fmt = weights.format
    chosen = np.sort(np.concatenate(list(outputs.values())))
    cuts = next(iter(pieces.values()))
    _, rows, columns, _ = weights.shape
    mantissas = np.empty((len(chosen), len(cuts), cuts[0].length, rows, columns), np.int8)
    scales = np.empty((len(chosen), len(cuts), 1, rows, columns), np.uint8)
    for lane, outs in outputs.items():
        places = np.searchsorted(chosen, outs)
        for i, cut in enumerate(pieces[lane]):
            block = weights.mantissas[outs, :, :, cut.piece, cut.lanes]
            mantissas[places, i] = block.transpose(0, 3, 1, 2)
            scales[places, i, 0] = weights.exponents[outs, :, :, cut.piece] - np.uint8(fmt.bits - 2)
    integers = writer.constant(f"{name}.{fmt}", mantissas)
    # cast straight to float32, OpenVINO rounds the activations to int8 too, and drops strides and pads
    wide = writer.step(f"{integers}.int32", "Cast", integers, to=TensorProto.INT32)
    values = writer.step(f"{integers}.values", "Cast", wide, to=TensorProto.FLOAT)
    product = writer.step(f"{name}.blocks", "Mul", values, _scale_values(writer, name, scales))
    shape = writer.integers(f"{name}.shape", len(chosen), len(cuts) * cuts[0].length, rows, columns)
    return writer.step(f"{name}.joined", "Reshape", product, shape)


def _scale_values(writer: Writer, name: str, scales: npt.NDArray[np.uint8]) -> str:
    stored = writer.constant(f"{name}.e8m0", scales)
    index = writer.step(f"{stored}.index", "Cast", stored, to=TensorProto.INT32)
    return writer.step(f"{stored}.values", "Gather", writer.shared(POWERS, powers_table()), index)
