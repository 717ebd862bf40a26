from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from scmag_muon.metrics import cluster_stability

labelled = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(labelled)
def test_is_the_best_of_sklearns_jaccard_scores(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs).T
    table = cluster_stability(a, [b])
    for cluster, row in table.iterrows():
        best = max(jaccard_score(a == int(cluster), b == other) for other in np.unique(b))
        assert row.iloc[0] == pytest.approx(best)


@given(labelled)
def test_names_do_not_matter_and_the_same_is_1(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs).T
    assert (cluster_stability(a, [a + 5]).to_numpy() == 1).all()
    np.testing.assert_array_equal(cluster_stability(a, [b]), cluster_stability(a, [(b + 2) % 4]))


def test_errors() -> None:
    with pytest.raises(ValueError, match="`others` is empty"):
        cluster_stability([0, 1], [])
    with pytest.raises(ValueError, match="`labels` names 2 cells, clustering 1 of `others` 3"):
        cluster_stability([0, 1], [[0, 1], [0, 1, 1]])
    with pytest.raises(ValueError, match="Every cell needs a cluster"):
        cluster_stability([0, None], [[0, 1]])
