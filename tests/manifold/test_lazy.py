from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from scmag_muon.manifold import packed, scratch
from scmag_muon.manifold.lazy import FittedRows
from tests.manifold.test_fit import N, case, own

__all__ = ["case"]


def test_rows_are_those_of_the_fit(case: tuple) -> None:
    counts, learnt, layers, _ = case
    for name, x in own(counts, learnt).items():
        found = FittedRows(learnt, name, x)
        assert found.shape == (N, x.shape[1])
        assert len(found) == N
        expected = learnt.rows(name, np.arange(N), counts=x)
        np.testing.assert_allclose(found[:], expected, atol=1e-5)
        np.testing.assert_allclose(found[learnt.modality(name).cells], layers[name], atol=3e-4)


def test_rows_are_asked_for_in_any_order_and_more_than_once(case: tuple) -> None:
    counts, learnt, _, _ = case
    for name, x in own(counts, learnt).items():
        found = FittedRows(learnt, name, x)
        whole = found[:]
        assert whole.dtype == np.float32
        for rows in ([5, 0, 5, 119], slice(7, 40, 3), np.arange(N) % 7 == 0, np.array([], dtype=int)):
            np.testing.assert_array_equal(found[rows], whole[rows])


@pytest.mark.parametrize("threads", ["1", "3"])
def test_threads_change_nothing(case: tuple, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, learnt, _, _ = case
    name, x = next(iter(own(counts, learnt).items()))
    whole = FittedRows(learnt, name, x)[:]
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    np.testing.assert_array_equal(FittedRows(learnt, name, x)[:], whole)


def test_nothing_of_the_counts_is_written_to(case: tuple) -> None:
    counts, learnt, _, _ = case
    for name, x in own(counts, learnt).items():
        before = x.copy()
        FittedRows(learnt, name, x)[:]
        np.testing.assert_array_equal(x.toarray(), before.toarray())


def test_parts_tell_of_another_library_size(case: tuple) -> None:
    counts, learnt, _, _ = case
    x = own(counts, learnt)["rna"]
    rows = FittedRows(learnt, "rna", x)
    recipe = learnt.modality("rna").recipe
    modalities = tuple(
        replace(of, recipe=replace(recipe, median=2 * recipe.median)) if of.name == "rna" else of
        for of in learnt.modalities
    )
    other = FittedRows(replace(learnt, modalities=modalities), "rna", x)
    assert not np.array_equal(other[:], rows[:])
    assert pickle.dumps(other.parts()) != pickle.dumps(rows.parts())
    assert pickle.dumps(FittedRows(learnt, "rna", x).parts()) == pickle.dumps(rows.parts())


@pytest.mark.parametrize("gap", [2, 255])
@pytest.mark.parametrize("largest", [3, 300, 70_000])
def test_of_counts_in_a_scratch_file_few_bytes_are_held(
    case: tuple, largest: int, gap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "MOST", 0)
    monkeypatch.setattr(packed, "_LARGEST_GAP", gap)  # most of them are bridged, or none
    counts, learnt, _, _ = case
    for name, x in own(counts, learnt).items():
        x.data = np.minimum(x.data, largest)
        x.data[:2] = largest
        mapped = scratch.stacked([x[:50], x[50:]])
        assert scratch.is_mapped(mapped.data)
        found = FittedRows(learnt, name, mapped)
        np.testing.assert_array_equal(found[:], FittedRows(learnt, name, x)[:])
        assert found._columns.dtype == np.uint8
        assert found._values.dtype == {3: np.uint8, 300: np.uint16, 70_000: np.uint32}[largest]
        assert not scratch.is_mapped(found._values)
