"""What one instruction may compute besides its first layer, and in which order.

`quantization` decides by this rule what is not rounded, `compiler` reads off by the same rule what rides
with what. Ref: docs/spec/numerics.md §§3, 5.
"""

from dataclasses import dataclass
from enum import IntEnum

from .graph import Graph
from .layers import Activation, Affine, Convolution, Elementwise, Encode, Layer, MatMul


class Step(IntEnum):
    """Steps of an epilogue, in their order; each comes at most once."""

    START = 0
    AFFINE = 1
    RESIDUAL = 2
    ACTIVATION = 3
    ENCODE = 4


@dataclass
class Chain:
    """Layers that one instruction computes: the first, the last step so far, whether one of them scales."""

    root: Layer
    step: Step
    scaled: bool = False

    @classmethod
    def begin(cls, layer: Layer) -> "Chain":
        """Return the chain of `layer` alone; the last steps are instructions of their own as well."""
        match layer:
            case Affine():
                return cls(layer, Step.AFFINE)
            case Activation():
                return cls(layer, Step.ACTIVATION)
            case Encode():
                return cls(layer, Step.ENCODE)
        return cls(layer, Step.START)

    def join(self, layer: Layer) -> bool:
        """Take `layer` in, if the instruction can compute it there; say whether it did."""
        step = self._step_of(layer)
        if step is None or step <= self.step:
            return False
        self.step = step
        self.scaled |= step is Step.AFFINE
        return True

    def _step_of(self, layer: Layer) -> Step | None:
        convolves = isinstance(self.root, Convolution | MatMul)
        computes = convolves or isinstance(self.root, Elementwise | Affine | Activation)
        match layer:
            case Encode():
                return Step.ENCODE
            case Affine() if computes:
                return Step.AFFINE
            case Elementwise(kind="add", inputs=(_, _)) if convolves:
                return Step.RESIDUAL
            case Activation(kind="relu" | "clip") if computes:
                return Step.ACTIVATION
            case Activation(kind="leaky_relu" | "hard_sigmoid" | "hard_swish") if computes and not convolves:
                # a product that is scaled too has no operand left for these
                return None if self.scaled and _multiplies(self.root) else Step.ACTIVATION
        return None


def is_private(graph: Graph, value: str, reader: Layer) -> bool:
    """Whether only `reader` takes a value, and once: what follows in one instruction is seen nowhere else."""
    return len(graph.consumers[value]) == 1 and value not in graph.outputs and reader.inputs.count(value) == 1


def _multiplies(layer: Layer) -> bool:
    return isinstance(layer, Elementwise) and layer.kind == "multiply"
