"""Small ONNX models written by hand, of any opset."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def model(opset, nodes, shape, outputs=("y",), batch="N", **constants):
    """A model of one input `x`; a node is (operator, inputs, outputs, attributes), names parted by spaces.

    An input called ``-`` is left out. Constants are initializers by name.
    """
    made = [
        helper.make_node(
            kind,
            ["" if name == "-" else name for name in reads.split()],
            writes.split(),
            name=f"{kind.lower()}_{writes.split()[0]}",
            **attributes,
        )
        for kind, reads, writes, attributes in nodes
    ]
    graph = helper.make_graph(
        made,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def normal(*shape, seed=0, scale=0.5):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def single(value):
    return np.array(value, np.float32)
