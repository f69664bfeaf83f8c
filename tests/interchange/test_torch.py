"""Networks as both of torch.onnx's exporters write them.

ONNX Runtime computes the file; the evaluator computes the Graph. Both sum in float32, a few hundred terms in
another order, and values are about 1: 1e-4 is generous for sums and far below any wrong layer.
"""

import io
import logging
import warnings

import numpy as np
import onnx
import pytest
import torch
from tests.interchange.runtimes import difference, evaluated, onnx_runtime
from torch import nn
from torch.nn import functional

from gatecast import graph as op
from gatecast.interchange import from_onnx, to_onnx
from gatecast.quantization import quantize


class SqueezeAndExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        s = functional.adaptive_avg_pool2d(x, 1)
        return x * functional.hardsigmoid(self.expand(torch.relu(self.reduce(s))))


class Mobile(nn.Module):
    """Depthwise, dilated, squeeze-and-excite, hard-swish, batch norm, adaptive pool."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 2, dilation=2, groups=16)
        self.excite = SqueezeAndExcite(16)
        self.project = nn.Conv2d(16, 16, 1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = functional.hardswish(self.norm(self.stem(x)))
        y = self.project(self.excite(functional.relu6(self.depthwise(x))))
        x = functional.adaptive_avg_pool2d(x + y, 1)
        return torch.softmax(self.head(self.drop(torch.flatten(x, 1))), 1)


class Dense(nn.Module):
    """Concatenation, SiLU, pools with ceil, a pad, an upsampling, and a classifier over a whole map."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 24, 3, padding=1)
        self.two = nn.Conv2d(48, 40, 3, padding=1, groups=2)
        self.pool = nn.MaxPool2d(3, 2, 0, ceil_mode=True)
        self.mean = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.up = nn.Upsample(scale_factor=2)
        self.head = nn.Linear(40 * 5 * 5, 7)

    def forward(self, x):
        x = functional.silu(self.one(functional.pad(x, (1, 2, 0, 1))))
        x = torch.cat([x, functional.leaky_relu(x, 0.1)], 1)
        x = self.mean(self.pool(functional.silu(self.two(x))))
        y = self.up(x)[:, :, ::2, 1::2]
        return self.head((torch.maximum(x, y) - 0.5 * y).flatten(1))


class TwoOutputs(nn.Module):
    """Heads as detectors have them: NHWC maps reshaped, with a bilinear resize and an L2 normalisation."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, 2, 1)
        self.boxes = nn.Conv2d(8, 12, 3, padding=1)
        self.scores = nn.Conv2d(8, 6, 1)

    def forward(self, x):
        x = functional.interpolate(self.body(x), size=(6, 5), mode="bilinear", align_corners=False)
        x = functional.normalize(x, dim=1)
        boxes = self.boxes(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4)
        scores = self.scores(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 2)
        return boxes, torch.softmax(scores, -1)


pytestmark = pytest.mark.slow

CASES = {
    "mobile": (Mobile, (3, 32, 30), ["scores"]),
    "dense": (Dense, (3, 9, 8), ["scores"]),
    "two_outputs": (TwoOutputs, (3, 9, 12), ["boxes", "scores"]),
}


def legacy(network, x, outputs):
    data = io.BytesIO()
    axes = {name: {0: "N"} for name in ("images", *outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (x,),
            data,
            dynamo=False,
            input_names=["images"],
            output_names=outputs,
            dynamic_axes=axes,
        )
    return onnx.load_model_from_string(data.getvalue())


def dynamo(network, x, outputs):
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (x,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("N", min=1, max=64)},),
        )
    return program.model_proto


def network(kind):
    torch.manual_seed(1)
    made = kind().eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return made


EXPORTERS = {"torchscript": legacy, "dynamo": dynamo}


@pytest.fixture(scope="module", params=[f"{case}-{exporter}" for case in CASES for exporter in EXPORTERS])
def exported(request):
    case, exporter = request.param.split("-")
    kind, shape, outputs = CASES[case]
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    return case, EXPORTERS[exporter](network(kind), x, outputs), x.numpy()


def test_the_graph_computes_what_the_file_does(exported):
    _, model, x = exported
    graph = from_onnx(model)
    expected = onnx_runtime(model, {"images": x})
    for image in range(len(x)):
        for name, values in evaluated(graph, {"images": x[image : image + 1]}).items():
            np.testing.assert_allclose(values[0], expected[name][image], rtol=1e-4, atol=1e-4)


def test_what_is_written_again_computes_the_same_and_reads_as_the_same_graph(exported):
    _, model, x = exported
    graph = from_onnx(model)
    again = to_onnx(graph)
    onnx.checker.check_model(again, full_check=True)
    assert difference(graph, from_onnx(again)) is None
    found, expected = onnx_runtime(again, {"images": x}), onnx_runtime(model, {"images": x})
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4)


def test_the_interface_keeps_names_layout_and_batch(exported):
    case, model, _ = exported
    graph = from_onnx(model)
    assert [(p.name, p.layout, p.batch) for p in graph.interface.inputs] == [("images", "NCHW", None)]
    assert [p.name for p in graph.interface.outputs] == CASES[case][2]
    assert all(port.batch is None for port in graph.interface.outputs)


def test_exported_networks_can_be_quantised_and_come_back(exported):
    _, model, _ = exported
    graph = quantize(from_onnx(model), "bfp8")
    assert any(isinstance(layer, op.Encode) for layer in graph.layers)
    assert difference(graph, from_onnx(to_onnx(graph))) is None


def test_idioms_become_single_layers(exported):
    case, model, _ = exported
    kinds = [type(layer).__name__ for layer in from_onnx(model).layers]
    activations = [layer.kind for layer in from_onnx(model).layers if isinstance(layer, op.Activation)]
    if case == "mobile":
        assert kinds.count("MatMul") == kinds.count("Softmax") == 1
        assert "Flatten" not in kinds and "Reshape" not in kinds
        assert sorted(activations) == ["clip", "hard_sigmoid", "hard_swish", "relu"]
    elif case == "dense":
        assert sorted(activations) == ["leaky_relu", "silu", "silu"]
        assert "Pad" not in kinds and "Flatten" not in kinds
    else:
        assert kinds.count("L2Norm") == 1 and "Transpose" not in kinds
