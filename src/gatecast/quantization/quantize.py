"""The plain list of rewrites that make a quantised graph.

Ref: docs/spec/numerics.md §4.
"""

from collections.abc import Mapping

from gatecast.errors import GraphError, NotFoundError
from gatecast.graph import BlockWeights, Convolution, Encode, Graph, MatMul
from gatecast.numerics import FormatPair, parse_formats

from .encode import encode
from .fold import fold
from .formats import Formats, formats_of
from .fuse import fuse
from .report import Report
from .unfold import unfold


def quantize(
    graph: Graph, formats: str = "bfp8", *, first: str = "bfp8", overrides: Mapping[str, str] | None = None
) -> Graph:
    """Return `graph` with weights in blocks and every `Encode` explicit; its meaning is fixed from then on.

    Parameters
    ----------
    graph : Graph
        A float network. One that is quantised with the same formats is returned as it is.
    formats : str
        ``bfp8``, or weights and activations apart as in ``bfp5/bfp6``.
    first : str
        Formats of convolutions that read what the host computes from the inputs.
    overrides : mapping of layer name to formats, optional

    Raises
    ------
    FormatError
        A format that does not exist.
    NotFoundError
        An override for a layer that is no convolution or matrix product.
    GraphError
        The graph is quantised with other formats, or a constant is too large for the contract.
    """
    return quantize_with_report(graph, formats, first=first, overrides=overrides)[0]


def quantize_with_report(
    graph: Graph, formats: str = "bfp8", *, first: str = "bfp8", overrides: Mapping[str, str] | None = None
) -> tuple[Graph, Report]:
    """`quantize`, and what it did."""
    wanted = Formats(
        rest=parse_formats(formats),
        first=parse_formats(first),
        overrides={name: parse_formats(text) for name, text in (overrides or {}).items()},
    )
    _check_overrides(graph, wanted)
    report = Report()
    if graph.is_quantized:
        _check_same_formats(graph, wanted)
        return graph, report
    graph = fold(graph, report)
    graph = unfold(graph, report)
    plan = fuse(graph, report)
    return encode(graph, plan, wanted, report), report


def _check_overrides(graph: Graph, wanted: Formats) -> None:
    layers = [layer.name for layer in graph.layers if isinstance(layer, Convolution | MatMul)]
    if unknown := sorted(set(wanted.overrides) - set(layers)):
        raise NotFoundError(
            f"Overrides must name convolutions or matrix products of {graph.name}, not {', '.join(unknown)}",
            hint=f"They are: {', '.join(layers)}.",
        )


def _check_same_formats(graph: Graph, wanted: Formats) -> None:
    expected = formats_of(graph, wanted)
    for layer in graph.layers:
        if not isinstance(layer, Convolution | MatMul) or not isinstance(layer.weights, BlockWeights):
            continue
        source = graph.by_name.get(layer.inputs[0])
        if not isinstance(source, Encode):
            raise GraphError(f"Layer {layer.name} must read an encoded value, not {layer.inputs[0]}")
        found = FormatPair(layer.weights.format, source.format)
        if found != expected[layer.name]:
            raise GraphError(
                f"Layer {layer.name} of {graph.name} must be {expected[layer.name]}, but is {found} already",
                hint="Start again from the float network: rounding twice loses twice.",
            )
