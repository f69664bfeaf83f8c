import numpy as np

from gatecast.cli.scores import best, probabilities


def test_the_best_come_first_with_their_names():
    scores = np.array([0.1, 0.7, 0.2], np.float32)
    assert [(i, name) for i, name, _ in best(scores, ("a", "b", "c"), 2)] == [(1, "b"), (2, "c")]


def test_of_equal_scores_the_lower_index_is_first():
    scores = np.tile(np.array([0.3, 0.4], np.float32), 50)
    order = [i for i, _, _ in best(scores, (), 100)]
    assert order == [*range(1, 100, 2), *range(0, 100, 2)]


def test_labels_of_another_number_name_nothing():
    assert best(np.array([1, 2], np.float32), ("a",), 5) == [(1, "", 2.0), (0, "", 1.0)]


def test_probabilities_stay_as_they_are():
    scores = np.array([[0.25, 0.75], [1, 0]], np.float32)
    assert probabilities(scores) is scores


def test_logits_become_probabilities():
    result = probabilities(np.array([[1000, 1000], [0, -1000]], np.float32))
    assert np.array_equal(result, np.array([[0.5, 0.5], [1, 0]], np.float32))
