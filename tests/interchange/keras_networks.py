"""Writes small Keras networks as ONNX by tf2onnx, with what Keras computes: run in a process of its own.

Usage: python keras_networks.py FOLDER [--saved-model]
"""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers


def residual():
    """SAME padding with strides, depthwise, batch norm, a shortcut, global pooling, softmax."""
    inputs = keras.Input((33, 30, 3), name="image")
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    y = layers.BatchNormalization()(layers.Conv2D(16, 1)(y))
    x = layers.Concatenate()([layers.Add()([x, y]), y])
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = layers.ZeroPadding2D(((1, 0), (2, 1)))(x)
    x = layers.Conv2D(24, 3, strides=2, activation="swish")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="scores")(x))


def sequential():
    """One channel, average pooling with SAME padding, Flatten into Dense, upsampling."""
    return keras.Sequential(
        [
            keras.Input((14, 12, 1), name="image"),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(8, (3, 5), padding="same", activation="relu"),
            layers.AveragePooling2D(3, 2, padding="same"),
            layers.UpSampling2D(2),
            layers.Conv2D(6, 3, dilation_rate=2, padding="same", activation="leaky_relu"),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(12, activation="relu6"),
            layers.Dense(5),
        ]
    )


def excite():
    """Squeeze-and-excite, hard-swish, a map as output, and an L2 normalisation."""
    inputs = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="hard_swish")(inputs)
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = layers.Conv2D(8, 1, activation="hard_sigmoid")(layers.Conv2D(4, 1, activation="relu")(s))
    x = layers.Multiply()([x, s])
    x = layers.UnitNormalization(axis=-1)(x)
    return keras.Model(inputs, layers.Conv2D(4, 3, padding="same", name="map")(x))


def main(folder, saved_model):
    for make in (residual, sequential, excite):
        keras.utils.set_random_seed(3)
        network = make()
        rng = np.random.default_rng(3)
        network.set_weights(
            [
                np.abs(w) + 0.1 if "variance" in v.path else w + rng.normal(0, 0.05, w.shape)
                for v, w in zip(network.weights, network.get_weights(), strict=True)
            ]
        )
        shape = network.input_shape[1:]
        x = rng.standard_normal((2, *shape)).astype(np.float32)
        np.savez(folder / f"{make.__name__}.npz", x=x, y=network(x, training=False).numpy())
        if saved_model:
            network.export(str(folder / make.__name__), verbose=False)
            continue
        signature = [tf.TensorSpec((None, *shape), tf.float32, name="image")]
        model, _ = tf2onnx.convert.from_function(
            tf.function(lambda image, network=network: network(image, training=False)), signature, opset=18
        )
        (folder / f"{make.__name__}.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]), saved_model="--saved-model" in sys.argv)
