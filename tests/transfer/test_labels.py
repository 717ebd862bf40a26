from __future__ import annotations

import numpy as np
import pytest

from scmag_muon.transfer.labels import transfer_labels


def cells(n: int, seed: int, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping types along a line, the third rare."""
    rng = np.random.default_rng(seed)
    types = rng.choice(3, n, p=[0.5, 0.4, 0.1])
    return rng.normal(size=(n, 4)) + apart * types[:, None] * np.array([2, 0.5, 0, 0]), np.array(list("abc"))[types]


def test_labels_are_those_of_the_best_classifier() -> None:
    (x, types), (reference, labels) = cells(400, 0), cells(600, 1)
    found = transfer_labels(x, reference, labels)
    # that of who knows the means, shares and spread of the types
    at = np.arange(3)[:, None] * np.array([2, 0.5, 0, 0])
    rank = np.square(x[:, None] - at).sum(axis=2) / 2 - np.log([0.5, 0.4, 0.1])
    best = (np.array(list("abc"))[rank.argmin(axis=1)] == types).mean()
    assert (found.labels == types).mean() > best - 0.03


@pytest.mark.parametrize("apart", [0.5, 1.0, 3.0])
def test_probabilities_are_calibrated(apart: float) -> None:
    (x, types), (reference, labels) = cells(1500, 2, apart), cells(500, 3, apart)
    found = transfer_labels(x, reference, labels)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    right = found.labels == types
    bins = np.digitize(found.confidence, [0.5, 0.6, 0.7, 0.8, 0.9])
    error = sum(abs((found.confidence - right)[bins == i].sum()) for i in np.unique(bins)) / len(x)
    assert error < 0.05


def test_scale_and_order_of_the_cells_play_no_part() -> None:
    (x, _), (reference, labels) = cells(50, 4), cells(200, 5)
    found = transfer_labels(x, reference, labels)
    scaled = transfer_labels(100 * x[::-1], 100 * reference, labels)
    np.testing.assert_allclose(scaled.probabilities[::-1], found.probabilities, atol=2e-3)


@pytest.mark.parametrize(
    "labels", [["a"] * 5, ["a", "b", "b", "a", "b"], ["a", "b", "c", "d", "e"], ["a", "a", "a", "a", "b"]]
)
def test_few_cells_of_few_types_give_probabilities(labels: list[str]) -> None:
    x = np.random.default_rng(0).normal(size=(7, 2))
    found = transfer_labels(x, x[:5], np.array(labels))
    assert found.probabilities.shape == (7, len(set(labels)))
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert transfer_labels(x[:0], x[:5], np.array(labels)).labels.shape == (0,)


def test_a_type_of_few_cells_in_many_dimensions_is_told_by_the_spread_of_the_others() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([1.0] * 10 + [0.5] + [1.0] * 19)

    def draw(n: int, at: float) -> np.ndarray:
        return spread * rng.normal(size=(n, 30)) + at * np.eye(30)[10]

    reference = np.concatenate([draw(300, 0), draw(8, 3)])
    found = transfer_labels(
        np.concatenate([draw(300, 0), draw(100, 3)]), reference, np.repeat(["many", "few"], [300, 8])
    )
    assert (found.labels[300:] == "few").mean() > 0.85
    assert (found.labels[:300] == "many").mean() > 0.95


def test_components_without_spread_play_no_part() -> None:
    (x, _), (reference, labels) = cells(50, 6), cells(200, 7)
    found = transfer_labels(np.hstack([x, np.zeros((50, 3))]), np.hstack([reference, np.zeros((200, 3))]), labels)
    assert (found.labels == transfer_labels(x, reference, labels).labels).mean() > 0.95
