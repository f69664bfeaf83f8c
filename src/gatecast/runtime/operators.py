"""Which operators an ONNX model uses: just so much of its bytes is read.

Protobuf's wire format: a message is fields, each a key, number * 8 + kind, and a value.
"""

from collections.abc import Iterator

Buffer = bytes | memoryview

_GRAPH, _NODE, _OPERATOR, _DOMAIN = 7, 1, 4, 7
"""Fields of ModelProto, GraphProto and NodeProto."""

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_FIXED = {_EIGHT: 8, _FOUR: 4}


def operators(model: Buffer) -> frozenset[str]:
    """Names of the operators of a model's graph, with their domain if it is not ONNX's own: ``domain::name``.

    Those inside the bodies of control flow are not among them; If, Loop and Scan themselves are.

    Raises
    ------
    ValueError
        The bytes are no protobuf message.
    """
    nodes = [node for graph in _messages(model, _GRAPH) for node in _messages(graph, _NODE)]
    return frozenset(_name(node) for node in nodes)


def _name(node: Buffer) -> str:
    name, domain = (
        b"".join(bytes(part) for part in _messages(node, field)) for field in (_OPERATOR, _DOMAIN)
    )
    prefix = "" if domain in (b"", b"ai.onnx") else f"{domain.decode(errors='replace')}::"
    return prefix + name.decode(errors="replace")


def _messages(message: Buffer, wanted: int) -> Iterator[memoryview]:
    """Values of a field of bytes."""
    data, at = memoryview(message), 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"Protobuf has no wire type {kind}")
        if at + size > len(data):
            raise ValueError("Message ends inside a field")
        if key >> 3 == wanted and kind == _BYTES:
            yield data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Value of a varint, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("Message ends inside a number")
