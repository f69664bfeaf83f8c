import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.errors import RequestError
from gatecast.graph import Signature, TensorSpec
from gatecast.serving.rest_json import format_outputs, parse_body, parse_inputs, request_form

OUT = (TensorSpec("y", "float32", (-1, 2)),)
FLOATS = Signature((TensorSpec("x", "float32", (-1, 2)),), OUT)
PICTURES = Signature((TensorSpec("images", "string", (-1,)),), OUT)
TWO = Signature((TensorSpec("x", "float32", (-1, 2)), TensorSpec("images", "string", (-1,))), OUT)


def inputs(document, signature):
    return {name: array.tolist() for name, array in parse_inputs(document, signature).items()}


# --- In


@pytest.mark.parametrize(
    ("document", "signature", "expected"),
    [
        ({"instances": [[1, 2], [3, 4.5]]}, FLOATS, {"x": [[1.0, 2.0], [3.0, 4.5]]}),
        ({"instances": [{"x": [1, 2]}]}, FLOATS, {"x": [[1.0, 2.0]]}),
        ({"instances": [1, 2.5]}, FLOATS, {"x": [1.0, 2.5]}),
        ({"inputs": [[1, 2]]}, FLOATS, {"x": [[1.0, 2.0]]}),
        ({"inputs": {"x": [[1, 2]]}}, FLOATS, {"x": [[1.0, 2.0]]}),
        ({"inputs": 3}, FLOATS, {"x": 3.0}),
        ({"inputs": []}, FLOATS, {"x": []}),
        ({"instances": [{"b64": "YWI="}, "cd"]}, PICTURES, {"images": [b"ab", b"cd"]}),
        ({"instances": [{"images": {"b64": "YWI="}}]}, PICTURES, {"images": [b"ab"]}),
        ({"inputs": {"b64": "YWI="}}, PICTURES, {"images": b"ab"}),
        ({"inputs": {"images": [{"b64": "YWI"}]}}, PICTURES, {"images": [b"ab"]}),  # padding may be left out
        ({"inputs": [{"b64": "Y\nWI ="}]}, PICTURES, {"images": [b"ab"]}),
        ({"inputs": ["é"]}, PICTURES, {"images": ["é".encode()]}),
        ({"inputs": [[0.5, 1.0]]}, PICTURES, {"images": [[0.5, 1.0]]}),  # preprocessed already
        (
            {"instances": [{"x": [1, 2], "images": "a"}, {"images": "b", "x": [3, 4]}]},
            TWO,
            {"x": [[1.0, 2.0], [3.0, 4.0]], "images": [b"a", b"b"]},
        ),
        ({"inputs": {"x": [[1, 2]], "images": ["a"]}}, TWO, {"x": [[1.0, 2.0]], "images": [b"a"]}),
    ],
)
def test_rows_and_columns_become_tensors(document, signature, expected):
    assert inputs(document, signature) == expected


def test_numbers_become_float32_and_special_tokens_are_read():
    document = parse_body(b'{"inputs": [NaN, Infinity, -Infinity, 1e39, 16777217, 1' + b"0" * 30 + b"]}")
    array = parse_inputs(document, FLOATS)["x"]
    assert array.dtype == np.float32
    assert [str(value) for value in array] == ["nan", "inf", "-inf", "inf", "1.6777216e+07", "1e+30"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (
            b"{",
            "JSON Parse error: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (b"[1]", "JSON Value: [1] Is not object"),
        (b"[" * 100_000, "JSON Parse error: Lists are nested too deep"),
        (b"\xff\xfe\xfa", "JSON Parse error: "),
        (b'{"inputs": ' + b"9" * 5000 + b"}", "JSON Parse error: Exceeds the limit"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body, text):
    with pytest.raises(RequestError) as error:
        parse_body(body)
    assert str(error.value).startswith(text)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        (
            {"inputs": 1, "instances": [1]},
            'JSON Value: {"inputs": 1, "instances": [1]} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist ",
        ),
    ],
)
def test_exactly_one_form_is_needed(document, text):
    with pytest.raises(RequestError) as error:
        request_form(document)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("document", "signature", "text"),
    [
        ({"instances": 1}, FLOATS, "JSON Value: 1 Expecting 'instances' to be an list/array"),
        ({"instances": []}, FLOATS, "JSON Value: [] No values in 'instances' array"),
        (
            {"instances": [[1, 2]]},
            TWO,
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map",
        ),
        (
            {"inputs": [[1, 2]]},
            TWO,
            "inputs is a plain value/list, but expecting an object as multiple "
            "input tensors required as per tensorinfo_map",
        ),
        ({"inputs": {"x": [1]}}, TWO, "Missing named input: images in 'inputs' object."),
        (
            {"instances": [{"x": [1, 2]}]},
            TWO,
            "Failed to process element: 0 of 'instances' list. "
            'JSON object: {"x": [1, 2]} keys must be equal to: x,images',
        ),
        (
            {"instances": [{"z": [1, 2]}]},
            FLOATS,
            "Failed to process element: 0 of 'instances' list. "
            'JSON object: {"z": [1, 2]} keys must be equal to: x',
        ),
        (
            {"instances": [{"x": [1, 2]}, [3, 4]]},
            FLOATS,
            "Expecting object but got list at item 1 of input list",
        ),
        (
            {"instances": [[1, 2], {"x": [3, 4]}]},
            FLOATS,
            "Expecting value/list but got object at item 1 of input list",
        ),
        ({"inputs": "a"}, FLOATS, 'JSON Value: "a" Type: String is not of expected type: float'),
        ({"inputs": [1, "2"]}, FLOATS, 'JSON Value: "2" Type: String is not of expected type: float'),
        ({"inputs": [None]}, FLOATS, "JSON Value: null Type: Null is not of expected type: float"),
        ({"inputs": [True]}, FLOATS, "JSON Value: true Type: Boolean is not of expected type: float"),
        (
            {"inputs": [{"b64": "YQ=="}]},
            FLOATS,
            'JSON Value: {"b64": "YQ=="} Type: Object is not of expected type: float',
        ),
        (
            {"inputs": [[1, 2], [3]]},
            FLOATS,
            "JSON Value: [[1, 2], [3]] must be numbers in lists of equal sizes at each level for input x",
        ),
        (
            {"inputs": [10**400]},
            FLOATS,
            f"JSON Value: [1{'0' * 62}... must be numbers in lists of equal sizes at each level for input x",
        ),
        ({"inputs": ["a", 1]}, PICTURES, "JSON Value: 1 not formatted correctly for base64 data"),
        (
            {"inputs": [{"b64": 1}]},
            {},
            'JSON Value: {"b64": 1} not formatted correctly for base64 data',
        ),
        ({"inputs": [{"b64": "!!!"}]}, PICTURES, "Unable to base64 decode"),
        ({"inputs": [["a"]]}, PICTURES, "Encountered list at unexpected level: 1 expected < 1"),
    ],
)
def test_values_that_do_not_fit_are_refused(document, signature, text):
    with pytest.raises(RequestError) as error:
        parse_inputs(document, signature or PICTURES)
    assert str(error.value) == text


def test_long_values_are_not_shown_whole():
    with pytest.raises(RequestError) as error:
        parse_inputs({"instances": {"a": "b" * 1000}}, FLOATS)
    assert len(str(error.value)) < 150


# --- Out


def test_a_single_output_by_rows_and_by_columns():
    outputs = {"y": np.array([[0.1, 2.0], [1e-7, -3.5]], np.float32)}
    assert format_outputs(outputs, "instances") == '{"predictions": [[0.1, 2.0], [1e-07, -3.5]]}'
    assert format_outputs(outputs, "inputs") == '{"outputs": [[0.1, 2.0], [1e-07, -3.5]]}'


def test_several_outputs_by_rows_and_by_columns():
    outputs = {"a": np.array([[1], [2]], np.float32), "b": np.array([3, 4], np.float32)}
    assert (
        format_outputs(outputs, "instances")
        == '{"predictions": [{"a": [1.0], "b": 3.0}, {"a": [2.0], "b": 4.0}]}'
    )
    assert format_outputs(outputs, "inputs") == '{"outputs": {"a": [[1.0], [2.0]], "b": [3.0, 4.0]}}'


def test_nan_and_infinities_are_tokens():
    outputs = {"y": np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)}
    assert format_outputs(outputs, "inputs") == '{"outputs": [NaN, Infinity, -Infinity, -0.0]}'


@pytest.mark.parametrize(
    ("shape", "text"),
    [((0,), "[]"), ((2, 0), "[[], []]"), ((0, 3), "[]"), ((1, 1, 1), "[[[0.0]]]"), ((), "0.0")],
)
def test_empty_and_deep_shapes(shape, text):
    assert format_outputs({"y": np.zeros(shape, np.float32)}, "inputs") == f'{{"outputs": {text}}}'


def test_rows_need_a_batch_dimension_of_one_size():
    with pytest.raises(RequestError, match="Tensor name: y has no shape information "):
        format_outputs({"y": np.float32(1)}, "instances")
    with pytest.raises(RequestError, match="Outputs must have the same batch size"):
        format_outputs({"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}, "instances")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.floats(width=32, allow_nan=False), max_size=8))
def test_floats_read_back_to_the_bit_and_look_like_floats(values):
    array = np.array(values, np.float32)
    text = format_outputs({"y": array}, "inputs")
    assert np.array(json.loads(text)["outputs"], np.float32).tobytes() == array.tobytes()
    for token in text[len('{"outputs": [') : -2].split(", ") if values else []:
        assert any(mark in token for mark in ".e") or "Infinity" in token


@pytest.mark.parametrize("value", [0.1, 1 / 3, 16777216.0, 3.4028235e38, 1e-45, 1.17549435e-38])
def test_floats_have_the_fewest_digits(value):
    token = format_outputs({"y": np.float32(value)}, "inputs")[len('{"outputs": ') : -1]
    with np.errstate(over="ignore"):  # too few digits of the largest float round to infinity
        tries = [f"{np.float32(value):.{digits}e}" for digits in range(9)]
        shortest = next(text for text in tries if np.float32(text) == np.float32(value))
    digits = shortest.split("e")[0].replace(".", "").rstrip("0")
    assert token.split("e")[0].replace(".", "").strip("0") == digits
