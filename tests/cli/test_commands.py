"""Commands in this process: what they print as JSON, and what they refuse. Scenarios show the tables."""

import json
from dataclasses import replace

import numpy as np
import pytest

import gatecast
from gatecast import zoo
from gatecast.artifact import Artifact, ProgramStage
from gatecast.cli import main
from gatecast.cli.compile import with_interface
from gatecast.errors import FileError, GraphError, NotFoundError
from gatecast.graph import Flatten, Graph, Input, InputPort, Interface, OutputPort, Preprocessing
from gatecast.isa import assemble
from gatecast.serving import ModelSource, Server, ServerOptions

SAMPLE = zoo.samples("fashion")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """fashion.onnx, fashion.bfp8.onnx, fashion.gcast, plain.gcast without labels, picture.png, x.npy."""
    folder = tmp_path_factory.mktemp("commands")
    graph = zoo.load("fashion")
    gatecast.export(graph, folder / "fashion.onnx")
    quantized = gatecast.quantize(graph)
    gatecast.export(quantized, folder / "fashion.bfp8.onnx")
    gatecast.compile(quantized).save(folder / "fashion.gcast")
    plain = replace(quantized, interface=replace(quantized.interface, labels=()))
    gatecast.compile(plain).save(folder / "plain.gcast")
    (folder / "picture.png").write_bytes(SAMPLE.data)
    np.save(folder / "x.npy", np.full((2, 28, 28, 1), 0.5, np.float32))
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Run a command in the folder; return its exit status, stdout and stderr."""

    def run(*arguments):
        monkeypatch.chdir(folder)
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return (status, *capsys.readouterr())

    return run


USAGE = {
    "an override given twice": (
        ("quantize", "fashion.onnx", "-o", "q.onnx", "--override", "fc=bfp5", "--override", "fc=bfp6"),
        "Option --override must name layer fc once.",
    ),
    "a model name with a slash": (
        ("serve", "fashion.gcast", "--model_name", "a/b"),
        "Option --model_name must be one word without / and :, not 'a/b'.",
    ),
    "no model name": (
        ("serve", "fashion.gcast", "--model_name", ""),
        "Option --model_name must be one word without / and :, not ''.",
    ),
    "formats of layers for a float artifact": (
        ("compile", "fashion.onnx", "-o", "x.gcast", "--format", "float", "--override", "fc=bfp5"),
        "Option --override must not be given with --format float: it has no effect.",
    ),
    "formats of the first layers for a float artifact": (
        ("compile", "fashion.onnx", "-o", "x.gcast", "--format", "float", "--first", "bfp8"),
        "Option --first must not be given with --format float: it has no effect.",
    ),
    "an architecture for a float artifact": (
        ("compile", "fashion.onnx", "-o", "x.gcast", "--format", "float", "--target", "tiny"),
        "Option --target must not be given with --format float: it has no effect.",
    ),
    "a label without a version": (
        ("serve", "fashion.gcast", "--label", "stable"),
        "Option --label must be NAME=VALUE, not 'stable'.",
    ),
    "a label whose version is no number": (
        ("serve", "fashion.gcast", "--label", "stable=new"),
        "Option --label must be NAME=VERSION with a number, not 'new'.",
    ),
    "a label with a slash": (
        ("serve", "fashion.gcast", "--label", "a/b=1"),
        "Option --label must name one word without / and :, not 'a/b'.",
    ),
    "a label given twice": (
        ("serve", "fashion.gcast", "--label", "a=1", "--label", "a=2"),
        "Option --label must name a once.",
    ),
    "no time": (
        ("predict", "127.0.0.1:1", "picture.png", "--timeout", "0"),
        "Invalid value for '--timeout': 0.0 is not in the range x>0.",
    ),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_is_told(run, name):
    arguments, text = USAGE[name]
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.endswith(f"Error: {text}\n")


@pytest.mark.parametrize("command", ["quantize", "compile"])
def test_an_empty_format_is_no_format(run, command):
    status, _, err = run(command, "fashion.onnx", "-o", "x", "--format", "")
    assert status == 1
    assert "error: Format must be one of bfp4, bfp5, bfp6, bfp7, bfp8, not ''\n" in err


class TestQuantize:
    def test_the_report_as_json(self, run, folder):
        status, out, _ = run(
            "quantize", "fashion.onnx", "-o", "q.onnx", "--json", "--override", "fc=bfp5/bfp6"
        )
        report = json.loads(out)
        assert status == 0
        assert report["output"] == "q.onnx"
        assert report["unfolded"] == ["conv1"]
        assert {"norm": "bn1", "into": "conv1"} in report["folded"]
        formats = {layer["layer"]: layer["formats"] for layer in report["layers"]}
        assert formats["conv1"] == "bfp8"
        assert formats["fc"] == "bfp5/bfp6"
        assert gatecast.load(folder / "q.onnx").is_quantized

    def test_a_quantised_network_is_left_as_it_is(self, run, folder):
        status, out, _ = run("quantize", "fashion.bfp8.onnx", "-o", "same.onnx")
        assert status == 0
        assert out == "Nothing to do: the network is quantised with these formats already.\n"
        assert (folder / "same.onnx").read_bytes() == (folder / "fashion.bfp8.onnx").read_bytes()

    def test_inline_has_no_functions(self, run, folder):
        assert run("quantize", "fashion.onnx", "-o", "inline.onnx", "--inline")[0] == 0
        assert b"gatecast_encode" not in (folder / "inline.onnx").read_bytes()


class TestCompile:
    def test_a_float_network_is_quantised_first(self, run, folder):
        status, out, _ = run("compile", "fashion.onnx", "-o", "a.gcast", "--json")
        assert status == 0
        assert json.loads(out)["formats"] == "bfp8"
        assert (folder / "a.gcast").read_bytes() == (folder / "fashion.gcast").read_bytes()

    def test_formats_may_be_asked_for(self, run):
        status, out, _ = run("compile", "fashion.onnx", "-o", "b.gcast", "--json", "--format", "bfp5/bfp6")
        assert status == 0
        assert "bfp5/bfp6" in json.loads(out)["formats"]

    def test_float_is_one_host_stage(self, run):
        assert run("compile", "fashion.onnx", "-o", "f.gcast", "--format", "float")[0] == 0
        _, out, _ = run("inspect", "f.gcast", "--json")
        assert [stage["kind"] for stage in json.loads(out)["stages"]] == ["image", "host"]

    @pytest.mark.parametrize("option", [("--override", "fc=bfp5"), ("--first", "bfp4")])
    def test_a_quantised_network_takes_no_other_formats(self, run, option):
        status, _, err = run("compile", "fashion.bfp8.onnx", "-o", "q.gcast", *option)
        assert status == 1
        assert err.splitlines()[1:] == [
            f"error: Network fashion must be float for `{option[0]}`, not quantised",
            "hint: Start again from the float network.",
        ]

    def test_a_failed_compilation_leaves_no_file(self, run, folder):
        status, out, err = run("compile", "fashion.onnx", "-o", "none.gcast", "--target", "huge")
        assert (status, out) == (1, "")
        assert [line.split(":")[0] for line in err.splitlines()[1:]] == ["error", "hint"]
        assert not (folder / "none.gcast").exists()


def plain(*shapes) -> Graph:
    """A network that flattens its first input; the others are only there."""
    inputs = tuple(Input(f"value{i}", shape) for i, shape in enumerate(shapes))
    interface = Interface(
        inputs=tuple(
            InputPort(name=f"in{i}", value=value.name, layout="NHWC") for i, value in enumerate(inputs)
        ),
        outputs=(OutputPort(name="out", value="flat"),),
    )
    return Graph("plain", inputs, (Flatten(name="flat", inputs=("value0",)),), ("flat",), interface)


class TestInterface:
    def test_the_input_that_fits_takes_the_pictures(self):
        graph = with_interface(plain((28, 28, 3), (28, 28, 1)), "fashion", None)
        assert [port.image for port in graph.interface.inputs] == [None, zoo.preprocessing("fashion")]

    def test_one_of_several_must_be_named(self):
        two = plain((28, 28, 1), (28, 28, 1))
        with pytest.raises(GraphError) as caught:
            with_interface(two, "fashion", None)
        assert caught.value.hint == "Name the input: `--preprocess INPUT=NAME`."
        graph = with_interface(two, "in1=fashion", None)
        assert isinstance(graph.interface.inputs[1].image, Preprocessing)
        assert graph.interface.inputs[0].image is None

    def test_the_shape_must_fit(self):
        with pytest.raises(GraphError) as caught:
            with_interface(plain((32, 32, 3)), "in0=fashion", None)
        assert str(caught.value) == (
            "Preprocessing fashion, which makes [28, 28, 1] (rows, columns, channels), "
            "must fit one input of plain, not in0 [32, 32, 3]"
        )

    def test_the_input_must_exist(self):
        with pytest.raises(NotFoundError, match="^Input for a preprocessing must be one of in0, not x$"):
            with_interface(plain((28, 28, 1)), "x=fashion", None)

    def test_labels_are_one_a_line(self, tmp_path):
        (tmp_path / "labels.txt").write_text("ä\nb, c\nd\n", encoding="utf-8")
        graph = with_interface(plain((1, 1, 3)), None, tmp_path / "labels.txt")
        assert graph.interface.labels == ("ä", "b, c", "d")

    def test_labels_must_be_as_many_as_the_classes(self, tmp_path):
        (tmp_path / "labels.txt").write_text("a\nb\n")
        with pytest.raises(GraphError, match="must have 3 lines, one for each class, not 2$"):
            with_interface(plain((1, 1, 3)), None, tmp_path / "labels.txt")

    def test_labels_must_be_text(self, tmp_path):
        (tmp_path / "labels.txt").write_bytes(b"a\n\xff\n")
        with pytest.raises(FileError, match="must be UTF-8 text, one class a line: byte 2 is not$"):
            with_interface(plain((1, 1, 3)), None, tmp_path / "labels.txt")


class TestInspect:
    def test_an_artifact_tells_all(self, run):
        status, out, err = run("inspect", "fashion.gcast", "--json")
        told = json.loads(out)
        assert (status, err) == (0, "")
        assert list(told)[:2] == ["kind", "signature"]
        assert told["kind"] == "artifact"
        assert told["signature"]["inputs"] == [{"name": "images", "dtype": "string", "shape": [-1]}]
        assert [stage["kind"] for stage in told["stages"]] == ["image", "host", "device", "host"]
        assert told["layers"][-1]["name"] == "probabilities"
        assert told["provenance"]["producer"].startswith("gatecast ")

    @pytest.mark.parametrize(("file", "quantized"), [("fashion.onnx", False), ("fashion.bfp8.onnx", True)])
    def test_a_network_tells_whether_it_is_quantised(self, run, file, quantized):
        told = json.loads(run("inspect", file, "--json")[1])
        assert told["kind"] == "network"
        assert told["quantized"] is quantized
        formats = {layer["name"]: layer["formats"] for layer in told["layers"]}
        assert formats["fc"] == ("bfp8" if quantized else "")

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            ("fashion.onnx", ["float network", "BatchNorm", "fashion, 28 x 28 L", "T-shirt/top, Trouser"]),
            ("fashion.bfp8.onnx", ["quantised network", "Encode", "relu.bfp8"]),
            ("fashion.gcast", ["artifact", "software", "instructions", "total", "producer"]),
        ],
    )
    def test_the_tables_name_what_matters(self, run, file, words):
        status, out, err = run("inspect", file)
        assert (status, err) == (0, "")
        assert [word for word in words if word not in out] == []


class TestRun:
    def test_values_as_json(self, run):
        status, out, err = run("run", "fashion.gcast", "--input", "images=x.npy", "--json")
        told = json.loads(out)
        assert (status, err) == (0, "")
        assert told["outputs"]["probabilities"]["shape"] == [2, 10]
        assert np.allclose(np.sum(told["outputs"]["probabilities"]["values"], axis=1), 1)
        assert len(told["times_us"]) == 2

    def test_pictures_make_a_batch(self, run, folder):
        pictures = ["--input", "images=picture.png"] * 3
        assert run("run", "fashion.gcast", *pictures, "--output", "y.npz")[0] == 0
        with np.load(folder / "y.npz") as outputs:
            assert outputs["probabilities"].argmax(axis=1).tolist() == [SAMPLE.index] * 3

    def test_the_best_classes_are_printed_by_name(self, run):
        _, out, err = run("run", "fashion.gcast", "--input", "images=picture.png")
        assert "Ankle boot" in out
        assert err.startswith("1 image(s) in ")


def test_disassembled_programs_assemble_again(run):
    status, out, _ = run("disassemble", "fashion.gcast")
    assert status == 0
    (program,) = [
        stage.program for stage in Artifact.load("fashion.gcast").stages if isinstance(stage, ProgramStage)
    ]
    assert tuple(assemble(out)) == program.text


def test_bench_tells_latencies(run):
    status, out, _ = run("bench", "fashion.gcast", "--runs", "3", "--warm_up", "0", "--json")
    told = json.loads(out)
    assert status == 0
    assert set(told["latency_us"]) == {"device", "host stages", "picture", "whole"}
    for times in told["latency_us"].values():
        assert times["min"] <= times["p50"] <= times["p99"]


def test_bench_tells_layers_and_draws_them(run, folder):
    pytest.importorskip("gatecast._native", reason="needs the extension gatecast._native")
    arguments = ("bench", "fashion.gcast", "--runs", "2", "--device", "software")
    status, out, _ = run(*arguments, "--layers", "--plot", "layers.svg", "--json")
    told = json.loads(out)
    assert status == 0
    assert {"fc", "conv1"} & {layer["name"] for layer in told["layers"]}
    assert (folder / "layers.svg").read_text().startswith("<svg")
    status, out, err = run(*arguments, "--plot", "layers.png")
    assert status == 0
    assert out.splitlines()[0].split()[:2] == ["layer", "kind"]
    assert "2 runs of one image, model fashion, device software; " in err
    assert (folder / "layers.png").read_bytes().startswith(b"\x89PNG")


def test_bench_refuses_other_plots_before_it_runs(run):
    status, out, err = run("bench", "nowhere.gcast", "--plot", "layers.pdf")
    assert (status, out) == (1, "")
    assert err.splitlines()[0] == "error: Plot must be a file .svg or .png, not layers.pdf"


@pytest.fixture(scope="module")
def server(folder):
    sources = [ModelSource(name, folder / f"{name}.gcast") for name in ("fashion", "plain")]
    with Server(sources, gatecast.open, ServerOptions(port=0, rest_port=0)) as server:
        yield server


class TestPredict:
    def ask(self, run, server, *arguments):
        return run("predict", f"127.0.0.1:{server.port}", *arguments)

    def test_classes_by_name(self, run, server):
        status, out, err = self.ask(run, server, "picture.png", "--model_name", "fashion", "--top", 1)
        assert (status, err) == (0, "")
        assert out.splitlines()[2].split()[:4] == ["picture.png", "9", "Ankle", "boot"]

    def test_classes_by_index_where_there_are_no_labels(self, run, server):
        status, out, _ = self.ask(run, server, "picture.png", "--model_name", "plain", "--json")
        (answer,) = json.loads(out)
        assert status == 0
        assert [answer["classes"][0][key] for key in ("index", "name")] == [9, ""]
        assert len(answer["classes"]) == 5

    def test_arrays_may_be_batches(self, run, server):
        _, out, _ = self.ask(run, server, "x.npy", "--model_name", "plain", "--json")
        assert [answer["image"] for answer in json.loads(out)] == [0, 1]

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_what_was_answered_before_a_wrong_file_is_printed(self, run, server, options):
        files = ("picture.png", "x.npy", "fashion.onnx", "picture.png")
        status, out, err = self.ask(run, server, *files, "--model_name", "fashion", "--top", 1, *options)
        assert status == 1
        assert out.count("picture.png") == 1
        assert out.count("x.npy") == 2
        assert err == (
            "error: Input images[0] of fashion: "
            "Picture must be a JPEG or PNG file, not one that starts with 08 0a 12 08\n"
            "hint: Send the bytes of a whole JPEG or PNG file.\n"
        )

    def test_a_server_of_several_models_wants_a_name(self, run, server):
        status, out, err = self.ask(run, server, "picture.png")
        assert (status, out) == (1, "")
        assert err.startswith("error: ModelSpec has no name specified.\nhint: ")


class TestZoo:
    def test_the_list_as_json(self, run):
        told = json.loads(run("zoo", "list", "--json")[1])
        assert [network["name"] for network in told["networks"]] == list(zoo.NETWORKS)
        assert {rule["name"] for rule in told["preprocessings"]} == set(zoo.PREPROCESSINGS)

    def test_sources_have_digests(self, run):
        told = json.loads(run("zoo", "show", "resnet50", "--json")[1])
        assert told["sources"][1]["file"] == "resnet50.tv_in1k.safetensors"
        assert len(told["sources"][1]["sha256"]) == 64

    @pytest.mark.parametrize(
        ("weights", "error", "hint"),
        [
            ("none.npz", "File none.npz must exist", "Check the path."),
            (
                "picture.png",
                "picture.png: File must be .npz, safetensors, or a state_dict that PyTorch saved",
                "Give a file of weights; `gatecast zoo show NAME` lists those that suit a network.",
            ),
            (
                ".",
                ". must be a file of arrays, not a folder",
                "Give a file of weights; `gatecast zoo show NAME` lists those that suit a network.",
            ),
            (
                "other.npz",
                "Weights must be those of fashion, but conv1.weight has shape (2,), not (32, 1, 3, 3)",
                "Give the weights of this network; `gatecast zoo show fashion` lists files that suit it.",
            ),
            (
                "fashion.onnx",
                "",
                "Give the weights of this network; `gatecast zoo show resnet50` lists files that suit it.",
            ),
        ],
    )
    def test_weights_that_do_not_suit_come_with_a_hint(self, run, folder, weights, error, hint):
        np.savez(folder / "other.npz", **{"conv1.weight": np.zeros(2, np.float32)})
        network = "resnet50" if weights == "fashion.onnx" else "fashion"
        status, _, err = run("zoo", "pull", network, "-o", "w.onnx", "--weights", weights)
        assert status == 1
        first, second = err.splitlines()
        assert first.startswith(f"error: {error}")
        assert second == f"hint: {hint}"
        assert not (folder / "w.onnx").exists()

    def test_files_are_shown_with_digests(self, run):
        _, out, _ = run("zoo", "show", "resnet50")
        for source in zoo.network("resnet50").sources:
            assert source.file in out
            assert source.sha256 in out

    def test_samples_come_with_their_classes(self, run, folder):
        assert run("zoo", "samples", "fashion", "-o", "samples")[0] == 0
        lines = (folder / "samples" / "labels.csv").read_text().splitlines()
        assert lines[:2] == ["file,index,name", "test-00.png,9,Ankle boot"]
        assert (folder / "samples" / "test-00.png").read_bytes() == SAMPLE.data
