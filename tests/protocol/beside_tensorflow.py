"""Imports tensorflow beside gatecast.protocol, and prints OK if they agree. Run by test_tensorflow.py."""

import sys

import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import error_codes_pb2, meta_graph_pb2

from gatecast.errors import RequestError
from gatecast.protocol import POOL, SignatureDef, TensorProto, decode_tensor, encode_tensor


def check_fields(ours, theirs):
    """Every field and enum value of ours is theirs too: name, number, type, oneof."""
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        for attribute in ("number", "type", "is_repeated", "json_name"):
            assert getattr(field, attribute) == getattr(other, attribute), (field.full_name, attribute)
        assert (field.containing_oneof is None) == (other.containing_oneof is None), field.full_name
        for kind in ("message_type", "enum_type"):
            mine, other_kind = getattr(field, kind), getattr(other, kind)
            assert (mine and mine.full_name) == (other_kind and other_kind.full_name), field.full_name


def check_enum(name, theirs):
    ours = {value.name: value.number for value in POOL.FindEnumTypeByName(name).values}
    assert ours.items() <= dict(theirs.items()).items()


def check_descriptors():
    for theirs in (
        tensor_pb2.TensorProto,
        tensor_shape_pb2.TensorShapeProto,
        tensor_shape_pb2.TensorShapeProto.Dim,
        meta_graph_pb2.SignatureDef,
        meta_graph_pb2.TensorInfo,
    ):
        check_fields(POOL.FindMessageTypeByName(theirs.DESCRIPTOR.full_name), theirs.DESCRIPTOR)
    check_enum("tensorflow.DataType", types_pb2.DataType)
    check_enum("tensorflow.error.Code", error_codes_pb2.Code)


def check_tensors():
    random = np.random.default_rng(4)
    arrays = [
        random.standard_normal((2, 3)).astype(kind)
        for kind in ("f4", "f8", "f2", "i4", "i8", "u1", "i1", "i2", "u2", "u4", "u8", "?")
    ]
    for array in [*arrays, np.array([b"a\0", b"", b"\xff"], object), np.float32(2.5)]:
        theirs = tf.make_tensor_proto(array)
        decoded = decode_tensor(TensorProto.FromString(theirs.SerializeToString()))
        assert decoded.tolist() == np.asarray(array).tolist(), array
        for content in (False, True):
            ours = TensorProto()
            encode_tensor(ours, np.asarray(array), content=content)
            back = tf.make_ndarray(tensor_pb2.TensorProto.FromString(ours.SerializeToString()))
            assert back.dtype == np.asarray(array).dtype
            assert back.tolist() == np.asarray(array).tolist(), array
            if content == bool(theirs.tensor_content):  # it has its own mind which form to take
                assert ours.SerializeToString() == theirs.SerializeToString(), array


def check_rules():
    """TensorFlow's own reader, in C++, fills, cuts, wraps and refuses as ours does."""
    cases = [
        {"dtype": 1, "shape": [3], "float_val": [1, 2]},
        {"dtype": 1, "shape": [2, 2], "float_val": [7]},
        {"dtype": 1, "shape": [2, 2]},
        {"dtype": 1, "shape": [2], "float_val": [1, 2, 3]},
        {"dtype": 1, "shape": [2], "double_val": [1, 2]},
        {"dtype": 1, "shape": [2], "float_val": [1, 2], "tensor_content": b"\0\0\x80\x3f" * 2},
        {"dtype": 1, "shape": [2], "tensor_content": b"abc"},
        {"dtype": 1, "shape": [2], "tensor_content": b"a" * 12},
        {"dtype": 1, "shape": [-1], "float_val": [1]},
        {"dtype": 1, "shape": [1 << 40, 1 << 40], "float_val": [1]},
        {"dtype": 1, "shape": [], "float_val": [1, 2]},
        {"dtype": 1, "shape": [0], "float_val": [1]},
        {"dtype": 4, "shape": [2], "int_val": [300, -1]},
        {"dtype": 6, "shape": [2], "int_val": [200, -129]},
        {"dtype": 17, "shape": [1], "int_val": [70000]},
        {"dtype": 10, "shape": [2], "bool_val": [True]},
        {"dtype": 10, "shape": [2], "tensor_content": b"\x01\x02"},
        {"dtype": 19, "shape": [2], "half_val": [0x3C00]},
        {"dtype": 14, "shape": [2], "half_val": [0x3F80, 0x14040]},
        {"dtype": 14, "shape": [1], "tensor_content": b"\x80\x3f"},
        {"dtype": 7, "shape": [2], "string_val": [b"a"]},
        {"dtype": 7, "shape": [2]},
        {"dtype": 7, "shape": [1], "string_val": [b"a", b"b"]},
    ]
    for case in cases:
        fields = dict(case)
        message = TensorProto(dtype=fields.pop("dtype"))
        for size in fields.pop("shape"):
            message.tensor_shape.dim.add(size=size)
        message.MergeFrom(TensorProto(**fields))
        try:
            theirs = (
                tf.io.parse_tensor(message.SerializeToString(), tf.as_dtype(message.dtype)).numpy().tolist()
            )
        except tf.errors.InvalidArgumentError:
            theirs = "refused"
        try:
            ours = decode_tensor(message).tolist()
        except RequestError:
            ours = "refused"
        assert ours == theirs, (case, ours, theirs)


assert descriptor_pb2.FileDescriptorProto.DESCRIPTOR.file.pool is not POOL
assert SignatureDef is not meta_graph_pb2.SignatureDef
check_descriptors()
check_tensors()
check_rules()
sys.stdout.write("OK")
