from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from scmag_muon.manifold import modality as of_modality
from scmag_muon.manifold.modality import make_modality
from scmag_muon.manifold.transforms import scale_features, scale_to_median, transforms

N_OBS, N_VARS = 2000, 100


@pytest.fixture
def counts() -> sp.csr_array:
    return sp.csr_array(np.random.default_rng(0).poisson(1.0, (N_OBS, N_VARS)).astype(np.float32))


def test_views_are_made_when_they_are_asked_for(counts: sp.csr_array) -> None:
    features = np.arange(N_VARS).astype(str)
    tracemalloc.start()
    try:
        modality = make_modality("rna", "rna", counts, features=features, main="scaled", scales=True)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < counts.data.nbytes / 4
    expected = transforms(scale_to_median(counts))
    for kind, view in modality.views().items():
        np.testing.assert_array_equal(view.toarray(), expected[kind].toarray())
    np.testing.assert_array_equal(modality.main_view().toarray(), scale_features(expected["log"]).toarray())


@pytest.mark.parametrize(("main", "scales"), [("scaled", True), ("clr", False), ("log", True)])
def test_many_counts_are_transformed_some_features_at_a_time(
    counts: sp.csr_array, main: str, scales: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"features": np.arange(N_VARS).astype(str), "main": main, "scales": scales}
    whole = make_modality("x", "x", counts, **asked)
    expected = whole.views()
    monkeypatch.setattr(of_modality, "MANY", 0)
    monkeypatch.setattr(of_modality, "_OF_SECTION", counts.nnz // 3)
    monkeypatch.setattr(of_modality, "_WIDTH", 8)
    found = make_modality("x", "x", counts, **asked)
    for part in ("standards", "main_standards"):
        if (of_whole := getattr(whole.recipe, part)) is not None:
            np.testing.assert_array_equal(getattr(found.recipe, part).mean, of_whole.mean)
            np.testing.assert_array_equal(getattr(found.recipe, part).deviation, of_whole.deviation)
    sections = found.sections()
    assert len(sections) == 3
    assert all(columns.start % 8 == 0 for columns, _ in sections)
    for kind, view in expected.items():
        parts = np.hstack([make()[kind].toarray() for _, make in sections])
        np.testing.assert_allclose(parts, view.toarray(), rtol=1e-6, atol=1e-6)
    by_rows = found.main_view()
    assert by_rows.values.format == "csr"
    monkeypatch.undo()
    np.testing.assert_allclose(by_rows.toarray(), whole.main_view().toarray(), rtol=1e-5, atol=1e-5)
