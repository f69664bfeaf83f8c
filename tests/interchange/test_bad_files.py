"""Files and networks that cannot be read: one clear error each, never another exception."""

import json
import re

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tests.interchange.models import ints, model, normal, single
from tests.random_graphs import random_graph

from gatecast.errors import FileError, GatecastError, UnsupportedError
from gatecast.interchange import export, from_onnx, load, supported_operators, to_onnx
from gatecast.quantization import quantize

CONV = [("Conv", "x w", "y", {})]
SHAPE = (3, 6, 5)


def small(nodes=CONV, opset=13, **constants):
    return model(opset, nodes, SHAPE, **(constants or {"w": normal(4, 3, 3, 3)}))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileError, match=r"File .*none.onnx must be readable: No such file") as caught:
        load(tmp_path / "none.onnx")
    assert caught.value.hint == "Check the path."


def test_a_folder(tmp_path):
    with pytest.raises(FileError, match="must hold a SavedModel or one ONNX file, not 0 ONNX files"):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(50), b"hello, world", bytes(100)])
def test_a_file_of_another_kind(tmp_path, data):
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(FileError, match="must be an ONNX model"):
        load(tmp_path / "a.onnx")


def test_a_file_cut_short_anywhere(tmp_path):
    path = tmp_path / "a.onnx"
    data = to_onnx(quantize(random_graph(4, steps=3), "bfp8")).SerializeToString(deterministic=True)
    for length in np.linspace(0, len(data) - 1, 60, dtype=int):
        path.write_bytes(data[:length])
        with pytest.raises(GatecastError):
            load(path)


def test_flipped_bits_give_an_error_of_ours_or_a_graph(tmp_path):
    rng = np.random.default_rng(0)
    data = to_onnx(quantize(random_graph(4, steps=2), "bfp8")).SerializeToString(deterministic=True)
    path = tmp_path / "a.onnx"
    refused = 0
    for _ in range(150):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            load(path)
        except GatecastError:
            refused += 1
    assert refused > 30


def test_every_unsupported_node_is_listed_with_its_reason():
    nodes = [
        ("ConvTranspose", "x w", "a", {}),
        ("Relu", "a", "r", {}),
        ("LRN", "r", "l", {"size": 3}),
        ("Pad", "x pads", "p", {"mode": "reflect"}),
        ("Add", "l p", "y", {}),
    ]
    source = model(13, nodes, SHAPE, w=normal(3, 4, 3, 3), pads=ints(0, 0, 1, 1, 0, 0, 1, 1))
    source.graph.node.append(helper.make_node("Gelu", ["y"], ["z"], name="gelu_z", domain="com.example"))
    source.graph.output.append(helper.make_tensor_value_info("z", 1, None))
    with pytest.raises(UnsupportedError) as caught:
        from_onnx(source)
    assert str(caught.value) == (
        "Network model must have operators that Gatecast knows, not these 4: "
        "convtranspose_a (ConvTranspose: not supported); lrn_l (LRN: not supported); "
        "pad_p (Pad: mode must be constant, not reflect); gelu_z (com.example.Gelu: not supported)"
    )
    assert caught.value.hint == f"Supported operators: {', '.join(supported_operators())}."
    assert "Conv" in supported_operators() and "LRN" not in supported_operators()


REASONS = {
    "Conv: input 1 must be a constant of the file": [("Conv", "x x", "y", {})],
    "Conv: is 1-dimensional; only 2-D convolution is known": [("Conv", "x v", "y", {})],
    "Gemm: transA must be 0": [("Flatten", "x", "f", {}), ("Gemm", "f m", "y", {"transA": 1})],
    "MaxPool: makes indices": [("MaxPool", "x", "y i", {"kernel_shape": [2, 2]})],
    "Softmax: runs over the batch": [("Softmax", "x", "y", {"axis": 0})],
    "PRelu: has a slope for each channel": [("PRelu", "x slopes", "y", {})],
    "LeakyRelu: slope must be between 0 and 1, not 1.5": [("LeakyRelu", "x", "y", {"alpha": 1.5})],
    "Add: has a constant of shape [6, 1]": [("Add", "x rows", "y", {})],
    "Mul: broadcasts [(6, 5, 3), (6, 5, 1)]": [("Slice", "x zero one one", "s", {}), ("Mul", "x s", "y", {})],
    "Div: divides one value by another": [("Relu", "x", "r", {}), ("Div", "x r", "y", {})],
    "Div: divides a constant by a value": [("Div", "two x", "y", {})],
    "Max: compares with a constant; Clip is known": [("Max", "x two", "y", {})],
    "ReduceMean: reduces axes [1]": [("ReduceMean", "x", "y", {"axes": [1]})],
    "Pow: exponent must be 2, not 3.0": [("Pow", "x three", "y", {})],
    "Sqrt: is known only inside an L2 normalisation": [("Sqrt", "x", "y", {})],
    "Resize: takes the nearest pixel in another way": [("Resize", "x - scales", "y", {})],
    "Resize: takes the nearest pixel in another way than": [
        ("Resize", "x - twice", "y", {"nearest_mode": "floor"})
    ],
    "Resize: mode must be nearest or linear, not cubic": [("Resize", "x - twice", "y", {"mode": "cubic"})],
    "Concat: joins along the batch": [("Concat", "x x", "y", {"axis": 0})],
    "Slice: steps must be positive, not -1": [("Slice", "x one minus one minus", "y", {})],
    "Cast: casts to FLOAT16, not to float32": [("Cast", "x", "y", {"to": 10})],
    "Exp: is known for constants only": [("Exp", "x", "y", {})],
    "Tile: repeats something else than pixels": [("Tile", "x tiles", "y", {})],
    "Reshape: mixes the batch with another dimension": [("Reshape", "x whole", "y", {})],
}


@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_says_what_is_wrong_with_the_node(reason):
    constants = {
        "v": normal(4, 3, 3),
        "m": normal(1, 5),
        "slopes": normal(3, 1, 1),
        "rows": normal(6, 1),
        "two": single(2),
        "three": single(3),
        "scales": np.array([1, 1, 1.5, 1.5], np.float32),
        "twice": np.array([1, 1, 2, 2], np.float32),
        "zero": ints(0),
        "one": ints(1),
        "minus": ints(-1),
        "tiles": ints(1, 2, 1, 1),
        "whole": ints(5, 18),
    }
    with pytest.raises(UnsupportedError) as caught:
        from_onnx(model(13, REASONS[reason], SHAPE, **constants))
    assert reason in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(value):
    weights = normal(4, 3, 3, 3)
    weights[1, 2, 0, 1] = value
    with pytest.raises(FileError, match=rf"tensor w must be finite, not {value} at \[1, 2, 0, 1\]"):
        from_onnx(small(w=weights))


def test_an_input_of_any_size_says_how_to_fix_it():
    source = small()
    source.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(
        UnsupportedError, match=r"Input x must have a fixed size, not \['N', 3, 'height', 5\]"
    ) as e:
        from_onnx(source)
    assert "make_dynamic_shape_fixed --input_name x" in e.value.hint


def test_an_input_of_bytes_is_refused():
    source = small()
    source.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    with pytest.raises(UnsupportedError, match="Input x must be float32, not uint8"):
        from_onnx(source)
    source.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(UnsupportedError, match="Input x must be float32, not type 99"):
        from_onnx(source)


@pytest.mark.parametrize("opset", [6, 999])
def test_an_opset_out_of_range_is_refused(opset):
    with pytest.raises(UnsupportedError, match=f"Model must be of an opset from 7 to .*, not {opset}"):
        from_onnx(small(opset=opset))


MALFORMED = {
    "must read tensors made before it, not z": [("Relu", "z", "y", {})],
    "must make new tensors, not w again": [("Relu", "x", "w", {}), ("Relu", "w", "y", {})],
    "must be well formed ONNX": [("Conv", "x", "y", {})],
    "Unrecognized attribute": [("Relu", "x", "y", {"colour": 3})],
    "must have 90 values for each output, not 9": [("Flatten", "x", "f", {}), ("Gemm", "f q", "y", {})],
    "must have weights for 3 input channels": [("Conv", "x w", "y", {"group": 2})],
    "must be a constant of a sensible size": [("ConstantOfShape", "big", "c", {}), ("Add", "x c", "y", {})],
    "Numbers of div_y (scale) must be finite": [("Div", "x tiny", "y", {})],
    "Numbers of mul_y.scaled (scale) must be finite": [
        ("ReduceSum", "x space", "s", {}),
        ("Mul", "s huge", "y", {}),
    ],
    "Numbers of hardsigmoid_y (low) must be finite": [("HardSigmoid", "x", "y", {"alpha": np.nan})],
    "computing failed": [("Reshape", "w no", "r", {}), ("Conv", "x r", "y", {})],
}


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_network_names_the_node(text):
    constants = {"w": normal(4, 3, 3, 3), "q": normal(9, 5), "big": ints(10**6, 10**6), "no": ints(7, 7)}
    constants |= {"tiny": single(1e-45), "huge": single(3e38), "space": ints(2, 3)}
    text = text.replace("must be a constant", "must make a constant")
    with pytest.raises(GatecastError) as caught:
        from_onnx(
            model(
                13,
                MALFORMED.get(text) or MALFORMED["must be a constant of a sensible size"],
                SHAPE,
                **constants,
            )
        )
    assert text in str(caught.value)


def quantised():
    graph = quantize(random_graph(4, steps=2), "bfp8")
    source = to_onnx(graph)
    tensors = {tensor.name: tensor for tensor in source.graph.initializer}
    mantissas = next(tensor for name, tensor in tensors.items() if name.endswith(".weight.bfp8"))
    return source, mantissas, tensors[mantissas.name.replace(".bfp8", ".e8m0")]


def change(tensor, index, value):
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[index] = value
    tensor.raw_data = array.tobytes()


def test_a_mantissa_out_of_range_is_refused():
    source, mantissas, _ = quantised()
    change(mantissas, 0, -128)
    with pytest.raises(
        FileError, match=r"Block of \S+.bfp8 at .* must have mantissas within ±127 .*, not 128"
    ):
        from_onnx(source)


def test_an_exponent_out_of_range_is_refused():
    source, _, scales = quantised()
    change(scales, 0, 127 + 48)  # one step above what bfp8 can have: E = 54
    with pytest.raises(FileError, match="and an exponent within ±48, not .* 54"):
        from_onnx(source)
    change(scales, 0, 255)
    with pytest.raises(FileError, match="computing failed"):
        from_onnx(source)


def test_channels_of_a_block_with_different_exponents_are_refused():
    source, mantissas, scales = quantised()
    array = numpy_helper.to_array(scales)
    o, pieces, _, kh, kw = array.shape
    wide = np.repeat(array, numpy_helper.to_array(mantissas).shape[2], axis=2)
    wide[0, 0, 0] += 1
    scales.CopyFrom(numpy_helper.from_array(wide, scales.name))
    with pytest.raises(UnsupportedError, match="must have one exponent for each block of 32 channels"):
        from_onnx(source)


def test_an_encode_function_that_was_changed_is_refused():
    source, *_ = quantised()
    rounding = next(node for node in source.functions[0].node if node.op_type == "Round")
    rounding.op_type = "Floor"
    with pytest.raises(
        UnsupportedError, match=r"gatecast.EncodeBfp8\w*: its function is not the one of that name"
    ):
        from_onnx(source)


def test_metadata_that_is_no_interface_is_refused():
    source = to_onnx(random_graph(1))
    good = source.metadata_props[0].value
    source.metadata_props[0].value = "{"
    with pytest.raises(FileError, match="Metadata gatecast.interface must be JSON"):
        from_onnx(source)
    source.metadata_props[0].value = json.dumps({"inputs": 3})
    with pytest.raises(FileError, match="Interface must have the form of version 1"):
        from_onnx(source)
    source.metadata_props[0].value = good.replace('"images"', '"pictures"')
    with pytest.raises(FileError, match=r"must name the file's inputs \['images'\], not \['pictures'\]"):
        from_onnx(source)


def with_external_data(folder, location="weights.bin", data=None, offset=0, length=None):
    source = small()
    tensor = source.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {
        "location": location,
        "offset": str(offset),
        "length": str(len(raw) if length is None else length),
    }
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "weights.bin").write_bytes(bytes(offset) + raw if data is None else data)
    (folder / "a.onnx").write_bytes(source.SerializeToString())
    return folder / "a.onnx"


@pytest.mark.parametrize("offset", [0, 64])
def test_data_beside_the_file_is_read(tmp_path, offset):
    graph = load(with_external_data(tmp_path, offset=offset))
    assert (graph.layers[0].weights == normal(4, 3, 3, 3).transpose(0, 2, 3, 1)).all()


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "", "a/../../weights.bin"])
def test_data_outside_the_files_folder_is_refused(tmp_path, location):
    (tmp_path / "model").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(432))
    with pytest.raises(FileError, match="Data of tensor w in a.onnx must lie in the model's folder"):
        load(with_external_data(tmp_path / "model", location))


def test_damaged_words_about_the_data_are_refused(tmp_path):
    good = with_external_data(tmp_path).read_bytes()
    for old, new, text in (
        (b"weights.bin", b"weights\xff.bin"[:11], "must lie in the model's folder, not at b'weights"),
        (b"location", b"locatio\xff", "must lie in the model's folder, not at ''"),
        (b"offset\x12\x010", b"offset\x12\x01x", "must be readable: invalid literal"),
    ):
        assert good.count(old) == 1
        (tmp_path / "b.onnx").write_bytes(good.replace(old, new))
        with pytest.raises(FileError, match=re.escape(text)):
            load(tmp_path / "b.onnx")


def test_a_device_without_an_end_is_not_read():
    with pytest.raises(FileError, match="File /dev/zero must be a file, not a device, which has no end"):
        load("/dev/zero")


def test_data_behind_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    path = with_external_data(tmp_path / "model", "link.bin")
    (tmp_path / "outside.bin").write_bytes(bytes(432))
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(FileError, match="must lie in the model's folder"):
        load(path)


def test_data_that_is_missing_or_too_short_is_refused(tmp_path):
    with pytest.raises(FileError, match="must be readable: .*No such file"):
        load(with_external_data(tmp_path, "other.bin"))
    with pytest.raises(FileError, match=r"must lie inside weights.bin: 432 bytes at 0 of 10"):
        load(with_external_data(tmp_path, data=bytes(10)))
    with pytest.raises(FileError, match=r"must lie inside weights.bin"):
        load(with_external_data(tmp_path, length=10**15))
    with pytest.raises(FileError, match="Tensor w must have bytes that fit its type and shape"):
        load(with_external_data(tmp_path, length=100))


def test_a_model_in_memory_with_data_elsewhere_says_to_load_it_by_its_path(tmp_path):
    with pytest.raises(FileError, match="Tensor w must be in the file, not beside it") as caught:
        from_onnx(onnx.load(with_external_data(tmp_path), load_external_data=False))
    assert "by its path" in caught.value.hint


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FileError, match=r"File .*a.onnx cannot be written: No such file"):
        export(random_graph(1), tmp_path / "none" / "a.onnx")
