"""Image stages and small networks as TensorFlow nodes, as people write them; imported where TensorFlow is."""

from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from gatecast.interchange.tensorflow import image_tensors, load, set_variables, write_graph
from gatecast.interchange.tensorflow.image_stage import find_image_stage
from gatecast.interchange.tensorflow.nodes import Nodes

__all__ = ["image_tensors", "load", "set_variables", "write_graph"]

v1 = tf.compat.v1

MEANS = (123.68, 116.779, 103.939)


@contextmanager
def control_flow(version):
    """Build loops as TensorFlow 1 does (frames and TensorArrays), or as 2 does (functions and lists)."""
    (v1.disable_control_flow_v2 if version == 1 else v1.enable_control_flow_v2)()
    try:
        with tf.Graph().as_default() as graph:
            yield graph
    finally:
        v1.enable_control_flow_v2()


def decoded(data, channels=3):
    return tf.cast(tf.image.decode_png(data, channels=channels), tf.float32)


def resized(pixels, size):
    return tf.squeeze(v1.image.resize_bilinear(tf.expand_dims(pixels, 0), size, align_corners=False), [0])


def by_short_side(pixels, side):
    """Resize with the aspect kept, by a condition on which side is the shorter."""
    shape = tf.shape(pixels)
    height, width = tf.cast(shape[0], tf.float32), tf.cast(shape[1], tf.float32)
    scale = tf.cond(tf.greater(height, width), lambda: side / width, lambda: side / height)
    return resized(pixels, tf.stack([tf.cast(height * scale, tf.int32), tf.cast(width * scale, tf.int32)]))


def central_crop(pixels, height, width):
    shape = tf.shape(pixels)
    assertion = tf.Assert(tf.logical_and(shape[0] >= height, shape[1] >= width), ["too small"])
    with tf.control_dependencies([assertion]):
        begin = tf.stack([(shape[0] - height) // 2, (shape[1] - width) // 2, 0])
    return tf.slice(pixels, begin, [height, width, 3])


def minus_means_by_channel(pixels, order="RGB"):
    red, green, blue = (pixels[:, :, i : i + 1] - MEANS[i] for i in range(3))
    return tf.concat([red, green, blue] if order == "RGB" else [blue, green, red], 2)


def looped(pictures, one):
    return v1.map_fn(one, pictures, dtype=tf.float32)


def find(graph, placeholder, output):
    """The image stage between them."""
    return find_image_stage(Nodes(graph.as_graph_def()), placeholder.name, [output.name])


def save(folder, inputs, outputs):
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder), inputs, outputs)


def convolved(tensor, channels=8, seed=1):
    """A convolution with variables, batch norm, ReLU, mean, softmax: enough to be a network."""
    random = np.random.default_rng(seed)
    kernel = random.normal(0, 0.1, (3, 3, tensor.shape[-1], channels)).astype(np.float32)
    weights = v1.get_variable("net/weights", initializer=kernel)
    x = tf.nn.relu(tf.nn.conv2d(tensor, weights, 2, "SAME"), name="net/Relu")
    return tf.nn.softmax(tf.reduce_mean(x, [1, 2]), name="classifier/predictions/Softmax")
