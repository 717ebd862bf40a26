from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

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
