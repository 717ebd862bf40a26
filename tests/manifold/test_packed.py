from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scmag_muon.manifold import scratch
from scmag_muon.manifold.packed import PackedCounts


@pytest.mark.parametrize("n_vars", [1, 256, 257, 2000, 70_000])
@pytest.mark.parametrize(("largest", "values"), [(255, np.uint8), (256, np.uint16), (2**24, np.uint32)])
def test_rows_are_those_of_the_counts_in_few_bytes(n_vars: int, largest: int, values: type) -> None:
    rng = np.random.default_rng(0)
    x = sp.random_array((20, n_vars), density=0.3 if n_vars < 1000 else 0.001, format="lil", rng=rng)
    x[3], x[7] = 0, 0
    x[19, n_vars - 1] = 1
    x = sp.csr_array(x, dtype=np.float32)
    x.data = rng.integers(1, 200, x.nnz).astype(np.float32)
    x.data[-1] = largest
    packed = PackedCounts(x)
    assert packed.shape == x.shape
    assert (packed.gaps.dtype, packed.values.dtype) == (np.uint8, values)
    for rows in (np.arange(20), np.array([19, 3, 3, 0, 7, 19]), np.array([3]), np.array([], dtype=int)):
        found = packed[rows]
        assert found.dtype == np.float32
        assert found.shape == (len(rows), n_vars)
        assert found.has_canonical_format
        assert (found != x[rows]).nnz == 0


@pytest.mark.parametrize(
    "columns", [[0], [254], [255], [256], [0, 255], [0, 256], [1, 511, 1021], [2, 512, 1023], [255, 510, 765]]
)
@pytest.mark.parametrize("entries", [1, 2, 1000])
def test_gaps_of_any_size(columns: list[int], entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", entries)
    rows = [[], columns, [], [1023], columns, [0, 1023], []]
    x = sp.csr_array((7, 1024), dtype=np.float32)
    starts = np.cumsum([0, *map(len, rows)])
    x.indptr, x.indices = starts.astype(np.int32), np.concatenate(rows).astype(np.int32)
    x.data = np.arange(1, starts[-1] + 1, dtype=np.float32)
    packed = PackedCounts(x)
    for order in (np.arange(7), np.array([4, 0, 5, 5, 1, 6])):
        found = packed[order]
        assert found.has_canonical_format
        assert found.nnz == x[order].nnz
        assert (found != x[order]).nnz == 0


def test_counts_that_are_all_zero() -> None:
    assert not PackedCounts(sp.csr_array((5, 3), dtype=np.float32))[[4, 0]].toarray().any()
