import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gatecast.errors import RequestError
from gatecast.protocol import TensorProto, decode_tensor, dtype_name, dtype_number, encode_tensor
from gatecast.protocol.tensors import _varint

FLOAT, DOUBLE, INT32, UINT8, INT16, INT8, STRING, INT64, BOOL = 1, 2, 3, 4, 5, 6, 7, 9, 10
BFLOAT16, UINT16, HALF, UINT32, UINT64 = 14, 17, 19, 22, 23


def tensor(dtype, shape, **fields):
    message = TensorProto(dtype=dtype, **fields)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def encoded(values, **options):
    message = TensorProto()
    encode_tensor(message, values, **options)
    return TensorProto.FromString(message.SerializeToString())


@pytest.mark.parametrize(
    ("dtype", "field", "numbers", "expected"),
    [
        (FLOAT, "float_val", [1.5, -2.0], np.array([1.5, -2.0], np.float32)),
        (DOUBLE, "double_val", [0.1, 2.0], np.array([0.1, 2.0])),
        (INT32, "int_val", [-(2**31), 2**31 - 1], np.array([-(2**31), 2**31 - 1], np.int32)),
        (UINT8, "int_val", [0, 255], np.array([0, 255], np.uint8)),
        (UINT8, "int_val", [300, -1], np.array([44, 255], np.uint8)),
        (INT8, "int_val", [200, -129], np.array([-56, 127], np.int8)),
        (INT16, "int_val", [-(2**15), 5], np.array([-(2**15), 5], np.int16)),
        (UINT16, "int_val", [65535, 70000], np.array([65535, 4464], np.uint16)),
        (INT64, "int64_val", [-(2**63), 1], np.array([-(2**63), 1], np.int64)),
        (UINT32, "uint32_val", [2**32 - 1, 0], np.array([2**32 - 1, 0], np.uint32)),
        (UINT64, "uint64_val", [2**64 - 1, 0], np.array([2**64 - 1, 0], np.uint64)),
        (BOOL, "bool_val", [True, False], np.array([True, False])),
        (HALF, "half_val", [0x3C00, 0x13C00], np.array([1.0, 1.0], np.float16)),
        (BFLOAT16, "half_val", [0x3F80, 0xC040], np.array([1.0, -3.0], np.float32)),
    ],
)
def test_each_kind_is_read_from_its_list(dtype, field, numbers, expected):
    array = decode_tensor(tensor(dtype, [2], **{field: numbers}))
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([7.0], [[7.0, 7.0], [7.0, 7.0]]),  # one value fills the shape
        ([1.0, 2.0, 3.0], [[1.0, 2.0], [3.0, 3.0]]),  # the last one repeats
        ([], [[0.0, 0.0], [0.0, 0.0]]),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [[1.0, 2.0], [3.0, 4.0]]),  # what is too much is ignored
    ],
)
def test_short_and_long_lists_fill_the_shape(numbers, expected):
    assert decode_tensor(tensor(FLOAT, [2, 2], float_val=numbers)).tolist() == expected


def test_strings_fill_the_shape_by_the_same_rules():
    assert decode_tensor(tensor(STRING, [2], string_val=[b"a"])).tolist() == [b"a", b"a"]
    assert decode_tensor(tensor(STRING, [2])).tolist() == [b"", b""]
    assert decode_tensor(tensor(STRING, [1], string_val=[b"a", b"b"])).tolist() == [b"a"]
    assert decode_tensor(tensor(STRING, [0])).shape == (0,)
    assert decode_tensor(tensor(STRING, [], string_val=[b"x"])).shape == ()
    assert decode_tensor(tensor(STRING, [1, 2], string_val=[b"\xff", b""])).tolist() == [[b"\xff", b""]]


def test_content_is_little_endian_and_wins_over_the_list():
    message = tensor(FLOAT, [2], tensor_content=bytes.fromhex("0000803f00000040"), float_val=[9.0, 9.0])
    assert decode_tensor(message).tolist() == [1.0, 2.0]
    assert decode_tensor(tensor(INT16, [1], tensor_content=b"\x01\x02")).tolist() == [0x0201]
    assert decode_tensor(tensor(BFLOAT16, [1], tensor_content=b"\x80\x3f")).tolist() == [1.0]


def test_a_scalar_has_one_element_and_an_unknown_rank_is_a_scalar():
    assert decode_tensor(tensor(FLOAT, [], float_val=[3.0])).shape == ()
    unknown = tensor(FLOAT, [], float_val=[3.0])
    unknown.tensor_shape.unknown_rank = True
    assert decode_tensor(unknown).tolist() == 3.0


def test_nan_and_infinities_pass_with_their_bits():
    bits = np.array([0x7FC00001, 0xFFC00000, 0x7F800000, 0xFF800000, 0x00000001, 0x80000000], np.uint32)
    for content in (False, True):
        decoded = decode_tensor(encoded(bits.view(np.float32), content=content))
        assert decoded.view(np.uint32).tolist() == bits.tolist()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (tensor(FLOAT, [2], tensor_content=b"abc"), "tensor_content must have 8 bytes for its shape, not 3"),
        (tensor(FLOAT, [0], tensor_content=b"abcd"), "tensor_content must have 0 bytes for its shape, not 4"),
        (tensor(FLOAT, [-1], float_val=[1.0]), "tensor_shape must have no negative size, not [-1]"),
        (
            tensor(FLOAT, [1 << 40, 1 << 40], float_val=[1.0]),
            "tensor_shape must have at most 16777216 elements, not [1099511627776, 1099511627776]",
        ),
        (
            tensor(FLOAT, [0, 1 << 62]),
            "tensor_shape must have at most 16777216 elements, not [0, 4611686018427387904]",
        ),
        (tensor(FLOAT, [1] * 33), "tensor_shape must have at most 32 dimensions, not 33"),
        (tensor(0, [1]), "dtype must be a number or string, not invalid"),
        (tensor(8, [1]), "dtype must be a number or string, not complex64"),
        (tensor(99, [1]), "dtype must be a number or string, not unknown type 99"),
        (
            tensor(BOOL, [2], tensor_content=b"\x01\x02"),
            "tensor_content of a bool tensor must have only bytes 0 and 1",
        ),
        (
            tensor(STRING, [1], tensor_content=b"\x01a"),
            "A string tensor must have its values in string_val, not in tensor_content",
        ),
    ],
)
def test_what_cannot_be_is_refused(message, text):
    with pytest.raises(RequestError) as error:
        decode_tensor(message)
    assert str(error.value) == text


def test_a_huge_shape_with_one_value_is_refused_before_memory_is_taken():
    with pytest.raises(RequestError, match="at most 100 elements, not \\[101\\]"):
        decode_tensor(tensor(FLOAT, [101], float_val=[1.0]), max_elements=100)
    assert decode_tensor(tensor(FLOAT, [100], float_val=[1.0]), max_elements=100).shape == (100,)


def test_floats_are_answered_in_float_val():
    message = encoded(np.array([[0.25, -1.0]], np.float32))
    assert (message.dtype, [dim.size for dim in message.tensor_shape.dim]) == (FLOAT, [1, 2])
    assert (list(message.float_val), message.tensor_content) == ([0.25, -1.0], b"")


def test_floats_are_sent_in_tensor_content():
    message = encoded(np.array([1.0], ">f4"), content=True)
    assert (list(message.float_val), message.tensor_content) == ([], bytes.fromhex("0000803f"))


@pytest.mark.parametrize("count", [0, 1, 31, 32, 4095, 4096, 5000])
def test_the_list_of_floats_is_the_bytes_that_protobuf_writes(count):
    values = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    by_protobuf = tensor(FLOAT, [count], float_val=values.tolist())
    assert encoded(values).SerializeToString() == by_protobuf.SerializeToString()


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "00"), (127, "7f"), (128, "8001"), (1 << 32, "8080808010")]
)
def test_lengths_on_the_wire(number, expected):
    assert _varint(number).hex() == expected


@pytest.mark.parametrize(
    "values",
    [b"jpeg", [b"jpeg"], np.array([b"jpeg"], object), np.array([b"jpeg"])],
    ids=["one", "list", "O", "S"],
)
def test_bytes_become_a_vector_of_strings(values):
    message = encoded(values)
    assert (message.dtype, [dim.size for dim in message.tensor_shape.dim]) == (STRING, [1])
    assert list(message.string_val) == [b"jpeg"]


def test_bytes_with_zeros_at_the_end_keep_them():
    assert list(encoded([b"a\0\0", b""]).string_val) == [b"a\0\0", b""]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["text"], "<U4"),
        (np.array([1 + 2j]), "complex128"),
        ([b"a", "b"], "<U1"),
        (np.array([None]), "object"),
    ],
)
def test_what_has_no_place_on_the_wire_is_refused(values, dtype):
    with pytest.raises(RequestError) as error:
        encoded(values)
    assert str(error.value) == f"Tensor must hold numbers or bytes, not {dtype}"


KINDS = ["<f4", "<f8", "<i4", "|u1", "<i2", "|i1", "<i8", "|b1", "<u2", "<u4", "<u8", "<f2", ">f4", ">i8"]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    array=st.sampled_from(KINDS).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    ),
    content=st.booleans(),
)
def test_arrays_come_back_as_they_went(array, content):
    decoded = decode_tensor(encoded(array, content=content))
    assert decoded.shape == array.shape
    assert decoded.dtype == array.dtype.newbyteorder("<")
    assert decoded.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_a_view_with_strides_is_sent_in_order():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2].T
    for content in (False, True):
        np.testing.assert_array_equal(decode_tensor(encoded(array, content=content)), array)


def test_kinds_have_tensorflows_names():
    assert [dtype_name(number) for number in (1, 7, 19, 4)] == ["float", "string", "half", "uint8"]
    assert [dtype_number(name) for name in ("float32", "string", "float16", "uint8")] == [1, 7, 19, 4]
