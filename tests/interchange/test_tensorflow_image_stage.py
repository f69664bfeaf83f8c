"""Image stages of TensorFlow graphs: read from their nodes, tried, and said as a Preprocessing.

`decode_image` must make the bits that TensorFlow's own session makes of PNG files. Of JPEG files it must if
the graph asks for the accurate DCT; `decode_png` and `decode_jpeg` by default take the fast one.
"""

import io
import os
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gatecast.errors import UnsupportedError
from gatecast.graph import Preprocessing
from gatecast.runtime.images import decode_image
from gatecast.zoo import azureml_preprocessing

pytestmark = pytest.mark.slow

SHAPES = ((300, 400), (401, 300), (256, 256), (90, 71), (61, 244))


@pytest.fixture(scope="module")
def built():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow's import alone
        return import_module("tests.interchange.tensorflow_graphs")


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def pictures(shapes=SHAPES, seed=4, kind="PNG"):
    random = np.random.default_rng(seed)
    return [encoded(random.integers(0, 256, (*shape, 3), dtype=np.uint8), kind) for shape in shapes]


def check(built, graph, placeholder, output, data):
    """Find the stage before `output`; it must make the bits of TensorFlow. Returns its preprocessing."""
    stage = built.find(graph, placeholder, output)
    config = built.v1.ConfigProto()  # as the nodes say: TensorFlow's optimiser divides by multiplying
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with built.v1.Session(graph=graph, config=config) as session:
        if stage.batch == 1:
            vector = placeholder.shape.rank == 1
            theirs = [session.run(output, {placeholder: [d] if vector else d})[0] for d in data]
        else:
            theirs = session.run(output, {placeholder: data})
    for picture, expected in zip(data, theirs, strict=True):
        found = decode_image(picture, stage.preprocessing)
        for step in zip(*stage.rest, strict=True):
            numbers = np.array([number for _, number in step], np.float32)
            operation = {"div": np.divide, "sub": np.subtract, "mul": np.multiply, "add": np.add}[step[0][0]]
            found = operation(found, numbers)
        assert np.array_equal(found, expected)
    return stage.preprocessing


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("order", "scale", "size"), [("RGB", 1.0, 224), ("BGR", 0.017, 160)])
def test_the_loop_of_the_original_api_is_read(built, version, order, scale, size):
    def one(data):
        pixels = built.central_crop(built.by_short_side(built.decoded(data), 256.0), size, size)
        return built.minus_means_by_channel(pixels, order) * scale

    with built.control_flow(version) as graph:
        names = built.v1.placeholder(built.tf.string)
        output = built.looped(names, one)
    rule = check(built, graph, names, output, pictures())
    assert rule == Preprocessing(
        name=f"in-graph (short side 256, {size} x {size} {order})",
        height=size,
        width=size,
        channels=order,
        resize="legacy_bilinear",
        short_side=256,
        mean=built.MEANS if order == "RGB" else built.MEANS[::-1],
        scale=scale,
    )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"order": "BGR", "scaling_factor": 0.017}, {"preserve_aspect_ratio": False, "output_width": 300}],
)
def test_what_is_written_for_a_preprocessing_is_read_as_it(built, version, arguments):
    rule = azureml_preprocessing(**arguments)
    with built.control_flow(version) as graph:
        names = built.v1.placeholder(built.tf.string)
        output = built.image_tensors(names, rule)
    assert tuple(output.shape) == (None, *rule.shape)
    if version == 1:
        assert output.name == "map_normalize_jpeg/TensorArrayStack/TensorArrayGatherV3:0"
    found = check(built, graph, names, output, pictures())
    assert found.name.startswith("in-graph (")
    assert {**vars(found), "name": ""} == {**vars(rule), "name": ""}


def test_jpeg_files_decode_to_the_same_bits_where_the_graph_asks_for_the_accurate_dct(built):
    def one(data):
        pixels = built.tf.image.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
        return built.resized(built.tf.cast(pixels, built.tf.float32), [50, 40])

    with built.control_flow(2) as graph:
        names = built.v1.placeholder(built.tf.string, [None])
        output = built.looped(names, one)
    rule = check(built, graph, names, output, pictures(kind="JPEG"))
    assert (rule.height, rule.width, rule.short_side) == (50, 40, None)


def test_photographs_decoded_with_the_fast_dct_differ_by_a_few_steps(built):
    folder = os.environ.get("GATECAST_TEST_DATA")
    if not folder:
        pytest.skip("GATECAST_TEST_DATA is not set: photographs")
    files = sorted(Path(folder, "images", "azure_samples").glob("*.jpg"))
    data = [file.read_bytes() for file in files]
    rule = azureml_preprocessing()
    with built.tf.Graph().as_default(), built.v1.Session() as session:
        theirs = session.run(built.image_tensors(built.tf.constant(data), rule))
    for picture, expected in zip(data, theirs, strict=True):
        difference = np.abs(decode_image(picture, rule) - expected)
        assert 0 < difference.mean() < 2.5  # of 255
        assert difference.max() < 40


@pytest.mark.parametrize("form", ["scalar", "vector"])
def test_one_picture_without_a_loop(built, form):
    tf = built.tf
    with tf.Graph().as_default() as graph:
        names = built.v1.placeholder(tf.string, [] if form == "scalar" else [1])
        data = names if form == "scalar" else names[0]
        pixels = built.v1.image.resize_bilinear(built.decoded(data)[None], [48, 40])
        output = (pixels / 255.0 - [0.485, 0.456, 0.406]) / np.float32([0.229, 0.224, 0.225])
    assert built.find(graph, names, output).batch == 1
    rule = check(built, graph, names, output, pictures())
    assert (rule.divide, rule.mean, rule.std) == (255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (rule.height, rule.width, rule.short_side) == (48, 40, None)


def test_pictures_of_one_size_need_no_resizing(built):
    with built.control_flow(1) as graph:
        names = built.v1.placeholder(built.tf.string)
        output = built.looped(names, lambda data: built.tf.reshape(built.decoded(data), [30, 20, 3])) - 127.5
    rule = check(built, graph, names, output, pictures([(30, 20), (30, 20)]))
    assert (rule.resize, rule.height, rule.width, rule.mean) == ("none", 30, 20, (127.5,) * 3)


def test_grey_pictures(built):
    with built.control_flow(2) as graph:
        names = built.v1.placeholder(built.tf.string)
        output = built.looped(names, lambda data: built.resized(built.decoded(data, channels=1), [28, 28]))
    stage = built.find(graph, names, output)
    assert (stage.preprocessing.channels, stage.preprocessing.shape) == ("L", (28, 28, 1))


def test_arithmetic_that_a_preprocessing_cannot_say_is_left_to_the_network(built):
    with built.control_flow(1) as graph:
        names = built.v1.placeholder(built.tf.string)

        def one(data):
            return (built.resized(built.decoded(data), [32, 32]) - 1.0) * 0.5 - 3.0

        output = built.looped(names, one)
    rule = check(built, graph, names, output, pictures())
    assert (rule.mean, rule.scale) == ((1.0, 1.0, 1.0), 0.5)
    assert built.find(graph, names, output).rest == ((("sub", 3.0),),) * 3


def test_the_stage_ends_before_what_only_the_network_can_say(built):
    with built.control_flow(1) as graph:
        names = built.v1.placeholder(built.tf.string)
        stack = built.looped(names, lambda data: built.resized(built.decoded(data), [32, 32]) - 1.0)
        output = stack * 0.5 + [1.0, 2.0, 3.0]
    stage = built.find(graph, names, output)
    assert not any(stage.rest)
    assert stage.preprocessing.scale == 0.5


@pytest.mark.parametrize("way", ["reverse", "slice", "split", "unstack", "gather"])
def test_channels_may_be_turned_round_in_many_ways(built, way):
    tf = built.tf

    def one(data):
        pixels = built.resized(built.decoded(data), [32, 32])
        match way:
            case "reverse":
                return tf.reverse(pixels, [-1]) - built.MEANS[::-1]
            case "slice":
                return (pixels - np.float32(built.MEANS))[..., ::-1]
            case "split":
                red, green, blue = tf.split(pixels, 3, axis=2)
                return tf.concat([blue, green, red], -1) - built.MEANS[::-1]
            case "unstack":
                red, green, blue = tf.unstack(pixels, axis=2)
                parts = [blue - built.MEANS[2], green - built.MEANS[1], red - built.MEANS[0]]
                return tf.stack(parts, axis=2)
        return tf.gather(pixels, [2, 1, 0], axis=2) - built.MEANS[::-1]

    with built.control_flow(1) as graph:
        names = built.v1.placeholder(tf.string)
        output = built.looped(names, one)
    rule = check(built, graph, names, output, pictures())
    assert (rule.channels, rule.mean) == ("BGR", built.MEANS[::-1])


def refused(built, one, version=1, after=lambda tensor: tensor):
    """Message of the error for the stage of a loop."""
    with built.control_flow(version) as graph:
        names = built.v1.placeholder(built.tf.string)
        output = after(built.looped(names, one))
    with pytest.raises(UnsupportedError) as caught:
        built.find(graph, names, output)
    assert "preprocess_array" in caught.value.hint
    return str(caught.value)


def test_a_crop_off_the_centre_is_found_out(built):
    def one(data):
        pixels = built.by_short_side(built.decoded(data), 256.0)
        return built.tf.slice(pixels, [0, 0, 0], [224, 224, 3])

    message = refused(built, one)
    assert "computes other values than resizing the shorter side to 256, cropped to 224 x 224" in message


def test_another_rounding_of_the_size_is_found_out(built):
    tf = built.tf

    def one(data):
        pixels = built.decoded(data)
        shape = tf.cast(tf.shape(pixels)[:2], tf.float32)
        size = tf.cast(tf.math.floor(shape * (256.0 / tf.reduce_min(shape)) + 0.5), tf.int32)
        return built.central_crop(built.resized(pixels, size), 224, 224)

    assert "these nodes are no part of one" in refused(built, one)  # Min

    def other(data):
        pixels = built.decoded(data)
        shape = tf.cast(tf.shape(pixels), tf.float32)
        scale = 256.0 / tf.minimum(shape[0], shape[1])
        size = tf.cast(tf.math.floor(shape[:2] * scale + 0.5), tf.int32)
        return built.central_crop(built.resized(pixels, size), 224, 224)

    assert "computes other values than resizing the shorter side to 256" in refused(built, other)


def test_pictures_in_another_order_are_found_out(built):
    tf = built.tf
    with built.control_flow(1) as graph:
        names = built.v1.placeholder(tf.string, [None])
        output = built.looped(names[::-1], lambda data: built.resized(built.decoded(data), [32, 32]))
    with pytest.raises(UnsupportedError, match="computes other values than resizing 32 x 32"):
        built.find(graph, names, output)


@pytest.mark.parametrize("version", [1, 2])
def test_other_ways_to_resize_are_named(built, version):
    tf = built.tf

    def corners(data):
        pixels = built.decoded(data)[None]
        return built.v1.image.resize_bilinear(pixels, [32, 32], align_corners=True)[0]

    assert "ResizeBilinear) must resize as TensorFlow 1 does by default" in refused(built, corners, version)
    message = refused(built, lambda data: tf.image.resize(built.decoded(data), [32, 32]), version)
    assert "neither align_corners nor half_pixel_centers" in message
    message = refused(built, lambda data: tf.image.resize(built.decoded(data), [32, 32], "nearest"), version)
    assert "(ResizeNearestNeighbor)" in message


def test_random_pictures_are_named(built):
    def one(data):
        return built.tf.image.random_flip_left_right(built.resized(built.decoded(data), [32, 32]))

    assert "(RandomUniform)" in refused(built, one)


def test_scaling_before_resizing_is_named(built):
    message = refused(built, lambda data: built.resized(built.decoded(data) / 255.0, [32, 32]))
    assert "must resize the decoded picture as it is" in message


def test_any_number_of_channels_is_named(built):
    def one(data):
        pixels = built.tf.cast(built.tf.io.decode_png(data), built.tf.float32)
        return built.tf.reshape(built.resized(pixels, [32, 32]), [32, 32, 3])

    assert "must decode to 1 or 3 channels, not any" in refused(built, one)


def test_other_orders_of_channels_are_named(built):
    def one(data):
        return built.tf.gather(built.resized(built.decoded(data), [32, 32]), [1, 0, 2], axis=2)

    assert "channels [1, 0, 2] of the picture must be in the order RGB or BGR" in refused(built, one)


def test_strings_that_are_no_pictures_are_named(built):
    tf = built.tf
    with tf.Graph().as_default() as graph:
        names = built.v1.placeholder(tf.string, [None])
        output = tf.io.decode_raw(names, tf.float32)
    with pytest.raises(UnsupportedError, match=r"these nodes are no part of one: DecodeRaw \(DecodeRaw\)"):
        built.find(graph, names, output)
