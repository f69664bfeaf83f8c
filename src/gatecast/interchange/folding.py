"""Nodes that read constants only: computed when the file is read; weights in blocks stay blocks."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from gatecast.errors import FileError

from .block_weights import name_format
from .network import NotSupportedError
from .node import Node, tensor_constant
from .values import AnyConstant, BlockConstant, Constant, Mantissas

FOLDABLE = frozenset(
    "Abs Add And Cast CastLike Ceil Clip Concat ConstantOfShape Div Equal Exp Expand Flatten Floor Gather "
    "Greater GreaterOrEqual Identity Less LessOrEqual Log MatMul Max Min Mod Mul Neg Not Or Pow Range "
    "Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape Round Shape Sign Size "
    "Slice Split Sqrt Squeeze Sub Sum Tile Transpose Unsqueeze Where".split()
)
"""Operators that are computed where all that they read is constant."""

MOVES = frozenset("Concat Expand Flatten Gather Identity Reshape Slice Squeeze Transpose Unsqueeze".split())
"""Those among them that move values only."""

MOST_VALUES = 1 << 28
"""Largest constant that is made."""


def constant_of(node: Node) -> Constant:
    """Return the value of a Constant node."""
    for attribute in node.proto.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.name == "value":
            return tensor_constant(value, node.name)
        if attribute.name in ("value_float", "value_floats"):
            return Constant(node.name, np.array(value, np.float32))
        if attribute.name in ("value_int", "value_ints"):
            return Constant(node.name, np.array(value, np.int64))
    raise NotSupportedError("holds something else than a tensor of numbers")


def fold(node: Node) -> list[AnyConstant]:
    """Return what a node makes of its constants.

    Raises
    ------
    FileError
        The result would be unreasonably large, or cannot be computed.
    """
    inputs = [value for value in node.inputs if isinstance(value, AnyConstant)]
    kind = node.proto.op_type
    if kind == "Cast" and (mantissas := _cast_mantissas(node, inputs[0])) is not None:
        return [mantissas]
    if kind == "Mul" and len(inputs) == 2:
        blocks = _blocks(*inputs) or _blocks(*reversed(inputs))
        if blocks is not None:
            return [blocks]
    if kind in MOVES and any(isinstance(value, BlockConstant) for value in inputs):
        return [_move_blocks(node)]
    name = inputs[0].name if inputs else node.name
    return [Constant(name, array) for array in _computed(node, [_array(value) for value in node.inputs])]


def _array(value: object) -> npt.NDArray[np.generic] | None:
    return value.array if isinstance(value, AnyConstant) else None


def _cast_mantissas(node: Node, value: AnyConstant) -> Mantissas | None:
    """Return int8 values cast to float32, perhaps by way of int32, None if they are something else."""
    to: type[np.float32 | np.int32] | None = _CASTS.get(node.attribute("to"))
    if to is None:
        return None
    if isinstance(value, Mantissas):
        return replace(value, dtype=to)
    if isinstance(value, Constant) and value.array.dtype == np.int8:
        mantissas = value.array.astype(np.int8, copy=False)
        return Mantissas(value.name, mantissas, name_format(value.name), to)
    return None


_CASTS: dict[int, type[np.float32 | np.int32]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.INT32: np.int32,
}


def _blocks(mantissas: AnyConstant, powers: AnyConstant) -> BlockConstant | None:
    """Return the product of mantissas and powers of two, None if it is no such product."""
    if not isinstance(mantissas, Mantissas) or not isinstance(powers, Constant):
        return None
    if powers.array.dtype != np.float32 or mantissas.dtype != np.float32:
        return None
    fractions, exponents = np.frexp(powers.array)
    if not (fractions == 0.5).all():
        return None
    shape = np.broadcast_shapes(mantissas.mantissas.shape, exponents.shape)
    if shape != mantissas.mantissas.shape:
        return None
    shifts = np.broadcast_to((exponents - 1).astype(np.int16), shape)
    return BlockConstant(mantissas.name, mantissas.mantissas, shifts, mantissas.format)


def _move_blocks(node: Node) -> AnyConstant:
    """Move mantissas and exponents alike; constants that are no blocks make the result an ordinary one."""
    first = node.inputs[: len(node.inputs) if node.proto.op_type == "Concat" else 1]
    blocks = [value for value in first if isinstance(value, BlockConstant)]
    rest = [_array(value) for value in node.inputs[len(first) :]]
    formats = {value.format for value in blocks}
    if len(blocks) != len(first) or len(formats) != 1:
        return Constant(blocks[0].name, _computed(node, [*(_array(value) for value in first), *rest])[0])
    mantissas = _computed(node, [*(block.mantissas for block in blocks), *rest])[0]
    shifts = _computed(node, [*(block.shifts for block in blocks), *rest])[0]
    return BlockConstant(
        blocks[0].name,
        mantissas.astype(np.int8, copy=False),
        shifts.astype(np.int16, copy=False),
        formats.pop(),
    )


def _computed(node: Node, arrays: Sequence[npt.NDArray[np.generic] | None]) -> list[npt.NDArray[np.generic]]:
    _check_size(node, [array for array in arrays if array is not None])
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    del proto.input[:], proto.output[:]
    names = [f"input{i}" if array is not None else "" for i, array in enumerate(arrays)]
    proto.input.extend(names)
    proto.output.extend(f"output{i}" for i in range(len(node.proto.output)))
    given = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    graph = helper.make_graph(
        [proto],
        "constant",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in given],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in proto.output],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)])
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, given)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise FileError(
            f"Constants of node {node.name} ({node.proto.op_type}) must fit it; computing failed: {error}"
        ) from error
    return [np.asarray(result) for result in results]


def _check_size(node: Node, arrays: Sequence[npt.NDArray[np.generic]]) -> None:
    """Refuse a result that would not fit into memory, before it is made."""
    kind = node.proto.op_type
    if kind in ("ConstantOfShape", "Expand", "Tile") and arrays:
        sizes = [int(n) for n in np.ravel(arrays[-1])]
        count = np.prod([max(n, 1) for n in sizes], dtype=object)
        count *= arrays[0].size if kind != "ConstantOfShape" else 1
    elif kind == "Range" and len(arrays) == 3:
        start, limit, step = (float(a) for a in arrays)
        count = abs((limit - start) / step) if step else 0
    elif kind == "MatMul" and len(arrays) == 2:
        count = arrays[0].size * arrays[1].shape[-1] if arrays[1].ndim else 0
    elif kind in ("Concat", "Gather", "Slice", "Reshape"):
        return
    else:
        shapes = [array.shape for array in arrays]
        width = max((len(shape) for shape in shapes), default=0)
        padded = [(1,) * (width - len(shape)) + shape for shape in shapes]
        count = np.prod([max(sizes) for sizes in zip(*padded, strict=True)], dtype=object)
    if count > MOST_VALUES:
        raise FileError(f"Node {node.name} ({kind}) must make a constant of a sensible size, not {count:.3g}")
