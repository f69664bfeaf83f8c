"""What quantising did, for people to look at."""

from dataclasses import dataclass, field

from gatecast.numerics import FormatPair


@dataclass(frozen=True)
class Flushed:
    """`count` values of `field` of `layer` that were too small for the contract and became 0."""

    layer: str
    field: str
    count: int


@dataclass(frozen=True)
class LayerFormats:
    """Formats of one layer with weights.

    `weights` counts their values; `sqnr_db` is the signal-to-quantisation-noise ratio of rounding them to
    blocks, in dB, infinite where nothing was lost.
    """

    layer: str
    formats: FormatPair
    weights: int
    sqnr_db: float


@dataclass
class Report:
    """Filled by the steps of `quantize`, in the order in which they run.

    `folded` pairs each norm with the layer that took it; `unfolded` names stems whose kernels became
    channels; `fused` pairs each elementwise layer with the one whose epilogue it rides in.
    """

    folded: list[tuple[str, str]] = field(default_factory=list)
    unfolded: list[str] = field(default_factory=list)
    fused: list[tuple[str, str]] = field(default_factory=list)
    flushed: list[Flushed] = field(default_factory=list)
    layers: list[LayerFormats] = field(default_factory=list)
    encodes: int = 0
