"""Encode as a function of basic ONNX operators, local to a model: x to decode(encode(x)).

The exponent is found by a table of powers: round an approximate log2, read the exact power, halve it where
that is too high. All runtimes that were tried give the contract's bits for it.

Ref: docs/spec/onnx.md §3; docs/spec/numerics.md §1.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from gatecast.numerics import BLOCK_SIZE, EXPONENT_MAX, EXPONENT_MIN, FORMATS, Format

DOMAIN = "gatecast"
OPSET = 21


def function_name(fmt: Format, channels: int) -> str:
    """Name that tells the format, and how many zeros fill the last block."""
    missing = -channels % BLOCK_SIZE
    return f"EncodeB{fmt.name[1:]}" + (f"Pad{missing}" if missing else "")


def encode_function(fmt: Format, channels: int) -> onnx.FunctionProto:
    """Return the function for tensors (N, channels, …), to be read only."""
    return _function(fmt, -channels % BLOCK_SIZE)


@cache
def _function(fmt: Format, missing: int) -> onnx.FunctionProto:
    return helper.make_function(
        DOMAIN,
        function_name(fmt, BLOCK_SIZE - missing),
        ["x"],
        ["y"],
        _Body().build(fmt, missing),
        [helper.make_opsetid("", OPSET)],
        doc_string="Block floating point: 32 channels share floor(log2 max|x|) in [-48, 48]; "
        "mantissas to the nearest even, symmetric.",
    )


def encoded_format(node: onnx.NodeProto, functions: Mapping[str, onnx.FunctionProto]) -> Format | None:
    """Return the format that a node encodes to, None if its function is not the one of that name."""
    found = re.fullmatch(r"EncodeBfp(\d)(?:Pad(\d+))?", node.op_type)
    function = functions.get(node.op_type)
    if not found or node.domain != DOMAIN or function is None:
        return None
    fmt = FORMATS.get(f"bfp{found.group(1)}")
    if fmt is None:
        return None
    missing = int(found.group(2) or 0)
    expected = encode_function(fmt, BLOCK_SIZE - missing)
    return fmt if list(function.node) == list(expected.node) else None


def inlined(
    function: onnx.FunctionProto, source: str, target: str, rename: Callable[[str], str]
) -> list[onnx.NodeProto]:
    """Return the function's nodes with `source` for x, `target` for y and other names by `rename`."""
    names = {"x": source, "y": target, "": ""}
    nodes = []
    for node in function.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.input.extend(names[name] for name in node.input)
        for name in node.output:
            names.setdefault(name, rename(name) if name != "y" else target)
        copy.output.extend(names[name] for name in node.output)
        copy.name = copy.output[0]
        nodes.append(copy)
    return nodes


def outlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with calls of the function again where its nodes stand inlined, one after another."""
    nodes = list(model.graph.node)
    if not any(node.op_type == "ReduceMax" for node in nodes):
        return model
    functions = {f.name: f for f in model.functions}
    found, place = [], 0
    while place < len(nodes):
        call = _call_at(nodes, place)
        if call is None:
            found.append(nodes[place])
            place += 1
            continue
        function, node = call
        functions[function.name] = function
        found.append(node)
        place += len(function.node)
    if len(found) == len(nodes):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.functions[:]
    result.graph.node.extend(found)
    result.functions.extend(functions.values())
    if all(opset.domain != DOMAIN for opset in result.opset_import):
        result.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return result


def _call_at(nodes: Sequence[onnx.NodeProto], place: int) -> tuple[onnx.FunctionProto, onnx.NodeProto] | None:
    """Return the function whose body stands at `place`, and the node that calls it in its stead."""
    if nodes[place].op_type != "Shape" or place + 1 == len(nodes):
        return None
    missing = _missing_channels(nodes[place + 1])
    for fmt in FORMATS.values():
        function = encode_function(fmt, BLOCK_SIZE - missing)
        names = _match(function.node, nodes[place : place + len(function.node)])
        if names is not None:
            last = nodes[place + len(function.node) - 1]
            call = helper.make_node(function.name, [names["x"]], [names["y"]], name=last.name, domain=DOMAIN)
            call.metadata_props.extend(last.metadata_props)
            return function, call
    return None


def _missing_channels(node: onnx.NodeProto) -> int:
    """Return how many channels the constant `node` fills the last block with; 0 for another node."""
    for attribute in node.attribute:
        if node.op_type == "Constant" and len(attribute.t.raw_data) == 16:
            return int(np.frombuffer(attribute.t.raw_data, np.int64)[1]) % BLOCK_SIZE
    return 0


def _match(pattern: Sequence[onnx.NodeProto], nodes: Sequence[onnx.NodeProto]) -> dict[str, str] | None:
    """Return the tensor for each name of the pattern if the nodes are the same but for names."""
    names: dict[str, str] = {"": ""}
    if len(pattern) != len(nodes):
        return None
    for expected, node in zip(pattern, nodes, strict=True):
        same = (expected.op_type, list(expected.attribute)) == (node.op_type, list(node.attribute))
        if not same or len(expected.input) != len(node.input) or len(expected.output) != len(node.output):
            return None
        pairs = zip([*expected.input, *expected.output], [*node.input, *node.output], strict=True)
        if any(names.setdefault(name, tensor) != tensor for name, tensor in pairs):
            return None
    return names


class _Body:
    """Nodes of the function in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def constant(self, name: str, value: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: int) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def build(self, fmt: Format, missing: int) -> list[onnx.NodeProto]:
        """Nodes from `x` to `y`."""
        self.node("Shape", ["x"], "shape")
        source = "x"
        if missing:
            pads = self.constant("pads", [0, missing], np.int64)
            self.constant("channel_axis", [1], np.int64)
            source = self.node("Pad", ["x", pads, "", "channel_axis"], "whole")
        self._split(source)
        self._power()
        self._round(fmt)
        self._join(missing, source)
        return self.nodes

    def _split(self, source: str) -> None:
        """(N, C, …) to (N, blocks, 32, …), and each block's largest magnitude in the exponent's range."""
        self.node("Shape", ["x"], "space", start=2)
        lead = self.constant("lead", [0, -1, BLOCK_SIZE], np.int64)
        self.node("Concat", [lead, "space"], "split", axis=0)
        self.node("Reshape", [source, "split"], "blocks")
        self.node("Abs", ["blocks"], "magnitude")
        lanes = self.constant("lanes", [2], np.int64)
        self.node("ReduceMax", ["magnitude", lanes], "largest", keepdims=1)
        lowest, highest = (
            self.constant("lowest", 2.0**EXPONENT_MIN),
            self.constant("highest", 2.0**EXPONENT_MAX),
        )
        self.node("Clip", ["largest", lowest, highest], "bounded")

    def _power(self) -> None:
        """``top = 2**floor(log2(bounded))``, exactly."""
        self.node("Log", ["bounded"], "ln")
        self.node("Mul", ["ln", self.constant("per_octave", 1 / np.log(2))], "log2")
        self.node("Round", ["log2"], "near")
        self.node("Sub", ["near", self.constant("exponent_min", EXPONENT_MIN)], "offset")
        self.node("Cast", ["offset"], "index", to=onnx.TensorProto.INT64)
        powers = self.constant("powers", np.exp2(np.arange(EXPONENT_MIN, EXPONENT_MAX + 1)))
        self.node("Gather", [powers, "index"], "guess")
        self.node("Mul", ["guess", self.constant("half", 0.5)], "below")
        self.node("Less", ["bounded", "guess"], "too_high")
        self.node("Where", ["too_high", "below", "guess"], "top")

    def _round(self, fmt: Format) -> None:
        self.node("Mul", ["top", self.constant("unit", 2.0 ** -(fmt.bits - 2))], "step")
        self.node("Div", ["blocks", "step"], "scaled")
        self.node("Round", ["scaled"], "nearest")
        limit = float(fmt.mantissa_max)
        lower, upper = self.constant("lower", -limit), self.constant("upper", limit)
        self.node("Clip", ["nearest", lower, upper], "mantissa")
        self.node("Mul", ["mantissa", "step"], "rounded")

    def _join(self, missing: int, source: str) -> None:
        if not missing:
            self.node("Reshape", ["rounded", "shape"], "y")
            return
        self.node("Shape", [source], "whole_shape")
        self.node("Reshape", ["rounded", "whole_shape"], "joined")
        first = self.constant("first", [0], np.int64)
        self.node("Shape", ["x"], "channels", start=1, end=2)
        self.node("Slice", ["joined", first, "channels", "channel_axis"], "y")
