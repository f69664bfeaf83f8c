"""What a network shows to the outside: ports, layouts, image stages, labels, signature.

Inside, every feature map is (rows, columns, channels) of one image. The interface remembers how the
source laid its tensors out, so that inputs and outputs keep the source's names, layout and batch
dimension, and travels with the network through every step: as JSON in an ONNX file's metadata, and in
an artifact's manifest.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from gatecast.errors import FileError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Layout = Literal["NHWC", "NCHW", "as_is"]
Resize = Literal["legacy_bilinear", "antialiased_bilinear", "none"]
Record = TypeVar("Record", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How the bytes of a picture become the float32 tensor that a network reads.

    Decode, resize, crop; then for each value, in float32 and in this order, only where the number is not
    neutral: ``/ divide``, ``- mean``, ``/ std``, ``* scale``.

    Parameters
    ----------
    name : str
        As `--preprocess` takes it.
    height, width : int
        Of the result, in pixels.
    channels : str
        ``RGB``, ``BGR`` or ``L`` (one channel of luminance).
    resize : str
        ``legacy_bilinear`` is TensorFlow 1's (corners not aligned, source = target * in / out);
        ``antialiased_bilinear`` is Pillow's and torchvision's; ``none`` refuses pictures of another size.
    short_side : int, optional
        The shorter side is resized to this, then the centre is cropped. Without it the whole picture is
        resized to (height, width).
    divide, mean, std, scale : float or one float for each channel
        The arithmetic above. `mean` and `std` are in the order of `channels`.
    """

    name: str
    height: int
    width: int
    channels: str = "RGB"
    resize: Resize = "none"
    short_side: int | None = None
    divide: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, channels of the result."""
        return (self.height, self.width, len(self.channels))


@dataclass(frozen=True, kw_only=True)
class InputPort:
    """One input as the outside knows it.

    Parameters
    ----------
    name : str
        The source's name.
    value : str
        The graph's input that it feeds.
    layout : str
        ``NHWC`` or ``NCHW`` for feature maps, ``as_is`` for anything else.
    batch : int, optional
        Size of the leading dimension; None is any.
    image : Preprocessing, optional
        The input also takes encoded pictures, one for each image of the batch.
    """

    name: str
    value: str
    layout: Layout = "as_is"
    batch: int | None = None
    image: Preprocessing | None = None


@dataclass(frozen=True, kw_only=True)
class OutputPort:
    """One output as the outside knows it; `value` names the graph's value. Else as `InputPort`."""

    name: str
    value: str
    layout: Layout = "as_is"
    batch: int | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Interface:
    """All ports, and the class labels in the order of the scores, where they are known."""

    inputs: tuple[InputPort, ...]
    outputs: tuple[OutputPort, ...]
    labels: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`; `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Interface":
        """Read what `to_json` wrote.

        Raises
        ------
        FileError
            The data does not have this form.
        """
        try:
            return cls(
                inputs=tuple(_input(port) for port in data["inputs"]),
                outputs=tuple(_record(OutputPort, port, tuples=("aliases",)) for port in data["outputs"]),
                labels=tuple(str(label) for label in data.get("labels", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(
                f"Interface must have the form of version 1, but reading it failed: {error!r}"
            ) from error


def preprocessing_from_json(data: Mapping[str, Any]) -> Preprocessing:
    """Read a `Preprocessing` from the plain data of `dataclasses.asdict`."""
    return _record(Preprocessing, data, tuples=("mean", "std"))


def _input(data: Mapping[str, Any]) -> InputPort:
    image = data.get("image")
    plain = {**data, "image": None if image is None else preprocessing_from_json(image)}
    return _record(InputPort, plain)


def _record(kind: type[Record], data: Mapping[str, Any], tuples: tuple[str, ...] = ()) -> Record:
    known = {field.name for field in fields(kind)}
    if unknown := sorted(set(data) - known):
        raise ValueError(f"{kind.__name__} has no field {unknown}")
    return kind(**{key: tuple(value) if key in tuples else value for key, value in data.items()})


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of one tensor of a signature.

    `dtype` is ``float32``, or ``string`` for encoded pictures. In `shape`, -1 is any size (the batch).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a model, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, Any]:
        """Return ``{"inputs": [{"name", "dtype", "shape"}], "outputs": […]}``."""
        return {
            side: [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in tensors]
            for side, tensors in (("inputs", self.inputs), ("outputs", self.outputs))
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Signature":
        """Read what `to_json` wrote; FileError if it has another form."""
        try:
            sides = [
                tuple(
                    TensorSpec(str(t["name"]), str(t["dtype"]), tuple(int(n) for n in t["shape"]))
                    for t in data[side]
                )
                for side in ("inputs", "outputs")
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(
                f"Signature must list inputs and outputs, but reading it failed: {error!r}"
            ) from error
        return cls(*sides)
