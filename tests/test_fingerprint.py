from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmag_muon import _fingerprint
from scmag_muon.manifold import scratch

if TYPE_CHECKING:
    from collections.abc import Callable

CELLS = pd.Index([f"cell{i}" for i in range(30)])
GENES = pd.Index([f"gene{i}" for i in range(12)])
COUNTS = np.random.default_rng(0).poisson(1.0, (30, 12)).astype(np.float32)


def of(counts: Any, cells: pd.Index = CELLS, genes: pd.Index = GENES, mask: Any = None) -> str:
    return _fingerprint.of_counts(sp.csr_array(counts), cells, genes, mask)


def with_explicit_zeros(counts: np.ndarray) -> sp.csr_array:
    return sp.csr_array((counts.ravel(), np.tile(np.arange(12), 30), np.arange(0, 361, 12)), shape=counts.shape)


def unsorted(counts: np.ndarray) -> sp.csr_array:
    return sp.csr_array(
        (counts[:, ::-1].ravel(), np.tile(np.arange(12)[::-1], 30), np.arange(0, 361, 12)), shape=counts.shape
    )


@pytest.mark.parametrize(
    "stored",
    [with_explicit_zeros, unsorted, lambda c: c.astype(np.float64), lambda c: c.astype(np.int64), sp.csc_array],
)
def test_storage_does_not_matter(stored: Callable[[np.ndarray], Any]) -> None:
    assert of(stored(COUNTS)) == of(COUNTS)


def test_the_order_of_cells_and_features_does_not_matter() -> None:
    rows, columns = np.random.default_rng(1).permutation(30), np.random.default_rng(2).permutation(12)
    assert of(COUNTS[rows][:, columns], CELLS[rows], GENES[columns]) == of(COUNTS)
    assert of(COUNTS[rows], CELLS) != of(COUNTS)
    assert of(COUNTS[:, columns]) != of(COUNTS)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of(COUNTS)
    monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", 25)
    assert of(COUNTS) == whole


def test_one_count_more_is_told() -> None:
    other = COUNTS.copy()
    other[3, 4] += 1
    assert of(other) != of(COUNTS)
    mask = np.arange(12) != 4
    assert of(other, mask=mask) == of(COUNTS, mask=mask) == of(COUNTS[:, mask], genes=GENES[mask])


def test_counts_that_change_places_are_told() -> None:
    other = COUNTS.copy()
    other[[3, 4]] = COUNTS[[4, 3]]
    assert of(other) != of(COUNTS)


def test_labels() -> None:
    labels = pd.Series(np.arange(30) % 3).astype(str)
    whole = _fingerprint.of_labels(CELLS, labels)
    order = np.random.default_rng(0).permutation(30)
    assert _fingerprint.of_labels(CELLS[order], labels[order].astype("category")) == whole
    assert _fingerprint.of_labels(CELLS, labels.replace({"0": "1", "1": "0"})) != whole
    assert _fingerprint.of_labels(CELLS, labels.where(labels != "0")) != whole
    assert _fingerprint.of_labels(CELLS[:20], labels[:20]) != whole
    assert _fingerprint.n_cells(whole) == 30


def test_rows_and_tables() -> None:
    space = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    order = np.random.default_rng(1).permutation(30)
    whole = _fingerprint.of_rows(space, CELLS)
    assert _fingerprint.of_rows(space[order].astype(np.float64), CELLS[order]) == whole
    assert _fingerprint.of_rows(space[:, ::-1], CELLS) != whole
    table = pd.DataFrame({"feature": ["a", "b"], "auroc": [0.5, np.nan]})
    same = table.assign(feature=pd.Categorical(table["feature"], categories=["b", "a"])).set_axis([7, 8])
    assert _fingerprint.of_table(same) == _fingerprint.of_table(table)
    assert _fingerprint.of_table(table.assign(auroc=[0.5, 0.4])) != _fingerprint.of_table(table)


def test_no_cells() -> None:
    assert _fingerprint.of_cells([]) == "0-0000000000000000"
