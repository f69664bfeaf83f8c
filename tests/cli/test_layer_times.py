"""The table, JSON and plot of layers, from times made up here."""

import json

import pytest

from gatecast.cli.drawing import Rectangle, Text
from gatecast.cli.layer_times import describe, plot, print_layer_times, to_json, total
from gatecast.runtime import LayerTime, Profile, Roof

ROOF = Roof("avx512vnni", 1, 400.0, 10.0)
LAYERS = (
    LayerTime("conv", "Convolution", 2_000_000, 1000, 10.0),  # 200 of 400 GMAC/s
    LayerTime("pool", "MaxPool", 0, 20_000, 8.0),  # 2 us of reading at the least
    LayerTime("fc", "MatMul", 1_000_000, 1_000_000, 125.0),  # memory: 100 us at the least
)
PROFILE = Profile(LAYERS, ROOF)


def test_the_table_tells_what_limits_each_layer(capsys):
    print_layer_times(PROFILE)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["layer", "kind", "MACs", "µs", "GMAC/s", "attainable", "share"]
    assert lines[2] == ["conv", "Convolution", "2,000,000", "10.0", "200.0", "400.0", "50%"]
    assert lines[3] == ["pool", "MaxPool", "8.0", "25%"]
    assert lines[4] == ["fc", "MatMul", "1,000,000", "125.0", "8.0", "10.0", "80%"]
    assert lines[5][:3] == ["total", "3,000,000", "143.0"]


def test_json_has_the_same_numbers():
    told = json.loads(json.dumps(to_json(PROFILE)))
    assert told["attainable"] == {
        "instruction_set": "avx512vnni",
        "threads": 1,
        "gmacs_per_s": 400.0,
        "gbytes_per_s": 10.0,
    }
    assert told["layers"][0] == {
        "name": "conv",
        "kind": "Convolution",
        "macs": 2_000_000,
        "touched": 1000,
        "us": 10.0,
        "gmacs_per_s": pytest.approx(200.0),
        "attainable_gmacs_per_s": pytest.approx(400.0),
        "share": pytest.approx(0.5),
    }


@pytest.mark.parametrize("roof", [None, Roof("portable", 1, None, 10.0)])
def test_without_a_known_roof_only_what_is_achieved_is_told(roof, capsys):
    unknown = Profile(LAYERS, roof)
    print_layer_times(unknown)
    assert capsys.readouterr().out.splitlines()[2].split()[-1] == "200.0"
    assert to_json(unknown)["layers"][0]["share"] is None
    assert describe(roof) == "what is attainable here is not known"
    assert any(isinstance(shape, Text) and shape.text == "conv" for shape in plot(unknown, "x").shapes)


def test_all_layers_are_one_more():
    whole = total(PROFILE)
    assert (whole.macs, whole.touched, whole.us) == (3_000_000, 1_021_000, 143.0)


def test_the_plot_has_two_bars_for_each_layer_that_multiplies():
    drawing = plot(PROFILE, "network")
    bars = [shape for shape in drawing.shapes if isinstance(shape, Rectangle)]
    texts = [shape.text for shape in drawing.shapes if isinstance(shape, Text)]
    assert len(bars) == 2 * 3  # conv, fc, total
    assert bars[1].width == pytest.approx(bars[0].width / 2)
    assert {"network", "conv", "fc", "total", "200  50%  0.01 ms"} <= set(texts)
    assert "pool" not in texts


def test_threads_are_counted_in_words():
    assert (
        "avx2 and 2 threads, measured just now: 400 GMAC/s, or what reading at 10.0 GB/s allows"
        in describe(Roof("avx2", 2, 400.0, 10.0))
    )
