"""One node of an ONNX graph as the operator functions see it, and the table of those functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from gatecast.errors import FileError

from .network import Network, NotSupportedError
from .values import AnyConstant, Constant, Value

Float32 = npt.NDArray[np.float32]

LAYER_MARK = "gatecast.layer"
"""Key of a node's metadata that says: its value is a layer of its own, of the kind that stands there."""


@dataclass(frozen=True, eq=False)
class Node:
    """A node with the values that it reads.

    Parameters
    ----------
    proto : onnx.NodeProto
    name : str
        Of the layer that it becomes.
    opset : int
        Version of ONNX's operators in the file.
    inputs : tuple of Value or None
        None is an input left out.
    """

    proto: onnx.NodeProto
    name: str
    opset: int
    inputs: tuple[Value | None, ...]

    @property
    def mark(self) -> str:
        """Kind of the layer that this node is in a file of our own, or empty."""
        return next((p.value for p in self.proto.metadata_props if p.key == LAYER_MARK), "")

    def input(self, index: int) -> Value | None:
        """Return an input, None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def has(self, name: str) -> bool:
        """Whether the attribute is given."""
        return any(a.name == name for a in self.proto.attribute)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute as plain Python, text decoded; `default` where it is not given."""
        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def ints(self, name: str, index: int | None = None) -> list[int] | None:
        """Return integers given as an attribute, or as constant input `index` in later opsets."""
        if self.has(name):
            return [int(i) for i in self.attribute(name)]
        if index is None or self.input(index) is None:
            return None
        return [int(i) for i in np.ravel(self.constant(index).array)]

    def number(self, name: str, index: int | None = None, default: float | None = None) -> float | None:
        """Return one number given as an attribute, or as constant input `index` in later opsets."""
        if self.has(name):
            return float(self.attribute(name))
        if index is None or self.input(index) is None:
            return default
        array = self.constant(index).array
        if array.size != 1:
            raise NotSupportedError(f"takes one number as {name}, not an array of shape {array.shape}")
        return float(array.item())

    def constant(self, index: int) -> AnyConstant:
        """Return an input that must be a constant."""
        value = self.input(index)
        if not isinstance(value, AnyConstant):
            raise NotSupportedError(f"input {index} must be a constant of the file")
        return value

    def weights(self, index: int) -> Float32:
        """Return a constant as float32; FileError names a value that is not finite."""
        return finite(self.constant(index))


def finite(constant: AnyConstant) -> Float32:
    """Return a constant as float32, all of it finite."""
    with np.errstate(over="ignore"):
        array = np.asarray(constant.array).astype(np.float32, copy=False)
    wrong = ~np.isfinite(array)
    if wrong.any():
        index = [int(i) for i in np.argwhere(wrong)[0]]
        raise FileError(
            f"Values of tensor {constant.name} must be finite, not {array[tuple(index)]} at {index}",
            hint="Train or export the network again; a checkpoint with NaN gives no answers.",
        )
    return array


Operator = Callable[[Node, Network], Value | Sequence[Value]]

OPERATORS: dict[str, Operator] = {}
"""Function of each operator of ONNX that can be read."""


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Enter a function for the operators called `names`."""

    def enter(function: Operator) -> Operator:
        for name in names:
            OPERATORS[name] = function
        return function

    return enter


def tensor_constant(tensor: onnx.TensorProto, name: str) -> Constant:
    """Read a tensor of the file; FileError if its bytes do not fit its shape."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise FileError(
            f"Tensor {name} must be in the file, not beside it",
            hint="Load the model by its path, with its data files beside it.",
        )
    try:
        return Constant(name, numpy_helper.to_array(tensor))
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise FileError(f"Tensor {name} must have bytes that fit its type and shape: {error}") from error
