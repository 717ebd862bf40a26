from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from scmag_muon.metrics import batch_mixing


def reference(x: np.ndarray, batches: np.ndarray, k: int) -> dict[str, float]:
    neighbors = NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x, return_distance=False)[:, 1:]
    other, expected, simpson = [], [], []
    for i, row in enumerate(neighbors):
        other.append(np.mean(batches[row] != batches[i]))
        expected.append(np.sum(batches != batches[i]) / (len(x) - 1))
        simpson.append(1 / sum(np.mean(batches[row] == b) ** 2 for b in np.unique(batches)))
    n_batches = len(np.unique(batches))
    return {"mixing": np.mean(other) / np.mean(expected), "ilisi": (np.mean(simpson) - 1) / (n_batches - 1)}


@pytest.mark.parametrize("n_batches", [2, 3])
def test_equals_plain_reference(n_batches: int) -> None:
    rng = np.random.default_rng(0)
    batches = rng.choice(n_batches, 200, p=[0.6, 0.4] if n_batches == 2 else [0.5, 0.3, 0.2])
    x = rng.normal(size=(200, 4)) + 0.5 * batches[:, None]
    found = batch_mixing(x, batches, n_neighbors=20)
    expected = reference(x.astype(np.float32), batches, 20)
    assert found == pytest.approx(expected, rel=1e-6)


def test_mixed_is_one_whatever_the_sizes() -> None:
    rng = np.random.default_rng(0)
    for share in (0.5, 0.1):
        batches = rng.random(3000) < share
        assert batch_mixing(rng.normal(size=(3000, 3)), batches)["mixing"] == pytest.approx(1, abs=0.03)


def test_apart_is_zero_and_unused_categories_do_not_count() -> None:
    x = np.concatenate(
        [np.random.default_rng(0).normal(size=(50, 2)), 100 + np.random.default_rng(1).normal(size=(50, 2))]
    )
    batches = pd.Categorical(["a"] * 50 + ["b"] * 50, categories=["a", "b", "c"])
    assert batch_mixing(x, batches) == {"mixing": 0.0, "ilisi": 0.0}


@pytest.mark.parametrize(
    ("batches", "message"),
    [(["a"] * 10, "one batch only"), (["a"] * 9, "names 9 cells"), (["a"] * 9 + [None], "missing for 1 cells")],
)
def test_wrong_batches(batches: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch_mixing(np.zeros((10, 2)), batches)
