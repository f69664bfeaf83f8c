"""The bodies of `map_fn` loops: TensorFlow 1's frames with TensorArrays, and functions with tensor lists."""

from typing import Any

from tensorflow.python.framework import function_def_to_graph

from .nodes import Nodes, node_of, whole

_WHILE = ("While", "StatelessWhile")


def body_of(nodes: Nodes, tensor: str) -> tuple[Nodes, str] | None:
    """Return the nodes of a loop's body, and the tensor in it that one turn adds to the stack `tensor`.

    None if `tensor` is no such stack.
    """
    node = nodes.node(tensor)
    if node.op == "TensorArrayGatherV3":
        return _frame_body(nodes, node)
    if node.op == "TensorListStack":
        return _function_body(nodes, node)
    return None


def _frame_body(nodes: Nodes, gather: Any) -> tuple[Nodes, str] | None:
    """From the loop's exit back through Switch, Merge and NextIteration to what writes the array."""
    tensor = nodes.inputs(gather)[2]
    for op, index in (("Exit", 0), ("Switch", 0), ("Merge", 1), ("NextIteration", 0)):
        node = nodes.node(tensor)
        if node.op != op:
            return None
        tensor = nodes.inputs(node)[index]
    write = nodes.node(nodes.source(tensor))
    return (nodes, nodes.inputs(write)[2]) if write.op == "TensorArrayWriteV3" else None


def _function_body(nodes: Nodes, stack: Any) -> tuple[Nodes, str] | None:
    loop_output = nodes.source(nodes.inputs(stack)[0])
    loop = nodes.node(loop_output)
    function = nodes.functions.get(loop.attr["body"].func.name) if loop.op in _WHILE else None
    if function is None:
        return None
    body_def, names = function_def_to_graph.function_def_to_graph_def(function)
    body_def.library.CopyFrom(nodes.graph_def.library)
    body = Nodes(body_def)
    place = int(loop_output.partition(":")[2])
    made = function.ret[function.signature.output_arg[place].name]
    setter = body.node(body.source(whole(names.get(made, made))))
    return (body, body.inputs(setter)[2]) if setter.op == "TensorListSetItem" else None


def is_inside(nodes: Nodes, tensor: str) -> bool:
    """Whether a tensor is made inside a loop of frames, so that nothing outside can be read from it."""
    waiting, seen = [tensor], set()
    while waiting:
        name = node_of(waiting.pop())
        node = nodes.by_name[name]
        if name in seen or node.op == "Exit":
            continue
        if node.op in ("Enter", "NextIteration", "LoopCond"):
            return True
        seen.add(name)
        waiting.extend(nodes.inputs(node))
    return False
