"""Stock ONNX Runtime and OpenVINO, and the graph evaluator, all fed by the ports of one network."""

from dataclasses import fields

import numpy as np
import onnxruntime
import openvino

from gatecast.graph import BlockWeights, evaluate
from gatecast.interchange import to_onnx

LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def onnx_runtime(model, feed, level="all"):
    """Outputs by name; `level` of optimisation is ONNX Runtime's default unless told otherwise."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def open_vino(model, feed):
    """Outputs by name, computed in float32 (the default on some processors is bfloat16)."""
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
    found = compiled(feed)
    return {output.name: found[output.name] for output in model.graph.output}


RUNTIMES = {
    "onnxruntime": lambda graph, feed: onnx_runtime(to_onnx(graph), feed),
    "onnxruntime, not optimised": lambda graph, feed: onnx_runtime(to_onnx(graph), feed, "none"),
    "openvino": lambda graph, feed: open_vino(to_onnx(graph, inline=True), feed),
}


def outer(port, array):
    """One image's inner array as the tensor of a port."""
    return np.ascontiguousarray(array.transpose(2, 0, 1) if port.layout == "NCHW" else array)[None]


def feed_of(graph, inputs):
    """Tensors of the input ports for inner arrays by value."""
    return {port.name: outer(port, inputs[port.value]) for port in graph.interface.inputs}


def evaluated(graph, feed):
    """What the evaluator gives for tensors of the ports, as tensors of the ports; a batch of one."""
    inputs = {}
    for port in graph.interface.inputs:
        image = feed[port.name][0]
        inputs[port.value] = image.transpose(1, 2, 0) if port.layout == "NCHW" else image
    values = evaluate(graph, inputs)
    return {port.name: outer(port, values[port.value]) for port in graph.interface.outputs}


def difference(left, right):
    """Where two graphs differ first, None if they are equal bit for bit."""
    for field in ("name", "inputs", "outputs", "interface"):
        if getattr(left, field) != getattr(right, field):
            return field, getattr(left, field), getattr(right, field)
    if [layer.name for layer in left.layers] != [layer.name for layer in right.layers]:
        return [layer.name for layer in left.layers], [layer.name for layer in right.layers]
    for a, b in zip(left.layers, right.layers, strict=True):
        if type(a) is not type(b):
            return a, b
        for field in fields(a):
            if not _same(getattr(a, field.name), getattr(b, field.name)):
                return a.name, field.name, getattr(a, field.name), getattr(b, field.name)
    return None


def _same(a, b):
    if isinstance(a, BlockWeights):
        return isinstance(b, BlockWeights) and all(
            _same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a)
        )
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (
            b.dtype,
            b.shape,
            b.tobytes(),
        )
    return a == b
