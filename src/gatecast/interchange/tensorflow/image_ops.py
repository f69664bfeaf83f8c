"""A `Preprocessing` as TensorFlow nodes: what azureml-accel-models' `preprocess_array` builds, and what an
image stage found in a graph is compared with.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from gatecast.errors import UnsupportedError
from gatecast.graph import Preprocessing

v1 = tf.compat.v1


def image_tensors(pictures: Any, preprocessing: Preprocessing, name: str = "map_normalize_jpeg") -> Any:
    """Add nodes that decode and prepare encoded pictures, one by one in a loop.

    Parameters
    ----------
    pictures : tf.Tensor
        Strings, a vector; JPEG, PNG or whatever else TensorFlow's decode_png knows.
    name : str
        Of the loop. With control flow of TensorFlow 1 the result is
        ``map_normalize_jpeg/TensorArrayStack/TensorArrayGatherV3:0``.

    Returns
    -------
    tf.Tensor
        float32 [?, height, width, channels].

    Raises
    ------
    UnsupportedError
        As `image_tensor` does.
    """
    return v1.map_fn(lambda data: image_tensor(data, preprocessing), pictures, dtype=tf.float32, name=name)


def image_tensor(data: Any, rule: Preprocessing) -> Any:
    """Add the nodes for one picture: a scalar string to float32 [height, width, channels].

    Raises
    ------
    UnsupportedError
        `rule` resizes by Pillow's filter, which TensorFlow does not have.
    """
    if rule.resize == "antialiased_bilinear":
        raise UnsupportedError(
            f"Preprocessing {rule.name!r} must resize as TensorFlow 1 does, not with antialiasing",
            hint="Take one with resize legacy_bilinear, such as imagenet-azureml.",
        )
    pixels = tf.cast(tf.image.decode_png(data, channels=len(rule.channels)), tf.float32)
    if rule.resize == "legacy_bilinear":
        pixels = _cropped(_resized(pixels, rule), rule)
    pixels = tf.ensure_shape(pixels, rule.shape) if rule.resize == "none" else pixels
    return arithmetic(pixels, rule)


def _resized(pixels: Any, rule: Preprocessing) -> Any:
    size: Any = (rule.height, rule.width)
    if rule.short_side is not None:
        height, width = (tf.cast(tf.shape(pixels)[axis], tf.float32) for axis in (0, 1))
        scale = np.float32(rule.short_side) / tf.minimum(height, width)
        size = tf.stack([tf.cast(height * scale, tf.int32), tf.cast(width * scale, tf.int32)])
    return tf.squeeze(v1.image.resize_bilinear(pixels[None], size, align_corners=False), 0)


def _cropped(pixels: Any, rule: Preprocessing) -> Any:
    if rule.short_side is None:
        return pixels
    top = (tf.shape(pixels)[0] - rule.height) // 2
    left = (tf.shape(pixels)[1] - rule.width) // 2
    return tf.slice(pixels, tf.stack([top, left, 0]), rule.shape)


def arithmetic(pixels: Any, rule: Preprocessing) -> Any:
    """Add the order of the channels and the steps that are not neutral, in the order of `Preprocessing`."""
    if rule.channels == "BGR":
        pixels = tf.reverse(pixels, [-1])
    if rule.divide != 1.0:
        pixels = pixels / np.float32(rule.divide)
    if rule.mean:
        pixels = pixels - np.asarray(rule.mean, np.float32)
    if rule.std:
        pixels = pixels / np.asarray(rule.std, np.float32)
    return pixels * np.float32(rule.scale) if rule.scale != 1.0 else pixels
