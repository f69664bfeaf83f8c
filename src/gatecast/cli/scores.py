"""Scores of classes, for people to read."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def best(scores: Float32, labels: Sequence[str], top: int) -> list[tuple[int, str, float]]:
    """Return index, name and score of the `top` largest scores, largest first.

    Of equal ones the lower index comes first. The name is empty where `labels` are not as many as the scores.
    """
    order = np.argsort(-scores, kind="stable")[:top]
    names = labels if len(labels) == scores.size else [""] * scores.size
    return [(int(i), names[i], float(scores[i])) for i in order]


def probabilities(scores: Float32) -> Float32:
    """Return the scores ``[images, classes]`` themselves if they are probabilities, else their softmax."""
    sums = scores.sum(axis=-1)
    if (scores >= 0).all() and np.allclose(sums, 1, atol=1e-3):
        return scores
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Float32 = powers / powers.sum(axis=-1, keepdims=True)
    return result
