"""Tries an image stage against the `Preprocessing` it should be: the same bits on pictures of many shapes."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gatecast.graph import Preprocessing

from .image_ops import image_tensor
from .nodes import Nodes, imported, node_of
from .pixels import NotAnImageError, Pixels, Step

v1 = tf.compat.v1

_SHAPES = ((300, 400), (401, 300), (256, 256), (255, 259), (37, 53), (640, 333), (61, 244), (1000, 700))
"""Rows and columns of the pictures: both orientations, square, near a usual size, smaller, larger."""


class OtherPicturesError(Exception):
    """A stage computes something else; says for which picture."""


class Probe:
    """Runs a stage; `pixels` is what its nodes say.

    Attributes
    ----------
    batch : int, optional
        Pictures that the graph takes at once; None is any number, and 1 where there is no loop.
    size : tuple of int
        Rows and columns that the stage makes.
    """

    def __init__(self, nodes: Nodes, placeholder: str, tensor: str, pixels: Pixels) -> None:
        self._feed = placeholder
        self._tensor = tensor
        self._graph = imported(nodes.part([tensor], waits=True))
        shape = nodes.tensors.shape(tensor)
        if shape is not None and len(shape) != 4:
            raise NotAnImageError(f"{tensor} must have the axes N, H, W, C, not shape {list(shape)}")
        fed = nodes.tensors.shape(placeholder)
        self._is_looped = pixels.looped
        self._is_vector = fed is not None and len(fed) == 1
        self.batch = (fed[0] if fed else None) if pixels.looped else 1
        self.size = self._size((shape or (None,))[1:3], pixels.size)

    def _size(self, *known: tuple[int | None, ...] | None) -> tuple[int, int]:
        """Rows and columns of what the stage makes, as far as they are fixed; else by running it."""
        for size in known:
            if size and len(size) == 2 and size[0] and size[1]:
                return size[0], size[1]
        try:
            made = [array.shape for array in self._run(_pictures(_SHAPES[:3]))]
        except tf.errors.OpError as error:
            raise NotAnImageError(f"{_place(error)} fails on a picture") from error
        if len(set(made)) != 1 or len(made[0]) != 3:
            raise NotAnImageError(
                f"{node_of(self._tensor)} must make tensors of one size, not {made[0]} and others"
            )
        return made[0][0], made[0][1]

    def compare(self, rule: Preprocessing, rest: Sequence[Sequence[Step]]) -> None:
        """Raise OtherPicturesError unless the stage makes the bits of `rule` and the steps `rest` after it.

        Pictures that `rule` refuses, as too small for its crop, are left out.
        """
        shapes = _SHAPES if rule.resize != "none" else ((rule.height, rule.width),) * 2
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
        size = self.batch or len(pictures)
        made: list[npt.NDArray[np.float32]] = []
        with _session(self._graph) as session:
            for start in range(0, len(pictures), size):
                part = pictures[start : start + size]
                part += pictures[:1] * (size - len(part))
                fed = part if self._is_looped or self._is_vector else part[0]
                made += list(session.run(self._tensor, {self._feed: fed}))
        return made[: len(pictures)]


def _expected(
    rule: Preprocessing, rest: Sequence[Sequence[Step]], shapes: tuple[tuple[int, int], ...]
) -> dict[tuple[int, int], tuple[bytes, npt.NDArray[np.float32]]]:
    """For each shape that `rule` takes, a picture of it and what `rule` makes of that."""
    found = {}
    with tf.Graph().as_default() as graph:
        picture = v1.placeholder(tf.string, [])
        made = with_steps(image_tensor(picture, rule), rest)
        with _session(graph) as session:
            for shape, data in zip(shapes, _pictures(shapes), strict=True):
                with suppress(tf.errors.InvalidArgumentError):
                    found[shape] = data, session.run(made, {picture: data})
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


@cache
def _pictures(shapes: tuple[tuple[int, int], ...]) -> list[bytes]:
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
