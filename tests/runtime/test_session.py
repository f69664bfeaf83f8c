"""Sessions. Most run a picture of 2 x 3 grey values: doubled on the host, rounded to bfp8 on the device."""

import io
import threading
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from gatecast.artifact import Artifact, HostStage, ImageStage, ProgramStage
from gatecast.devices import default_device
from gatecast.errors import DeviceError, FileError, ImageError, RequestError
from gatecast.graph import InputPort, Interface, OutputPort, Preprocessing, Signature, TensorSpec
from gatecast.isa import Port, Program, architecture, assemble
from gatecast.numerics import BFP8, round_to_format
from gatecast.runtime import open_session

RULE = Preprocessing(name="grey", height=2, width=3, channels="L")

PROGRAM = """
load  section=2 row_pitch=64 exponents=64 exponent_pitch=64 pixel_pitch=1 out=@0:1:1:bfp8 out_rows=1 \
out_columns=1 out_blocks=1 signal(vector)
map   a=@0:1:1:bfp8 out=@0:1:1:float32 out_rows=1 out_columns=1 out_blocks=1 last_channels=6 wait(load) \
signal(store)
store section=3 row_pitch=128 pixel_pitch=1 in=@0:1:1:float32 in_rows=1 in_columns=1 in_blocks=1 wait(vector)
end
"""


def doubling(shape=(1, 2, 3, 1), result=(1, 6), operator="Add") -> bytes:
    """ONNX that adds its input to itself and flattens it."""
    nodes = [
        helper.make_node(operator, ["pixels", "pixels"], ["sum"]),
        helper.make_node("Flatten", ["sum"], ["doubled"]),
    ]
    graph = helper.make_graph(
        nodes,
        "doubling",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("doubled", TensorProto.FLOAT, result)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()


def program() -> Program:
    return Program(
        architecture=architecture("tiny"),
        text=tuple(assemble(PROGRAM)),
        inputs=(Port.packed("doubled", (1, 1, 6), "bfp8"),),
        outputs=(Port.packed("scores", (1, 1, 6), "float32"),),
    )


def model(**changes) -> Artifact:
    whole = Artifact(
        name="small",
        stages=(
            ImageStage("images", "pixels", RULE),
            HostStage("host/0", doubling(), ("pixels",), ("doubled",)),
            ProgramStage("device/1", program(), ("doubled",), ("scores",)),
        ),
        interface=Interface(
            inputs=(InputPort(name="images", value="pixels", layout="NHWC", image=RULE),),
            outputs=(
                OutputPort(name="scores:0", value="scores", aliases=("scores", "output_alias")),
                OutputPort(name="raw", value="doubled"),
            ),
            labels=("a", "b", "c", "d", "e", "f"),
        ),
        signature=Signature(
            (TensorSpec("images", "string", (-1,)),),
            (TensorSpec("scores:0", "float32", (-1, 6)), TensorSpec("raw", "float32", (-1, 6))),
        ),
        shapes={"pixels": (2, 3, 1), "doubled": (6,), "scores": (6,)},
        formats="bfp8",
        target="tiny",
    )
    return replace(whole, **changes)


def float_model(layout="NCHW", batch=None) -> Artifact:
    """One host stage, no Program; a map in and a map out."""
    node = helper.make_node("Add", ["pixels", "pixels"], ["sum"])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 2, 3, 4)) for name in ("pixels", "sum")
    ]
    graph = helper.make_graph([node], "float", ends[:1], ends[1:])
    onnx = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    shape = (-1, 4, 2, 3) if layout == "NCHW" else (-1, 2, 3, 4)
    return Artifact(
        name="float",
        stages=(HostStage("host/0", onnx.SerializeToString(), ("pixels",), ("sum",)),),
        interface=Interface(
            inputs=(InputPort(name="x", value="pixels", layout=layout, batch=batch),),
            outputs=(OutputPort(name="y", value="sum", layout=layout, batch=batch),),
        ),
        signature=Signature((TensorSpec("x", "float32", shape),), (TensorSpec("y", "float32", shape),)),
        shapes={"pixels": (2, 3, 4), "sum": (2, 3, 4)},
        formats="float32",
        target="software",
    )


def pixels(count=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 2, 3, 1)).astype(np.float32)


def png(values) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values[..., 0].astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def expected(values):
    return round_to_format(2 * values.reshape(values.shape[0], 6), BFP8)


@pytest.fixture(scope="module")
def session():
    with open_session(model()) as session:
        yield session


class TestRun:
    def test_tensors_pass_host_and_device(self, session):
        x = pixels(3)
        results = session.run({"images": x})
        assert list(results) == ["scores:0", "raw"]
        assert np.array_equal(results["scores:0"], expected(x))
        assert np.array_equal(results["raw"], 2 * x.reshape(3, 6))
        assert results["scores:0"].dtype == np.float32

    def test_pictures_are_decoded_first(self, session):
        x = pixels(2, seed=1)
        results = session.run({"images": [png(x[0]), png(x[1])]})
        assert np.array_equal(results["scores:0"], expected(x))

    @pytest.mark.parametrize("kind", [tuple, list, lambda data: np.array(data, object)])
    def test_pictures_come_in_any_sequence(self, session, kind):
        x = pixels(2, seed=2)
        results = session.run({"images": kind([png(x[0]), bytearray(png(x[1]))])})
        assert np.array_equal(results["scores:0"], expected(x))

    def test_a_batch_is_as_many_runs(self, session):
        x = pixels(5, seed=3)
        whole = session.run({"images": x})["scores:0"]
        single = [session.run({"images": x[i : i + 1]})["scores:0"][0] for i in range(5)]
        assert np.array_equal(whole, np.stack(single))

    def test_only_the_named_outputs_come_back(self, session):
        assert list(session.run({"images": pixels()}, ["raw"])) == ["raw"]

    def test_maps_keep_the_layout_of_the_source(self):
        x = np.random.default_rng(4).standard_normal((2, 4, 2, 3), np.float32)
        with open_session(float_model("NCHW")) as session:
            assert np.array_equal(session.run({"x": x})["y"], 2 * x)
        with open_session(float_model("NHWC")) as session:
            assert np.array_equal(
                session.run({"x": x.transpose(0, 2, 3, 1)})["y"], 2 * x.transpose(0, 2, 3, 1)
            )

    def test_arrays_need_not_be_contiguous(self, session):
        x = pixels(4, seed=5)
        assert np.array_equal(session.run({"images": x[::-2]})["scores:0"], expected(x[::-2]))

    def test_threads_may_run_at_the_same_time(self, session):
        batches = [pixels(8, seed=seed) for seed in range(6)]
        results = [None] * len(batches)

        def work(i):
            results[i] = session.run({"images": batches[i]})["scores:0"]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for x, y in zip(batches, results, strict=True):
            assert np.array_equal(y, expected(x))

    def test_a_file_runs_like_the_artifact(self, tmp_path):
        model().save(tmp_path / "small.gcast")
        x = pixels()
        with open_session(tmp_path / "small.gcast", device="reference", threads=1) as session:
            assert np.array_equal(session.run({"images": x})["scores:0"], expected(x))


class TestTimes:
    def test_each_image_has_its_own(self, session):
        x = pixels(2, seed=6)
        results, times = session.run_timed({"images": [png(x[0]), png(x[1])]})
        assert np.array_equal(results["scores:0"], expected(x))
        assert len(times) == 2
        for time in times:
            assert min(time.image_us, time.host_us, time.device_us) > 0
            assert time.total_us == time.image_us + time.host_us + time.device_us

    def test_without_a_program_the_device_takes_none(self):
        with open_session(float_model()) as session:
            _, (time,) = session.run_timed({"x": np.zeros((1, 4, 2, 3), np.float32)})
        assert time.device_us == 0
        assert time.image_us == 0


class TestDescription:
    def test_a_session_tells_what_it_runs(self, session):
        assert session.name == "small"
        assert session.device == default_device()
        assert session.signature == model().signature
        assert session.interface == model().interface
        assert session.labels == ("a", "b", "c", "d", "e", "f")
        assert session.input_aliases == {"pixels": "images"}
        assert session.output_aliases == {"scores": "scores:0", "output_alias": "scores:0"}


NAN, HUGE = np.float32(np.nan), np.float32(2**65)


def with_value(value):
    x = pixels(2)
    x[1, 0, 2, 0] = value
    return x


class TestRefusals:
    @pytest.mark.parametrize(
        ("inputs", "text"),
        [
            ({}, "Inputs of small must be images, not none"),
            ({"x": pixels()}, "Inputs of small must be images, not x"),
            ({"images": pixels(), "x": pixels()}, "Inputs of small must be images, not images, x"),
            (
                {"images": pixels()[0]},
                "Input images of small must be float32 [-1, 2, 3, 1] or encoded pictures, "
                "not float32 [2, 3, 1]",
            ),
            (
                {"images": pixels().astype(np.float64)},
                "Input images of small must be float32 [-1, 2, 3, 1] or encoded pictures, "
                "not float64 [1, 2, 3, 1]",
            ),
            (
                {"images": pixels()[:0]},
                "Input images of small must have at least one image, not none",
            ),
            (
                {"images": np.zeros(0, np.float32)},
                "Input images of small must have at least one image, not none",
            ),
            (
                {"images": ["a.png"]},
                "Input images of small must be float32 [-1, 2, 3, 1] or encoded pictures, not <U5 [1]",
            ),
            ({"images": []}, "Input images of small must have at least one picture, not none"),
            (
                {"images": np.array([[b"a"]], object)},
                "Pictures of input images of small must have shape [-1], not [1, 1]",
            ),
            (
                {"images": with_value(NAN)},
                "Values of input images of small must be finite and at most 2**64, not nan at [1, 0, 2, 0]",
            ),
            (
                {"images": with_value(-np.float32(np.inf))},
                "Values of input images of small must be finite and at most 2**64, not -inf at [1, 0, 2, 0]",
            ),
            (
                {"images": with_value(HUGE)},
                "Values of input images of small must be finite and at most 2**64, "
                "not 3.6893488147419103e+19 at [1, 0, 2, 0]",
            ),
        ],
    )
    def test_inputs_that_do_not_match_are_named(self, session, inputs, text):
        with pytest.raises(RequestError) as caught:
            session.run(inputs)
        assert str(caught.value) == text

    def test_a_picture_that_cannot_be_decoded_is_numbered(self, session):
        with pytest.raises(ImageError) as caught:
            session.run({"images": [png(pixels()[0]), b"GIF89a"]})
        assert str(caught.value) == (
            "Input images[1] of small: "
            "Picture must be a JPEG or PNG file, not one that starts with 47 49 46 38"
        )

    def test_pictures_need_an_image_stage(self):
        with open_session(float_model()) as session, pytest.raises(RequestError) as caught:
            session.run({"x": [png(pixels()[0])]})
        assert str(caught.value) == (
            "Input x of float must be float32 [-1, 4, 2, 3], not encoded pictures: it has no image stage"
        )
        assert "`--preprocess NAME`" in caught.value.hint

    def test_a_fixed_batch_size_is_kept(self):
        with open_session(float_model(batch=1)) as session, pytest.raises(RequestError) as caught:
            session.run({"x": np.zeros((2, 4, 2, 3), np.float32)})
        assert str(caught.value) == "Input x of float must be float32 [1, 4, 2, 3], not float32 [2, 4, 2, 3]"
        assert caught.value.hint == (
            "The network was exported with a fixed batch: run its images in batches of that size, or export "
            "it again with a free one (`dynamic_shapes` or `dynamic_axes` of torch.onnx.export)."
        )

    def test_what_is_wrong_besides_the_batch_is_not_blamed_on_it(self):
        with open_session(float_model(batch=1)) as session:
            for x in (np.zeros((1, 4, 2, 3)), np.zeros((2, 4, 2, 4), np.float32)):
                with pytest.raises(RequestError) as caught:
                    session.run({"x": x})
                assert caught.value.hint == RequestError.default_hint

    def test_batches_of_two_inputs_must_agree(self):
        artifact = float_model()
        two = replace(
            artifact,
            interface=replace(
                artifact.interface,
                inputs=(*artifact.interface.inputs, InputPort(name="z", value="z", layout="as_is")),
            ),
            shapes={**artifact.shapes, "z": (1,)},
        )
        x = np.zeros((2, 4, 2, 3), np.float32)
        with open_session(two) as session, pytest.raises(RequestError) as caught:
            session.run({"x": x, "z": np.zeros((3, 1), np.float32)})
        assert str(caught.value) == "Inputs of float must have one batch size, not x 2, z 3"

    def test_a_float_model_takes_values_that_are_not_finite(self):
        x = np.full((1, 4, 2, 3), np.nan, np.float32)
        with open_session(float_model()) as session:
            assert np.isnan(session.run({"x": x})["y"]).all()

    def test_tiny_values_become_zero_for_a_quantised_model(self, session):
        x = with_value(np.float32(1e-30))
        assert session.run({"images": x})["raw"][1, 2] == 0

    def test_unknown_outputs_are_named(self, session):
        with pytest.raises(RequestError) as caught:
            session.run({"images": pixels()}, ["raw", "logits"])
        assert str(caught.value) == "Outputs of small must be among scores:0, raw, not logits"

    def test_a_refused_request_leaves_the_session_usable(self, session):
        with pytest.raises(RequestError):
            session.run({"images": with_value(NAN)})
        x = pixels()
        assert np.array_equal(session.run({"images": x})["scores:0"], expected(x))


class TestOpening:
    def test_an_unknown_device_is_refused(self):
        with pytest.raises(DeviceError, match="^Device must be one of .*reference.*, not 'fast'$"):
            open_session(model(), device="fast")

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileError, match="no.gcast"):
            open_session(tmp_path / "no.gcast")

    def test_a_host_stage_that_onnx_runtime_cannot_load_is_named(self):
        broken = replace(model().stages[1], model=b"no model")
        artifact = model(stages=(model().stages[0], broken, model().stages[2]))
        with pytest.raises(
            FileError, match="^Host stage host/0 must be a model that ONNX Runtime loads, but: "
        ):
            open_session(artifact)

    def test_a_host_stage_that_fails_is_a_fault_of_the_device(self):
        """The input's declared shape does not reach the operator: ONNX Runtime finds out when it runs."""
        node = helper.make_node("Reshape", ["pixels", "shape"], ["doubled"])
        shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1, 7])
        graph = helper.make_graph(
            [node],
            "bad",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, (1, 2, 3, 1))],
            [helper.make_tensor_value_info("doubled", TensorProto.FLOAT, None)],
            [shape],
        )
        onnx = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        stage = replace(model().stages[1], model=onnx.SerializeToString())
        artifact = model(stages=(model().stages[0], stage, model().stages[2]))
        with (
            open_session(artifact) as session,
            pytest.raises(DeviceError, match="^Host stage host/0 failed: "),
        ):
            session.run({"images": pixels()})

    def test_a_closed_session_says_so(self):
        session = open_session(model())
        session.close()
        session.close()
        with pytest.raises(DeviceError) as caught:
            session.run({"images": pixels()})
        assert str(caught.value) == "Session of small must be open, not closed"
