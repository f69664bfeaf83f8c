"""Tries an image stage against the `Preprocessing` it should be: the same bits on pictures of many shapes."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gatecast.graph import Preprocessing

from .image_ops import image_tensors
from .nodes import Nodes, imported, node_of
from .pixels import NotAnImageError, Step

v1 = tf.compat.v1

_SHAPES = ((300, 400), (401, 300), (256, 256), (255, 259), (37, 53), (640, 333), (61, 244), (1000, 700))
"""Rows and columns of the pictures: both orientations, square, near a usual size, smaller, larger."""


class OtherPicturesError(Exception):
    """A stage computes something else; says for which picture."""


class Probe:
    """Runs a stage.

    Parameters
    ----------
    looped : bool
        Whether the stage is a loop over a vector of pictures.
    """

    def __init__(self, nodes: Nodes, placeholder: str, tensor: str, looped: bool) -> None:
        self._feed = placeholder
        self._tensor = tensor
        self._graph = imported(nodes.part([tensor], waits=True))
        shape = nodes.tensors.shape(tensor)
        if shape is None or len(shape) != 4:
            raise NotAnImageError(f"{tensor} must have the axes N, H, W, C, not shape {shape}")
        self._static = shape
        rank = nodes.tensors.shape(placeholder)
        self.is_vector = looped or (rank is not None and len(rank) == 1)
        self.size = self._size()

    def _size(self) -> tuple[int, int]:
        """Rows and columns of what the stage makes."""
        height, width = self._static[1:3]
        if height and width:
            return height, width
        try:
            made = [self._run([picture])[0].shape for picture in _pictures(_SHAPES[:3])]
        except tf.errors.OpError as error:
            raise NotAnImageError(f"{_place(error)} fails on a picture") from error
        if len(set(made)) != 1:
            raise NotAnImageError(
                f"{node_of(self._tensor)} must make tensors of one size, not {made[0]} and others"
            )
        return made[0][0], made[0][1]

    def compare(self, rule: Preprocessing, rest: Sequence[Sequence[Step]]) -> None:
        """Raise OtherPicturesError unless the stage makes the bits of `rule` and the steps `rest` after it.

        Pictures that `rule` refuses, as too small for its crop, are left out.
        """
        shapes = _SHAPES if rule.resize != "none" else [(rule.height, rule.width)] * 2
        expected = _expected(rule, rest, shapes)
        if len(expected) < len(shapes) // 2:
            raise OtherPicturesError(f"{_words(rule)} does not suit most pictures")
        try:
            made = self._run([picture for picture, _ in expected.values()])
        except tf.errors.OpError as error:
            raise OtherPicturesError(f"the stage fails on a picture at {_place(error)}") from error
        for (shape, (_, ours)), theirs in zip(expected.items(), made, strict=True):
            if not np.array_equal(ours, theirs):
                raise OtherPicturesError(
                    f"{node_of(self._tensor)} computes other values than {_words(rule)} for a picture of "
                    f"{shape[0]} x {shape[1]}"
                )

    def _run(self, pictures: list[bytes]) -> list[npt.NDArray[np.float32]]:
        with _session(self._graph) as session:
            if self.is_vector:
                return list(session.run(self._tensor, {self._feed: pictures}))
            return [session.run(self._tensor, {self._feed: picture})[0] for picture in pictures]


def _expected(
    rule: Preprocessing, rest: Sequence[Sequence[Step]], shapes: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], tuple[bytes, npt.NDArray[np.float32]]]:
    """For each shape that `rule` takes, a picture of it and what `rule` makes of that."""
    found = {}
    with tf.Graph().as_default() as graph:
        picture = v1.placeholder(tf.string, [1])
        made = with_steps(image_tensors(picture, rule), rest)
        with _session(graph) as session:
            for shape, data in zip(shapes, _pictures(shapes), strict=True):
                with suppress(tf.errors.InvalidArgumentError):
                    found[shape] = data, session.run(made, {picture: [data]})[0]
    return found


def with_steps(tensor: Any, steps: Sequence[Sequence[Step]]) -> Any:
    """Add arithmetic by channel after `tensor`."""
    operations = {"div": tf.divide, "sub": tf.subtract, "mul": tf.multiply, "add": tf.add}
    for step in zip(*steps, strict=True):
        tensor = operations[step[0][0]](tensor, np.asarray([number for _, number in step], np.float32))
    return tensor


def _session(graph: Any) -> Any:
    """A session that computes each node as it is written."""
    config = v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = v1.OptimizerOptions.L0
    return v1.Session(graph=graph, config=config)


def _pictures(shapes: Sequence[tuple[int, int]]) -> list[bytes]:
    """Noise of these shapes as PNG files, the same each time."""
    random = np.random.default_rng(20)
    with tf.Graph().as_default() as graph:
        files = [
            tf.io.encode_png(tf.constant(random.integers(0, 256, (*shape, 3)).astype(np.uint8)))
            for shape in shapes
        ]
        with v1.Session(graph=graph) as session:
            return list(session.run(files))


def _words(rule: Preprocessing) -> str:
    if rule.resize == "none":
        return f"a picture of {rule.height} x {rule.width} as it is"
    crop = "" if rule.short_side is None else f"the shorter side to {rule.short_side}, cropped to "
    return f"resizing {crop}{rule.height} x {rule.width}"


def _place(error: tf.errors.OpError) -> str:
    """The node that failed."""
    return str(error.op.name) if error.op is not None else "a node that is not named"
