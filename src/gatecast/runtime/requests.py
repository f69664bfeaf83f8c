"""Inputs of one run: checked against the ports, taken apart into single images in the inner layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gatecast.errors import RequestError
from gatecast.graph import InputPort, Shape, outer_shape
from gatecast.numerics import bounded

Float32 = npt.NDArray[np.float32]
Tensor = npt.NDArray[Any] | Sequence[bytes]
Image = dict[str, Float32 | bytes]
"""One image's value for each input: the inner array, or an encoded picture."""

_FIXED_BATCH = (
    "The network was exported with a fixed batch: run its images in batches of that size, or export it again "
    "with a free one (`dynamic_shapes` or `dynamic_axes` of torch.onnx.export)."
)


@dataclass(frozen=True)
class Request:
    """What the inputs of a model must be.

    Parameters
    ----------
    model : str
        Its name, for messages.
    ports : tuple of InputPort
    shapes : mapping of value name to inner shape
    bounded : bool
        Values must be finite and at most 2**64, as docs/spec/numerics.md §3 asks of a quantised model.
    """

    model: str
    ports: tuple[InputPort, ...]
    shapes: Mapping[str, Shape]
    bounded: bool

    def images(self, inputs: Mapping[str, Tensor]) -> list[Image]:
        """Take a batch apart.

        Raises
        ------
        RequestError
            A name is unknown or missing, a dtype, shape or batch size is another one, or a value may not be.
        """
        self._check_names(inputs)
        columns = {port.name: self._column(port, inputs[port.name]) for port in self.ports}
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) != 1:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise RequestError(f"Inputs of {self.model} must have one batch size, not {listed}")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _check_names(self, inputs: Mapping[str, Tensor]) -> None:
        names = [port.name for port in self.ports]
        if set(inputs) != set(names):
            given = ", ".join(str(name) for name in inputs) or "none"
            raise RequestError(f"Inputs of {self.model} must be {', '.join(names)}, not {given}")

    def _column(self, port: InputPort, tensor: Tensor) -> Sequence[Float32 | bytes]:
        if _is_bytes(tensor):
            return self._pictures(port, tensor)
        array = tensor if isinstance(tensor, np.ndarray) else np.asarray(tensor)
        expected = outer_shape(self.shapes[port.value], port)
        other_batch = _fits(array.shape, (-1, *expected[1:])) and not _fits(array.shape, expected)
        if array.shape == (0, *expected[1:]) or array.shape == (0,):
            raise RequestError(f"Input {port.name} of {self.model} must have at least one image, not none")
        if array.dtype != np.float32 or not _fits(array.shape, expected):
            also = " or encoded pictures" if port.image else ""
            raise RequestError(
                f"Input {port.name} of {self.model} must be float32 {list(expected)}{also}, "
                f"not {array.dtype} {list(array.shape)}",
                hint=_FIXED_BATCH if other_batch else None,
            )
        axes = (0, 2, 3, 1) if port.layout == "NCHW" else None
        if self.bounded:
            return list(bounded(array, f"input {port.name} of {self.model}", axes))
        return list(array if axes is None else array.transpose(axes))

    def _pictures(self, port: InputPort, tensor: Tensor) -> Sequence[bytes]:
        if port.image is None:
            expected = list(outer_shape(self.shapes[port.value], port))
            raise RequestError(
                f"Input {port.name} of {self.model} must be float32 {expected}, not encoded pictures: "
                "it has no image stage",
                hint="Compile with `--preprocess NAME`; `gatecast zoo list` shows the names.",
            )
        batch = port.batch
        if isinstance(tensor, np.ndarray) and tensor.ndim != 1:
            raise RequestError(
                f"Pictures of input {port.name} of {self.model} must have shape [{batch or -1}], "
                f"not {list(tensor.shape)}"
            )
        if batch not in (None, len(tensor)) or not len(tensor):
            wanted = "at least one picture" if batch is None else f"{batch} picture(s)"
            given = len(tensor) or "none"
            raise RequestError(
                f"Input {port.name} of {self.model} must have {wanted}, not {given}",
                hint=_FIXED_BATCH if len(tensor) else None,
            )
        return [bytes(data) for data in tensor]


def _is_bytes(tensor: Tensor) -> bool:
    if isinstance(tensor, np.ndarray):
        return tensor.dtype == object and all(_is_buffer(item) for item in tensor.flat)
    return isinstance(tensor, Sequence) and all(_is_buffer(item) for item in tensor)


def _is_buffer(item: object) -> bool:
    return isinstance(item, bytes | bytearray | memoryview)


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(
        got == want or (want == -1 and got > 0) for got, want in zip(shape, expected, strict=True)
    )
