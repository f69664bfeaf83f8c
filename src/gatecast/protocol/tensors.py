"""Tensors of the wire to NumPy and back, by TensorFlow's rules (`docs/spec/serving.md`, section Tensors)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import RequestError
from gatecast.protocol.messages import POOL

Array = npt.NDArray[Any]

MAX_ELEMENTS = 1 << 24
MAX_RANK = 32

_DATA_TYPE = POOL.FindEnumTypeByName("tensorflow.DataType")
_NAMES: dict[int, str] = {value.number: value.name.removeprefix("DT_").lower() for value in _DATA_TYPE.values}
_NUMBERS: dict[str, int] = {name: number for number, name in _NAMES.items()}

# For each kind that can be read: the NumPy type of one element, and the list that holds elements.
_KINDS: dict[str, tuple[str, str]] = {
    "float": ("<f4", "float_val"),
    "double": ("<f8", "double_val"),
    "int32": ("<i4", "int_val"),
    "uint8": ("<u1", "int_val"),
    "int16": ("<i2", "int_val"),
    "int8": ("<i1", "int_val"),
    "int64": ("<i8", "int64_val"),
    "bool": ("|b1", "bool_val"),
    "uint16": ("<u2", "int_val"),
    "uint32": ("<u4", "uint32_val"),
    "uint64": ("<u8", "uint64_val"),
    "half": ("<f2", "half_val"),
    "bfloat16": ("<u2", "half_val"),
}
_OF_NUMPY = {np.dtype(dtype): name for name, (dtype, _) in _KINDS.items() if name != "bfloat16"}
_FLOAT_VAL_TAG = bytes([5 << 3 | 2])


def dtype_name(number: int) -> str:
    """Return TensorFlow's name of a kind of element (``float``, ``string``, …) for its number."""
    return _NAMES.get(number, f"unknown type {number}")


def dtype_number(name: str) -> int:
    """Return the number on the wire of a kind of element, for TensorFlow's or NumPy's name of it."""
    return _NUMBERS[{"float32": "float", "float64": "double", "float16": "half"}.get(name, name)]


def decode_tensor(tensor: Any, max_elements: int = MAX_ELEMENTS) -> Array:
    """Return the elements of a TensorProto.

    `tensor_content` is used where it is not empty. Else the list of the kind: if it is shorter than the
    shape asks for, its last value is repeated; if it is empty, the elements are zero; what is too much
    is ignored. An unknown rank is a scalar.

    Parameters
    ----------
    tensor : TensorProto
        Of any package that has these fields.
    max_elements : int
        A larger shape is refused before memory is taken.

    Returns
    -------
    ndarray
        With the tensor's shape. Strings are an object array of bytes; bfloat16 becomes float32. It may be
        a read-only view of the message.

    Raises
    ------
    RequestError
        The shape, the kind or the length of `tensor_content` cannot be.
    """
    shape = _shape(tensor, max_elements)
    count = math.prod(shape)
    name = dtype_name(tensor.dtype)
    if name == "string":
        return _strings(tensor, shape, count)
    if name not in _KINDS:
        raise RequestError(f"dtype must be a number or string, not {name}")
    dtype, field = _KINDS[name]
    if tensor.tensor_content:
        values = _content(tensor.tensor_content, np.dtype(dtype), count)
    else:
        values = _listed(getattr(tensor, field), field, np.dtype(dtype), count)
    if name == "bfloat16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(shape)


def encode_tensor(tensor: Any, values: Array | Sequence[bytes] | bytes, *, content: bool = False) -> None:
    """Fill an empty TensorProto.

    Parameters
    ----------
    tensor : TensorProto
        What to fill.
    values : ndarray or (sequence of) bytes
        Numbers, or bytes: a sequence of n bytes objects has shape [n].
    content : bool
        Numbers go to `tensor_content` (compact; every server reads it) instead of the list of their kind
        (what clients expect of a server).

    Raises
    ------
    RequestError
        Neither numbers of a kind that has a name on the wire, nor bytes.
    """
    array = _array(values)
    tensor.tensor_shape.SetInParent()  # a scalar says that it is one
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    if array.dtype == object:
        tensor.dtype = _NUMBERS["string"]
        tensor.string_val.extend(array.ravel().tolist())
        return
    name = _OF_NUMPY[array.dtype]
    tensor.dtype = _NUMBERS[name]
    if content:
        tensor.tensor_content = array.tobytes()
    elif name == "float":
        # The list's own bytes on the wire: one copy, where `extend` makes an object of each element.
        data = array.tobytes()
        tensor.MergeFromString(_FLOAT_VAL_TAG + _varint(len(data)) + data)
    else:
        field = _KINDS[name][1]
        bits = array.view(np.uint16) if field == "half_val" else array
        getattr(tensor, field).extend(bits.ravel().tolist())


def _shape(tensor: Any, max_elements: int) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if len(shape) > MAX_RANK:
        raise RequestError(f"tensor_shape must have at most {MAX_RANK} dimensions, not {len(shape)}")
    if any(size < 0 for size in shape):
        raise RequestError(f"tensor_shape must have no negative size, not {list(shape)}")
    if math.prod(max(size, 1) for size in shape) > max_elements:
        raise RequestError(f"tensor_shape must have at most {max_elements} elements, not {list(shape)}")
    return shape


def _content(content: bytes, dtype: np.dtype[Any], count: int) -> Array:
    if len(content) != count * dtype.itemsize:
        raise RequestError(
            f"tensor_content must have {count * dtype.itemsize} bytes for its shape, not {len(content)}"
        )
    values = np.frombuffer(content, dtype)
    if dtype == np.bool_ and values.view(np.uint8).max() > 1:
        raise RequestError("tensor_content of a bool tensor must have only bytes 0 and 1")
    return values


def _listed(numbers: Any, field: str, dtype: np.dtype[Any], count: int) -> Array:
    if field == "half_val":
        bits = (np.array(numbers, np.int64) & 0xFFFF).astype(np.uint16)
        return _filled(bits, count).view(dtype)
    if field == "int_val":
        return _filled(np.array(numbers, np.int32), count).astype(dtype)  # wraps around, as a cast in C does
    return _filled(np.asarray(numbers, dtype), count)


def _filled(values: Array, count: int) -> Array:
    if len(values) >= count:
        return values[:count]
    if not len(values):
        return np.zeros(count, values.dtype)
    filled = np.empty(count, values.dtype)
    filled[: len(values)] = values
    filled[len(values) :] = values[-1]
    return filled


def _strings(tensor: Any, shape: tuple[int, ...], count: int) -> Array:
    if tensor.tensor_content:
        raise RequestError("A string tensor must have its values in string_val, not in tensor_content")
    strings = list(tensor.string_val[:count]) or [b""][:count]
    strings += strings[-1:] * (count - len(strings))
    values = np.empty(count, object)
    values[:] = strings
    return values.reshape(shape)


def _array(values: Array | Sequence[bytes] | bytes) -> Array:
    if isinstance(values, bytes):
        values = [values]
    if not isinstance(values, np.ndarray) and len(values) and all(isinstance(v, bytes) for v in values):
        strings = np.empty(len(values), object)
        strings[:] = values
        return strings
    array = np.asarray(values)
    if array.dtype.kind == "S":
        array = array.astype(object)
    elif array.dtype.kind != "O":
        array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    if not (array.dtype in _OF_NUMPY or _all_bytes(array)):
        raise RequestError(f"Tensor must hold numbers or bytes, not {array.dtype}")
    return array


def _all_bytes(array: Array) -> bool:
    return array.dtype == object and all(isinstance(value, bytes) for value in array.ravel())


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
