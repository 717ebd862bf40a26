from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scmag_muon.manifold import scratch, transforms
from tests.reference import manifold as reference

KINDS = pytest.mark.parametrize("kind", ["log", "zscore", "clr", "scaled"])
COUNTS = hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 300))


def awkward_counts() -> np.ndarray:
    """Empty and constant features, and features whose scores pass the clip on either side."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 3, (1, 12)), (150, 12)).astype(float)
    counts[:, 4] = 0
    counts[:, 5] = 7
    counts[:, 6] = 0
    counts[9, 6] = 40
    counts[:, 7] = 5
    counts[11, 7] = 0
    return counts


@KINDS
def test_equals_reference(kind: str) -> None:
    counts = awkward_counts()
    view = transforms.transform(sp.csr_array(counts), kind)
    assert view.shape == counts.shape
    assert view.toarray().dtype == np.float32
    np.testing.assert_allclose(view.toarray(), reference.TRANSFORMS[kind](counts), rtol=1e-5, atol=2e-6)


@KINDS
@given(counts=COUNTS)
@settings(deadline=None, max_examples=40)
def test_equals_reference_whatever_the_counts(kind: str, counts: np.ndarray) -> None:
    found = transforms.transform(sp.csr_array(counts), kind).toarray()
    np.testing.assert_allclose(found, reference.TRANSFORMS[kind](counts), rtol=1e-4, atol=1e-5)


def test_by_hand() -> None:
    counts = sp.csr_array(np.array([[0, 1], [3, 7.0]]))
    np.testing.assert_allclose(transforms.log2p1(counts).toarray(), [[0, 1], [2, 3]], rtol=1e-6)
    np.testing.assert_allclose(transforms.zscore(counts).toarray(), [[-1, -1], [1, 1]], rtol=1e-6)
    half = np.log(2) / 2  # of log 1 and log 2, and of log 4 and log 8
    np.testing.assert_allclose(transforms.clr(counts).toarray(), [[-half, half], [-half, half]], rtol=1e-6)


def test_zscore_is_clipped_and_constant_features_are_zero() -> None:
    z = transforms.zscore(sp.csr_array(awkward_counts())).toarray()
    assert z.max() == z[9, 6] == 10  # sqrt(149) before the clip
    assert z.min() == z[11, 7] == -10
    assert not z[:, [4, 5]].any()
    unclipped = transforms.zscore(sp.csr_array(awkward_counts()), clip=np.inf).toarray()
    np.testing.assert_allclose(unclipped[:, [6, 7]].std(axis=0), 1, rtol=1e-5)
    assert unclipped[9, 6] == pytest.approx(np.sqrt(149), rel=1e-5)


def test_scores_of_counts_above_zero_are_clipped_from_below_too() -> None:
    counts = np.full((200, 1), 7.0)
    counts[3] = 1
    z = transforms.zscore(sp.csr_array(counts)).toarray()
    assert z[3, 0] == z.min() == -10  # -sqrt(199) before the clip
    np.testing.assert_allclose(z, reference.TRANSFORMS["zscore"](counts), rtol=1e-5)


@given(counts=COUNTS)
@settings(deadline=None, max_examples=60)
def test_clr_sums_to_zero_in_each_cell(counts: np.ndarray) -> None:
    np.testing.assert_allclose(transforms.clr(sp.csr_array(counts)).toarray().sum(axis=1), 0, atol=1e-4)


def test_scaled_to_the_median_library_size() -> None:
    counts = awkward_counts()
    counts[:60] = 0
    scaled = transforms.scale_to_median(sp.csr_array(counts)).toarray()
    np.testing.assert_allclose(scaled, reference.median_scaled(counts), rtol=1e-5)
    totals = scaled.sum(axis=1)
    assert not totals[:60].any()
    np.testing.assert_allclose(totals[60:], np.median(counts.sum(axis=1)[counts.any(axis=1)]), rtol=1e-5)


@KINDS
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_input_is_not_changed(kind: str, dtype: type) -> None:
    counts = sp.csr_array(awkward_counts().astype(dtype))
    before = counts.copy()
    transforms.transform(counts, kind)
    transforms.scale_to_median(counts)
    assert counts.dtype == dtype
    np.testing.assert_array_equal(counts.data, before.data)
    np.testing.assert_array_equal(counts.indices, before.indices)


@KINDS
def test_stored_zeros_count_as_zeros(kind: str) -> None:
    counts = sp.csr_array(awkward_counts())
    stored = counts.copy()
    stored.data[::3] = 0
    clean = stored.copy()
    clean.eliminate_zeros()
    found = [transforms.transform(x, kind).toarray() for x in (stored, clean)]
    np.testing.assert_allclose(*found, atol=1e-5)


@pytest.mark.parametrize("kind", ["log", "clr", "scaled"])
@pytest.mark.parametrize("entries", [1, 2**22])
def test_by_rows_as_by_columns_and_nothing_but_values_is_made(
    kind: str, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = sp.csr_array(awkward_counts().astype(np.float32))
    monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", entries)
    factors = np.random.default_rng(0).gamma(3, 0.5, x.shape[0]).astype(np.float32)
    found = transforms.transform_rows(x, kind, factors)
    expected = transforms.transform(sp.csr_array(x * factors[:, None]), kind).toarray()
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-4, atol=1e-4)
    assert isinstance(found.values, sp.csr_array)
    assert np.shares_memory(found.values.indices, x.indices)
    np.testing.assert_array_equal(x.toarray(), awkward_counts())


@pytest.mark.parametrize("entries", [1, 2**22])
def test_mean_logs_are_the_offsets_of_the_log_ratio(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = sp.csr_array(awkward_counts().astype(np.float32))
    factors = np.random.default_rng(0).gamma(3, 0.5, x.shape[0]).astype(np.float32)
    sized = sp.csr_array(x * factors[:, None])
    monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", entries)
    np.testing.assert_allclose(transforms.mean_logs(x, factors), -transforms.clr(sized).row_offset, rtol=1e-5)


@KINDS
def test_columns_are_a_block_of_the_whole(kind: str) -> None:
    view = transforms.transform(sp.csr_array(awkward_counts()), kind)
    np.testing.assert_array_equal(view.columns(3, 9), view.toarray()[:, 3:9])


@pytest.mark.parametrize(
    ("kind", "by_rows"),
    [
        *((kind, False) for kind in ("log", "zscore", "clr", "scaled")),
        *((kind, True) for kind in ("log", "clr", "scaled")),
    ],
)
def test_centered_operator_equals_the_dense_matrix(kind: str, *, by_rows: bool) -> None:
    x = sp.csr_array(awkward_counts().astype(np.float32))
    view = transforms.transform_rows(x, kind, np.ones(150, np.float32)) if by_rows else transforms.transform(x, kind)
    dense = view.toarray().astype(float)
    dense -= dense.mean(axis=0)
    operator = view.centered()
    rng = np.random.default_rng(0)
    right, left = rng.normal(size=(12, 3)), rng.normal(size=(150, 3))
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(operator.matmat(right), dense @ right, **close)
    np.testing.assert_allclose(operator.matvec(right[:, 0]), dense @ right[:, 0], **close)
    np.testing.assert_allclose(operator.rmatmat(left), dense.T @ left, **close)
    np.testing.assert_allclose(operator.rmatvec(left[:, 0]), dense.T @ left[:, 0], **close)


def test_unknown_transform() -> None:
    with pytest.raises(KeyError, match="sqrt"):
        transforms.transform(sp.csr_array(np.eye(2)), "sqrt")


@pytest.mark.parametrize("kind", ["zscore", "scaled"])
def test_further_cells_are_scored_as_the_first_were(kind: str) -> None:
    x = sp.csr_array(np.random.default_rng(0).poisson(3, (40, 6)).astype(np.float32))
    standards = transforms.feature_standards(x if kind == "zscore" else transforms.log2p1(x).values)

    def score(part: sp.csr_array) -> np.ndarray:
        if kind == "zscore":
            return transforms.zscore(part, standards=standards).toarray()
        return transforms.scale_features(transforms.log2p1(part), standards=standards).toarray()

    np.testing.assert_array_equal(score(x[5:9]), transforms.transform(x, kind).toarray()[5:9])
    np.testing.assert_array_equal(
        transforms.scale_to_median(x[5:9], transforms.median_total(x)).toarray(),
        transforms.scale_to_median(x).toarray()[5:9],
    )


@pytest.mark.parametrize("entries", [1, 300])
def test_blocks_of_features_change_nothing(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = sp.csr_array(rng.poisson(rng.gamma(0.3, 1, (70, 30))).astype(np.float32))
    whole, standards = transforms.transforms(x), transforms.feature_standards(x)
    monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", entries)
    found = transforms.feature_standards(x)
    np.testing.assert_array_equal(found.mean, standards.mean)
    np.testing.assert_array_equal(found.deviation, standards.deviation)
    for kind, view in transforms.transforms(x).items():
        np.testing.assert_array_equal(view.toarray(), whole[kind].toarray())


def test_views_share_the_places_of_their_entries() -> None:
    x = sp.csr_array(np.random.default_rng(0).poisson(0.3, (70, 30)).astype(np.float32))
    before = x.copy()
    views = transforms.transforms(x)
    views["scaled"] = transforms.scale_features(views["log"])
    for view in views.values():
        assert np.shares_memory(view.values.indices, views["log"].values.indices)
    assert np.shares_memory(transforms.scale_to_median(x).indices, x.indices)
    np.testing.assert_array_equal(x.toarray(), before.toarray())


def test_a_few_rows_by_rows_are_those_of_all_by_columns() -> None:
    x = sp.csr_array(awkward_counts().astype(np.float32))
    standards = transforms.feature_standards(x)
    columns, rows = transforms.transforms(x, standards=standards), transforms.row_transforms(x[5:30], standards)
    assert rows.keys() == columns.keys()
    for kind, view in rows.items():
        np.testing.assert_allclose(view.toarray(), columns[kind].toarray()[5:30], rtol=1e-5, atol=1e-6)
