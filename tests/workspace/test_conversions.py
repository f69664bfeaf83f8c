import contextlib
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gatecast
from gatecast import __version__
from gatecast.errors import (
    FileError,
    FormatError,
    GraphError,
    NotFoundError,
    UnsupportedError,
    WorkspaceError,
)
from gatecast.workspace import State, operations, worker


@pytest.fixture
def convert(ws, monkeypatch):
    """Run a conversion to its end in this process; return the operation."""

    def run_here(self, identity):
        log = self.get(identity).log
        with log.open("a") as file, contextlib.redirect_stdout(file):
            worker.main([str(ws.folder), identity])
        return self.get(identity)

    def convert(model, **options):
        with monkeypatch.context() as patch:
            patch.setattr(operations.Operations, "launch", run_here)
            return ws.conversions.start(model, **options)

    return convert


def network(path, nodes, shape=(1, 3, 8, 8), output="y", initializers=()):
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x:0", TensorProto.FLOAT, shape)],
        [info(output, TensorProto.FLOAT, None)],
        list(initializers),
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("other", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path


@pytest.fixture
def small(tmp_path):
    """Convolution, ``classifier/Softmax:0`` behind it."""
    random = np.random.default_rng(3)
    first, second = (
        random.standard_normal(shape).astype(np.float32) for shape in ((5, 3, 3, 3), (4, 5, 1, 1))
    )
    nodes = [
        helper.make_node("Conv", ["x:0", "first"], ["stem"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["stem", "second"], ["features/conv:0"], "conv"),
        helper.make_node("GlobalAveragePool", ["features/conv:0"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("Softmax", ["flat"], ["classifier/Softmax:0"], "softmax"),
    ]
    initializers = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    return network(tmp_path / "small.onnx", nodes, output="classifier/Softmax:0", initializers=initializers)


def test_the_result_is_the_quantised_network_as_standard_onnx(ws, fashion, tmp_path):
    source = ws.models.register("fashion", fashion)
    operation = ws.operations.wait(ws.conversions.start(source, format="bfp6"), timeout=60)
    assert operation.state is State.SUCCEEDED, ws.operations.read_log(operation)
    model = ws.conversions.result(operation)
    gatecast.export(gatecast.quantize(gatecast.load(fashion), "bfp6"), tmp_path / "expected.onnx")
    assert ws.models.file(model).read_bytes() == (tmp_path / "expected.onnx").read_bytes()
    assert (model.id, model.parent, model.file_name) == ("fashion.1.accelonnx:1", "fashion:1", "fashion.onnx")
    assert model.properties == {
        "format": "bfp6",
        "inputs": "images",
        "outputs": "probabilities",
        "tool_version": __version__,
    }
    assert ws.conversions.list() == [operation]


def test_the_log_tells_what_was_done(ws, fashion, convert):
    operation = convert(ws.models.register("fashion", fashion))
    text = ws.operations.read_log(operation)
    lines = [line[20:] for line in text.splitlines()]
    assert lines[0] == f"Gatecast {__version__}, workspace demo: convert fashion:1"
    assert [line for line in lines if line.startswith("[")] == [
        f"[1/5] Reading fashion:1: ONNX network, {fashion.stat().st_size:,} bytes, "
        f"digest {ws.models.get('fashion').digest}",
        "[2/5] Read fashion: 34 layers; inputs images string [-1]; outputs probabilities float32 [-1, 10]",
        "[3/5] Quantising to bfp8",
        "[4/5] Writing fashion.onnx",
        f"[5/5] Registering fashion.1.accelonnx, {ws.models.get('fashion.1.accelonnx').size:,} bytes, "
        f"digest {ws.models.get('fashion.1.accelonnx').digest}",
    ]
    assert "  conv1: bfp8, 288 weights, 44.3 dB SQNR" in lines
    assert lines[-1] == "Succeeded: fashion.1.accelonnx:1"


def test_converting_again_makes_the_next_version_of_the_same_bytes(ws, small, convert):
    source = ws.models.register("small", small)
    results = [ws.conversions.result(convert(source)) for _ in range(2)]
    assert [model.id for model in results] == ["small.1.accelonnx:1", "small.1.accelonnx:2"]
    assert results[0].digest == results[1].digest
    ws.models.register("small", small)
    assert ws.conversions.result(convert("small")).id == "small.2.accelonnx:1"


@pytest.mark.parametrize(
    "outputs",
    [
        "classifier_1/Softmax:0",
        "classifier/Softmax",
        ["classifier/Softmax:0"],
        ("classifier_1/Softmax",),
        None,
        [],
    ],
)
def test_outputs_are_named_as_documents_name_them(ws, small, convert, outputs):
    operation = convert(ws.models.register("small", small), inputs="x", outputs=outputs)
    model = ws.conversions.result(operation)
    assert (model.properties["inputs"], model.properties["outputs"]) == ("x:0", "classifier/Softmax:0")
    ports = gatecast.load(ws.models.file(model)).interface.outputs
    given = [outputs] if isinstance(outputs, str) else outputs or []
    assert [*ports[0].aliases] == [name for name in given if name != "classifier/Softmax:0"]


def test_many_outputs_come_as_a_list_or_with_commas(ws, small, convert):
    source = ws.models.register("small", small)
    for outputs in ("features/conv, classifier/Softmax", ["features/conv:0", "classifier/Softmax:0"]):
        model = ws.conversions.result(convert(source, outputs=outputs))
        assert model.properties["outputs"] == "features/conv:0,classifier/Softmax:0"


def test_a_folder_with_one_network_and_its_data_is_converted(ws, small, tmp_path, convert):
    folder = tmp_path / "folder"
    folder.mkdir()
    onnx.save(
        onnx.load(small),
        folder / "net.ONNX",
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )
    (folder / "README.md").write_text("about it")
    whole = ws.conversions.result(convert(ws.models.register("small", small)))
    parts = ws.conversions.result(convert(ws.models.register("parts", folder)))
    assert parts.digest == whole.digest
    assert parts.file_name == "parts.onnx"


def test_a_quantised_network_is_registered_as_it_is(ws, small, convert):
    once = ws.conversions.result(convert(ws.models.register("small", small)))
    operation = convert(once)
    twice = ws.conversions.result(operation)
    assert (twice.name, twice.digest) == ("small.1.accelonnx.1.accelonnx", once.digest)
    assert "The network is quantised with these formats already" in ws.operations.read_log(operation)
    assert convert(once, format="bfp5").error.startswith("Layer conv of net must be bfp5, but is bfp8")


def test_every_node_that_is_not_supported_is_named_and_nothing_is_registered(ws, tmp_path, convert, check):
    nodes = [
        helper.make_node("Det", ["x:0"], ["d"], "first"),
        helper.make_node("Mystery", ["x:0"], ["m"], "second", domain="other"),
        helper.make_node("Add", ["d", "m"], ["a"], "fine"),
        helper.make_node("Unique", ["x:0"], ["y"], "third"),
        helper.make_node("Concat", ["y", "a"], ["z"], "last", axis=0),
    ]
    source = ws.models.register("odd", network(tmp_path / "odd.onnx", nodes, output="z"))
    operation = convert(source)
    assert (operation.state, operation.result) == (State.FAILED, None)
    assert operation.error.startswith(
        "Network net must have operators that Gatecast knows, not these 3: "
        "first (Det: not supported); second (other.Mystery: not supported); third (Unique: not supported)"
    )
    assert "hint: Supported operators: " in ws.operations.read_log(operation)
    assert ws.models.list() == [source]
    with pytest.raises(WorkspaceError, match="^Conversion of odd:1 must have succeeded, but is Failed$"):
        ws.conversions.result(operation)
    check(ws)


def test_a_corrupt_network_fails_with_its_reason(ws, fashion, tmp_path, convert, check):
    data = fashion.read_bytes()
    for name, content in (("cut", data[:5000]), ("empty", b""), ("noise", bytes(range(256)) * 40)):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        operation = convert(ws.models.register(name, path))
        assert operation.state is State.FAILED
        assert "must be an ONNX model" in operation.error
    check(ws)


def test_a_network_with_nothing_to_accelerate_is_refused_unless_it_is_allowed(ws, tmp_path, convert):
    nodes = [helper.make_node("Relu", ["x:0"], ["y"], "relu")]
    source = ws.models.register("relu", network(tmp_path / "relu.onnx", nodes))
    operation = convert(source)
    assert operation.error.startswith("Network net must have a convolution or matrix product")
    assert convert(source, require_acceleration=False).state is State.SUCCEEDED


def test_tensors_that_do_not_exist_fail_with_those_that_do(ws, small, convert):
    source = ws.models.register("small", small)
    operation = convert(source, outputs="probabilities")
    assert operation.error == (
        "Output must be a tensor of the network, not probabilities\n"
        "The network has the output classifier/Softmax:0."
    )
    assert convert(source, inputs="image").error.startswith(
        "Input must be a tensor of the network, not image"
    )


@pytest.mark.parametrize("names", [",", "a,,b", "a, ", "", ["a", ""], ["a", 7], [None]])
def test_names_that_are_none_are_refused_before_anything_runs(ws, small, names):
    source = ws.models.register("small", small)
    with pytest.raises(WorkspaceError, match="^Outputs must be names of tensors"):
        ws.conversions.start(source, outputs=names)
    with pytest.raises(WorkspaceError, match="^Inputs must be names of tensors"):
        ws.conversions.start(source, inputs=names)
    assert ws.operations.list() == []


def test_wrong_formats_and_unknown_models_are_refused_before_anything_runs(ws, small):
    source = ws.models.register("small", small)
    with pytest.raises(FormatError, match="not 'int8'"):
        ws.conversions.start(source, format="int8")
    with pytest.raises(FormatError, match="not 'float'"):
        ws.conversions.start(source, format="float")
    with pytest.raises(NotFoundError, match="not large"):
        ws.conversions.start("large:1")
    with pytest.raises(WorkspaceError, match="Version of small must be"):
        ws.conversions.start("small:x")
    ws.models.delete(source)
    with pytest.raises(NotFoundError, match="not small"):
        ws.conversions.start(source)
    assert ws.operations.list() == []


def test_what_is_no_network_is_refused_before_anything_runs(ws, small, tmp_path):
    for name, text in (
        ("net.gcast", "^Model m:1 must be a network, not an artifact, which is compiled already$"),
        (
            "net.txt",
            "^Model m:2 must be an ONNX file, a TensorFlow SavedModel or a frozen graph .*not net.txt$",
        ),
        ("net", "^Model m:3 must be an ONNX file"),
    ):
        shutil.copy(small, tmp_path / name)
        with pytest.raises(FileError, match=text):
            ws.conversions.start(ws.models.register("m", tmp_path / name))
    folder = tmp_path / "many"
    (folder / "b").mkdir(parents=True)
    (folder / "readme").touch()
    with pytest.raises(FileError, match="must be an ONNX file, a TensorFlow SavedModel or a frozen graph"):
        ws.conversions.start(ws.models.register("none", folder))
    shutil.copy(small, folder / "a.onnx")
    shutil.copy(small, folder / "b/c.onnx")
    with pytest.raises(FileError, match="must hold one network, not 2: a.onnx, b/c.onnx$"):
        ws.conversions.start(ws.models.register("two", folder))
    assert ws.operations.list() == []


def test_the_result_needs_a_name_of_at_most_255_characters(ws, small):
    source = ws.models.register("n" * 250, small)
    with pytest.raises(
        WorkspaceError, match="^Name of the result must have at most 255 characters.* has 262$"
    ):
        ws.conversions.start(source)


def test_tensorflow_networks_need_the_extra(ws, tmp_path, convert, monkeypatch):
    monkeypatch.setattr("gatecast.interchange.opening.find_spec", lambda name: None)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/saved_model.pb").write_bytes(b"x")
    (tmp_path / "frozen.pb").write_bytes(b"x")
    for path in ("saved", "frozen.pb"):
        operation = convert(ws.models.register("net", tmp_path / path))
        assert operation.error == (
            "TensorFlow models need tensorflow and tf2onnx, which is not installed\n"
            "Install the extra: pip install 'gatecast[tensorflow]'."
        )


SAVED_MODEL = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
x = tf.placeholder(tf.float32, [None, 8, 8, 3], "Placeholder")
w = tf.Variable(np.random.default_rng(3).standard_normal((3, 3, 3, 4)).astype(np.float32))
y = tf.nn.relu(tf.nn.conv2d(x, w, strides=1, padding="SAME", name="features/conv"), name="features/relu")
with tf.name_scope("classifier"):
    scores = tf.nn.softmax(tf.reduce_mean(y, [1, 2]), name="Softmax")
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    tf.saved_model.simple_save(session, sys.argv[1], {"images": x}, {"output_alias": scores})
"""


@pytest.mark.slow
def test_a_saved_model_is_converted_as_documents_do_it(ws, tmp_path, check):
    if not all(find_spec(name) for name in ("tensorflow", "tf2onnx")):
        pytest.skip("TensorFlow and tf2onnx are not installed")
    subprocess.run([sys.executable, "-c", SAVED_MODEL, tmp_path / "net"], check=True, capture_output=True)
    source = ws.models.register("net", tmp_path / "net")
    operation = ws.conversions.start(source, inputs="Placeholder:0", outputs="classifier_1/Softmax:0")
    operation = ws.operations.wait(operation, timeout=120)
    assert operation.state is State.SUCCEEDED, ws.operations.read_log(operation)
    model = ws.conversions.result(operation)
    assert model.properties["inputs"] == "Placeholder:0"
    assert model.properties["outputs"] == "classifier_1/Softmax:0"
    graph = gatecast.load(ws.models.file(model))
    assert graph.is_quantized
    assert {"classifier/Softmax:0", "classifier/Softmax", "output_alias"} <= set(
        graph.interface.outputs[0].aliases
    )
    check(ws)


def test_a_source_deleted_while_it_waits_fails(ws, small, convert, monkeypatch):
    source = ws.models.register("small", small)
    monkeypatch.setattr(operations.Operations, "launch", operations.Operations.get)
    operation = ws.conversions.start(source)
    ws.models.delete(source)
    worker.main([str(ws.folder), operation.id])
    assert ws.operations.get(operation.id).error.startswith("Model must be a registered one, not small")


def test_a_source_may_go_once_it_is_converted(ws, small, convert, check):
    source = ws.models.register("small", small)
    model = ws.conversions.result(convert(source))
    ws.models.delete(source)
    assert ws.models.find(model.id) == model
    check(ws)


def test_a_cancelled_conversion_registers_nothing(ws, small, monkeypatch, check):
    source = ws.models.register("small", small)
    monkeypatch.setattr(operations.Operations, "launch", operations.Operations.get)
    operation = ws.conversions.start(source)
    steps = []

    def cancel(message):
        steps.append(message)
        if message.startswith("[5/5]"):
            ws.operations.cancel(operation)

    monkeypatch.setattr("gatecast.workspace.converting.say", cancel)
    assert worker.main([str(ws.folder), operation.id]) == 1
    assert steps[-1].startswith("[5/5] Registering small.1.accelonnx")
    assert ws.operations.get(operation.id).state is State.CANCELLED
    assert ws.models.list() == [source]
    check(ws)


def test_a_disk_that_fills_up_leaves_nothing(ws, small, convert, monkeypatch, check):
    source = ws.models.register("small", small)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gatecast.workspace.blobs.os.fsync", full)
    operation = convert(source)
    monkeypatch.undo()
    assert operation.state is State.FAILED
    assert "cannot be written: No space left on device" in operation.error
    assert operation.error.endswith("has room.")
    assert ws.models.list() == [source]
    check(ws)


def test_two_conversions_run_side_by_side(ws, small, fashion):
    one = ws.conversions.start(ws.models.register("small", small))
    two = ws.conversions.start(ws.models.register("fashion", fashion))
    assert ws.operations.wait(two, timeout=60).state is State.SUCCEEDED
    assert ws.operations.wait(one, timeout=60).state is State.SUCCEEDED
    assert len(ws.models.list()) == 4


@pytest.mark.parametrize("kind", [GraphError, UnsupportedError])
def test_errors_have_a_hint_in_their_last_line(ws, small, convert, monkeypatch, kind):
    def refuse(path, inputs, outputs):
        raise kind("a\nb", hint="do\nthis")

    monkeypatch.setattr("gatecast.workspace.converting.load", refuse)
    assert convert(ws.models.register("small", small)).error == "a\nb\ndo this"
