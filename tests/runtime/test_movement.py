"""Host stages that only move values: recognised, and the same bits as on ONNX Runtime."""

from dataclasses import replace
from threading import Lock

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gatecast.artifact import Artifact, HostStage, ProgramStage
from gatecast.errors import RequestError
from gatecast.graph import InputPort, Interface, OutputPort, Signature, TensorSpec
from gatecast.isa import Port, Program, architecture, assemble, pack_inputs
from gatecast.runtime import open_session
from gatecast.runtime.host import ReadyHostStage, ready_host_stage, tables_of
from gatecast.runtime.movement import LARGEST, source_tables
from gatecast.runtime.operators import operators
from gatecast.runtime.stages import ReadyMovementStage, ReadyProgramStage

native = pytest.importorskip("gatecast.runtime.native", reason="needs the extension gatecast._native")

SPECIAL = np.array([0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 2.0**-80, np.inf, -np.inf], np.float32)


def onnx_model(nodes, shape, results, constants=None) -> bytes:
    """Model from `x` to `results`, a mapping of name to shape."""
    graph = helper.make_graph(
        nodes,
        "moving",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in results.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


class RandomStage:
    """A chain of moving operators on a map, with random sizes; some of it taken twice and joined."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants = [], {}
        self.shape = [1, *(int(n) for n in self.random.integers(2, 9, 3))]
        self.first, self.value = tuple(self.shape), "x"
        for _ in range(self.random.integers(1, 7)):
            getattr(self, self.random.choice(["pad", "slice", "transpose", "join", "pad", "slice"]))()
        self.rename()

    def model(self):
        return onnx_model(self.nodes, self.first, {"y": self.shape}, self.constants)

    def constant(self, values):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(values, np.int64)
        return name

    def add(self, kind, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.value, *inputs], [name], **attributes))
        return name

    def rename(self):
        self.value = self.add("Identity")
        self.nodes[-1].output[0] = "y"

    def pad(self):
        pads = self.random.integers(0, 4, 6)
        mode = self.random.choice(["constant", "constant", "edge"])
        self.value = self.add("Pad", self.constant([0, *pads[:3], 0, *pads[3:]]), mode=mode)
        self.shape = [
            1,
            *(n + int(a + b) for n, a, b in zip(self.shape[1:], pads[:3], pads[3:], strict=True)),
        ]

    def slice(self):
        axis, step = int(self.random.integers(1, 4)), int(self.random.choice([1, 2, 3, -1]))
        size = self.shape[axis]
        first, last = sorted(int(n) for n in self.random.integers(0, size, 2))
        if step > 0:
            ends, kept = (first, last + 1), -(-(last + 1 - first) // step)
        else:
            ends, kept = (last, first - 1 - (size if first == 0 else 0)), last - first + 1
        self.value = self.add("Slice", *(self.constant([n]) for n in (*ends, axis, step)))
        self.shape[axis] = kept

    def transpose(self):
        order = [0, *(int(n) for n in self.random.permutation([1, 2, 3]))]
        self.value = self.add("Transpose", perm=order)
        self.shape = [self.shape[n] for n in order]

    def join(self):
        axis = int(self.random.integers(1, 4))
        self.value = self.add("Concat", self.value, self.value, axis=axis)
        self.shape[axis] *= 3


def values_of(shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    x.flat[:: max(1, x.size // 9)] = np.resize(SPECIAL, x[...].flat[:: max(1, x.size // 9)].size)
    return x


def ready(model, outputs=("y",)):
    return ready_host_stage(HostStage("moving", model, ("x",), outputs), 1)


def gathered(table, x, counts=None):
    rows, columns, channels = (1, 1, table.size) if counts is None else table.shape[1:]
    blocks = counts or (32,) * (table.size // 32) + (table.size % 32,)
    gather = native.Gather(table.reshape(rows, columns, channels), blocks, x.size)
    return gather.copy(x).reshape(table.shape)


class TestRecognition:
    @pytest.mark.parametrize("seed", range(60))
    def test_a_random_stage_gives_the_bits_of_onnx_runtime(self, seed):
        stage = RandomStage(seed)
        made = ready(stage.model())
        tables = tables_of(made)
        assert tables is not None
        x = values_of(stage.first, seed)
        values = {"x": x}
        made.run(values)
        assert gathered(tables[0], x).tobytes() == values["y"].tobytes()

    def test_several_results_have_a_table_each(self):
        node = helper.make_node("Split", ["x"], ["a", "b"], axis=3, num_outputs=2)
        tables = tables_of(
            ready(onnx_model([node], (1, 1, 2, 4), {"a": (1, 1, 2, 2), "b": (1, 1, 2, 2)}), ("a", "b"))
        )
        assert [table.ravel().tolist() for table in tables] == [[0, 1, 4, 5], [2, 3, 6, 7]]

    def test_padding_has_no_source(self):
        node = helper.make_node("Pad", ["x", "pads"], ["y"])
        model = onnx_model([node], (1, 2), {"y": (1, 4)}, {"pads": np.array([0, 1, 0, 1])})
        assert tables_of(ready(model))[0].tolist() == [[-1, 0, 1, -1]]

    @pytest.mark.parametrize("value", [1.0, -0.0, np.nan])
    def test_other_constants_are_left_to_onnx_runtime(self, value):
        node = helper.make_node("Concat", ["x", "c"], ["y"], axis=1)
        model = onnx_model([node], (1, 2), {"y": (1, 3)}, {"c": np.array([[value]], np.float32)})
        assert tables_of(ready(model)) is None

    @pytest.mark.parametrize("kind", ["Relu", "Abs", "Softmax", "Neg", "Ceil"])
    def test_one_operator_that_computes_is_enough(self, kind):
        nodes = [helper.make_node("Identity", ["x"], ["z"]), helper.make_node(kind, ["z"], ["y"])]
        assert tables_of(ready(onnx_model(nodes, (1, 2), {"y": (1, 2)}))) is None

    def test_an_input_beyond_what_float32_counts_is_left_to_onnx_runtime(self):
        assert source_tables(lambda x: [x], (1, LARGEST + 1)) is None
        assert source_tables(lambda x: [x], (1, 0)) is None

    def test_several_inputs_are_left_to_onnx_runtime(self):
        made = ready(onnx_model([helper.make_node("Identity", ["x"], ["y"])], (1, 2), {"y": (1, 2)}))
        both = replace(made, stage=replace(made.stage, inputs=("x", "z")))
        assert tables_of(both) is None


class TestOperators:
    def test_names_are_those_that_onnx_reads(self):
        stage = RandomStage(3)
        assert operators(stage.model()) == {node.op_type for node in stage.nodes}

    def test_a_foreign_domain_is_part_of_the_name(self):
        nodes = [helper.make_node("Pad", ["x"], ["z"], domain="own"), helper.make_node("Pad", ["z"], ["y"])]
        assert operators(onnx_model(nodes, (1, 2), {"y": (1, 2)})) == {"own::Pad", "Pad"}

    @pytest.mark.parametrize("data", [b"\x3a", b"\x3a\x05ab", b"\x3b", b"\x80" * 11, b"\x39ab"])
    def test_bytes_that_are_no_message_are_refused(self, data):
        with pytest.raises(ValueError):
            operators(data)

    def test_any_cut_is_refused_or_read(self):
        model = RandomStage(4).model()
        for end in range(len(model)):
            try:
                operators(model[:end])
            except ValueError:
                continue


class TestGather:
    @pytest.mark.parametrize("name", ["bfp8", "bfp6", "bfp4"])
    @pytest.mark.parametrize("counts", [(21,), (32, 4), (5, 7, 1)])
    def test_encoding_has_the_bytes_of_packing_the_copy(self, name, counts):
        random = np.random.default_rng(len(counts))
        port = replace(
            Port.packed("y", (6, 7, sum(counts)), name), block_channels=counts, pixel_pitch=len(counts)
        )
        port = replace(
            Port.packed("y", (6, 7, 32 * len(counts)), name), channels=sum(counts), block_channels=counts
        )
        program = replace(example(), inputs=(port,))
        x = random.standard_normal(300).astype(np.float32)
        table = np.concatenate([np.arange(first, first + 9) for first in random.integers(-1, 290, 2000)])
        table = table[: np.prod(port.shape)].astype(np.int32).reshape(port.shape)
        gather = native.Gather(table, counts, x.size)
        section = np.zeros(program.inputs_bytes, np.uint8)
        assert gather.encode(x, port, section)
        expected = np.where(table < 0, np.float32(0), x[table])
        assert (gather.copy(x) == expected).all()
        assert section.tobytes() == pack_inputs(program, {"y": expected})

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0**65])
    def test_values_that_no_program_takes_are_refused(self, bad):
        port = Port.packed("y", (1, 1, 4), "bfp8")
        gather = native.Gather(np.array([[[0, 1, 2, -1]]], np.int32), (4,), 3)
        assert not gather.encode(np.array([1, 2, bad], np.float32), port, np.zeros(port.end, np.uint8))

    @pytest.mark.parametrize("number", [-2, 3])
    def test_numbers_beyond_the_source_are_refused(self, number):
        with pytest.raises(ValueError, match="must lie in the source"):
            native.Gather(np.array([[[0, number]]], np.int32), (2,), 3)

    def test_a_source_of_another_size_is_refused(self):
        gather = native.Gather(np.zeros((1, 1, 2), np.int32), (2,), 3)
        with pytest.raises(ValueError, match="size that the table was made for"):
            gather.copy(np.zeros(4, np.float32))


PROGRAM = """
load  section=2 row_pitch=64 exponents=64 exponent_pitch=64 pixel_pitch=1 out=@0:1:1:bfp8 out_rows=1 \
out_columns=1 out_blocks=1 signal(vector)
map   a=@0:1:1:bfp8 out=@0:1:1:float32 out_rows=1 out_columns=1 out_blocks=1 last_channels=6 wait(load) \
signal(store)
store section=3 row_pitch=128 pixel_pitch=1 in=@0:1:1:float32 in_rows=1 in_columns=1 in_blocks=1 wait(vector)
end
"""


def example() -> Program:
    return Program(
        architecture=architecture("tiny"),
        text=tuple(assemble(PROGRAM)),
        inputs=(Port.packed("y", (1, 1, 6), "bfp8"),),
        outputs=(Port.packed("scores", (1, 1, 6), "float32"),),
    )


def model(outputs=("scores",)) -> Artifact:
    """Two values of four, and padding, encoded; then decoded."""
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axes"], ["s"]),
        helper.make_node("Pad", ["s", "pads"], ["y"]),
    ]
    constants = {name: np.array([n]) for name, n in (("from", 1), ("to", 3), ("axes", 3))}
    constants["pads"] = np.array([0, 0, 0, 1, 0, 0, 0, 3])
    moving = onnx_model(nodes, (1, 1, 1, 4), {"y": (1, 1, 1, 6)}, constants)
    shapes = {"x": (1, 1, 4), "y": (1, 1, 6), "scores": (6,)}
    return Artifact(
        name="small",
        stages=(
            HostStage("host/0", moving, ("x",), ("y",)),
            ProgramStage("device/1", example(), ("y",), ("scores",)),
        ),
        interface=Interface(
            inputs=(InputPort(name="x", value="x", layout="NCHW"),),
            outputs=tuple(OutputPort(name=name, value=name) for name in outputs),
        ),
        signature=Signature(
            (TensorSpec("x", "float32", (-1, 4, 1, 1)),),
            tuple(TensorSpec(name, "float32", (-1, *shapes[name])) for name in outputs),
        ),
        shapes=shapes,
        formats="bfp8",
        target="tiny",
    )


X = np.array([[9, 1, -0.5, 9], [9, 3, 2.0**-90, 9]], np.float32).reshape(2, 4, 1, 1)
SCORES = [[0, 1, -0.5, 0, 0, 0], [0, 3, 0, 0, 0, 0]]


class TestSession:
    def test_a_moving_stage_becomes_part_of_packing(self):
        with open_session(model(), "reference") as session:
            (stage,) = session._stages
            assert isinstance(stage, ReadyProgramStage) and set(stage.moved) == {"y"}
            assert session.run({"x": X})["scores"].tolist() == SCORES

    def test_a_value_that_is_shown_too_is_copied(self):
        with open_session(model(("scores", "y")), "reference") as session:
            assert isinstance(session._stages[0], ReadyMovementStage)
            results = session.run({"x": X})
            assert results["scores"].tolist() == results["y"].reshape(2, 6).tolist() == SCORES

    def test_without_the_extension_onnx_runtime_runs_it(self, monkeypatch):
        monkeypatch.setattr("gatecast.runtime.plan.HAS_GATHER", False)
        with open_session(model(), "reference") as session:
            assert isinstance(session._stages[0], ReadyHostStage)
            assert session.run({"x": X})["scores"].tolist() == SCORES

    def test_a_value_that_no_program_takes_is_named_before_it_is_moved(self):
        bad = X.copy()
        bad[1, 2] = np.nan
        with open_session(model(), "reference") as session, pytest.raises(RequestError) as caught:
            session.run({"x": bad})
        assert str(caught.value).endswith("not nan at [1, 2, 0, 0]")

    def test_what_a_stage_made_is_checked_too(self):
        with open_session(model(), "reference") as session:
            (stage,) = session._stages
            with pytest.raises(
                RequestError, match=r"^Values of input y must be finite .* not inf at \[0, 0, 1\]$"
            ):
                stage.run({"x": np.array([[[0, np.inf, 0, 0]]], np.float32)})

    def test_runs_at_the_same_time_use_sections_of_their_own(self):
        with open_session(model(), "reference") as session:
            (stage,) = session._stages
            session.run({"x": X})
            assert len(stage.sections) == 1
            inner = stage.loaded.run

            def meanwhile(section):
                if len(stage.sections) == 0 and not nested:
                    nested.append(
                        ReadyProgramStage(stage.stage, stage.loaded, Lock(), stage.moved, stage.sections)
                    )
                    other = {"x": X[1].transpose(1, 2, 0)}
                    nested[0].run(other)
                    assert other["scores"].ravel().tolist() == SCORES[1]
                return inner(section)

            nested = []
            stage.loaded.run = meanwhile
            assert session.run({"x": X[:1]})["scores"].tolist() == SCORES[:1]
            assert nested and len(stage.sections) == 2


def test_onnx_runtime_copies_bits():
    """What recognition stands on: a moving operator hands every value on, whatever it is."""
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    session = onnxruntime.InferenceSession(
        onnx_model([node], (9, 1), {"y": (1, 9)}), providers=["CPUExecutionProvider"]
    )
    assert session.run(None, {"x": SPECIAL[:, None]})[0].tobytes() == SPECIAL.tobytes()
