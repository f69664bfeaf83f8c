"""Tensors in the JSON of TensorFlow Serving's REST interface, both ways."""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import RequestError
from gatecast.graph import Signature, TensorSpec

Array = npt.NDArray[Any]

ROW, COLUMNS = "instances", "inputs"
_LONGEST_SHOWN = 64


def parse_body(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request; RequestError if it is none."""
    if not body:
        raise RequestError("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except RecursionError:
        raise RequestError("JSON Parse error: Lists are nested too deep") from None
    except ValueError as error:
        raise RequestError(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise RequestError(f"JSON Value: {_shown(document)} Is not object")
    return document


def request_form(document: Mapping[str, Any]) -> str:
    """Return ``instances`` (one value for each row) or ``inputs`` (one for each tensor)."""
    forms = [key for key in (ROW, COLUMNS) if key in document]
    if not forms:
        raise RequestError("Missing 'inputs' or 'instances' key")
    if len(forms) == 2:
        raise RequestError(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    return forms[0]


def parse_inputs(document: Mapping[str, Any], signature: Signature) -> dict[str, Array]:
    """Return the tensors of a prediction by name.

    Numbers become float32 arrays; strings, and objects ``{"b64": …}``, become object arrays of bytes.
    """
    form = request_form(document)
    value = document[form]
    columns = _from_rows(value, signature) if form == ROW else _from_columns(value, signature)
    return {spec.name: _tensor(columns[spec.name], spec) for spec in signature.inputs}


def format_outputs(outputs: Mapping[str, Array], form: str) -> str:
    """Return the JSON text of the reply: ``predictions`` for rows, else ``outputs``.

    Floats have the fewest digits that read back as the same float32, and a ``.0`` if they are whole; NaN
    and the infinities are the tokens NaN, Infinity and -Infinity.
    """
    if form == COLUMNS:
        texts = {name: _nested(array, 0)[0] for name, array in outputs.items()}
        return f'{{"outputs": {_one_or_object(texts)}}}'
    batches = {name: array.shape[0] if array.ndim else None for name, array in outputs.items()}
    for name, batch in batches.items():
        if batch is None:
            raise RequestError(f"Tensor name: {name} has no shape information ")
    if len(set(batches.values())) > 1:
        raise RequestError(f"Outputs must have the same batch size, not {batches}; ask with 'inputs' instead")
    columns = {name: _nested(array, 1) for name, array in outputs.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return f'{{"predictions": [{", ".join(_one_or_object(row) for row in rows)}]}}'


def _from_rows(rows: Any, signature: Signature) -> dict[str, Any]:
    names = [spec.name for spec in signature.inputs]
    if not isinstance(rows, list):
        raise RequestError(f"JSON Value: {_shown(rows)} Expecting 'instances' to be an list/array")
    if not rows:
        raise RequestError("JSON Value: [] No values in 'instances' array")
    named = _is_object(rows[0])
    if not named and len(names) > 1:
        raise RequestError(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    for item, row in enumerate(rows):
        if _is_object(row) != named:
            wanted, got = ("object", "list") if named else ("value/list", "object")
            raise RequestError(f"Expecting {wanted} but got {got} at item {item} of input list")
        if named and set(row) != set(names):
            raise RequestError(
                f"Failed to process element: {item} of 'instances' list. "
                f"JSON object: {_shown(row)} keys must be equal to: {','.join(names)}"
            )
    return {name: [row[name] for row in rows] for name in names} if named else {names[0]: rows}


def _from_columns(value: Any, signature: Signature) -> dict[str, Any]:
    names = [spec.name for spec in signature.inputs]
    if not _is_object(value):
        if len(names) > 1:
            raise RequestError(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        return {names[0]: value}
    for name in names:
        if name not in value:
            raise RequestError(f"Missing named input: {name} in 'inputs' object.")
    return dict(value)


def _tensor(value: Any, spec: TensorSpec) -> Array:
    leaf = value
    while isinstance(leaf, list) and leaf:
        leaf = leaf[0]
    if spec.dtype == "string" and isinstance(leaf, str | dict):
        return _strings(value)
    try:
        array = np.asarray(value)
        if array.dtype == object and _odd_leaf(value) is None:  # integers of more than 64 bits
            array = array.astype(np.float64)
    except (ValueError, OverflowError):
        raise RequestError(
            f"JSON Value: {_shown(value)} must be numbers in lists of equal sizes at each level "
            f"for input {spec.name}"
        ) from None
    if array.dtype.kind not in "iuf":
        raise _type_error(_odd_leaf(value), spec)
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _strings(value: Any) -> Array:
    if not isinstance(value, list):
        return np.array(_bytes(value), object)
    array = np.empty(len(value), object)
    for index, item in enumerate(value):
        if isinstance(item, list):
            raise RequestError("Encountered list at unexpected level: 1 expected < 1")
        array[index] = _bytes(item)
    return array


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if not _is_base64(value):
        raise RequestError(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("Unable to base64 decode") from None


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _odd_leaf(value: Any) -> Any:
    """Return the first leaf that is no number."""
    if isinstance(value, list):
        for item in value:
            if (leaf := _odd_leaf(item)) is not None:
                return leaf
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number else (value, "Null" if value is None else _JSON_TYPES[type(value)])


_JSON_TYPES = {str: "String", bool: "Boolean", dict: "Object"}


def _type_error(odd: tuple[Any, str], spec: TensorSpec) -> RequestError:
    value, kind = odd
    expected = "string" if spec.dtype == "string" else "float"
    return RequestError(f"JSON Value: {_shown(value)} Type: {kind} is not of expected type: {expected}")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def _one_or_object(texts: Mapping[str, str]) -> str:
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}"


def _nested(array: Array, keep: int) -> list[str]:
    """Return JSON texts of the sub-arrays under the first `keep` dimensions, in order."""
    texts: Sequence[str] = _numbers(array)
    for axis in range(array.ndim - 1, keep - 1, -1):
        size = array.shape[axis]
        starts = (
            range(0, math.prod(array.shape[: axis + 1]), size)
            if size
            else [0] * math.prod(array.shape[:axis])
        )
        texts = [f"[{', '.join(texts[start : start + size])}]" for start in starts]
    return list(texts)


def _numbers(array: Array) -> list[str]:
    if array.dtype.kind != "f":
        return [json.dumps(value) for value in array.ravel().tolist()]
    texts = [str(value) for value in array.ravel()]
    return texts if np.isfinite(array).all() else [_SPECIAL.get(text, text) for text in texts]


_SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
