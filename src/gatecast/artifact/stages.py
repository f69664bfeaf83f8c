"""What an artifact is made of: image stages, host stages, Programs, and a report on each layer."""

from dataclasses import dataclass

from gatecast.graph import Preprocessing
from gatecast.isa import Program


@dataclass(frozen=True)
class ImageStage:
    """Turns the bytes of a picture, given for `port`, into the float32 `value`."""

    port: str
    value: str
    preprocessing: Preprocessing

    @property
    def inputs(self) -> tuple[str, ...]:
        """No value: it reads a port."""
        return ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The value it makes."""
        return (self.value,)


@dataclass(frozen=True)
class HostStage:
    """A float32 network on the host.

    Parameters
    ----------
    name : str
    model : bytes
        ONNX. Tensors bear the names of values and have the shape (1, inner shape…): maps are NHWC.
    inputs, outputs : tuple of str
        Values that it reads and makes, in the order of the model's.
    """

    name: str
    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class ProgramStage:
    """A Program on a device; its ports bear the names of the values `inputs` and `outputs`, in this order.

    A port is (rows, columns, channels); a value that is a vector is a port of one pixel.
    """

    name: str
    program: Program
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Stage = ImageStage | HostStage | ProgramStage


@dataclass(frozen=True)
class LayerReport:
    """What one layer costs and where it runs.

    Parameters
    ----------
    name, kind : str
        Of the layer in the graph.
    where : str
        ``device``, ``host`` or ``image``.
    macs : int
        Multiplications of a sum, padding of channels to whole blocks not counted.
    weight_bytes : int
        Of its weights as stored; constants of the epilogue are not counted.
    bytes : int
        Moved through the device's external memory in one run: weights, constants, maps.
    tiles : int
        Instructions that compute it; 0 on the host.
    """

    name: str
    kind: str
    where: str
    macs: int = 0
    weight_bytes: int = 0
    bytes: int = 0
    tiles: int = 0
