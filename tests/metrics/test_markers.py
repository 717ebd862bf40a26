from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scmag_muon.metrics import marker_auroc

VALUES = pd.DataFrame({"a": [3.0, 2.0, 1.0, 0.0, 9.0], "b": [0.0, 0.0, 1.0, 1.0, 5.0]})
LABELS = ["x", "x", "y", "y", "unknown"]


def test_counts_pairs() -> None:
    found = marker_auroc(VALUES, LABELS, markers={"x": ["a", "b"], "y": ["b"]})
    assert found.to_dict("list") == {
        "label": ["x", "x", "y"],
        "feature": ["a", "b", "b"],
        "auroc": [1.0, 0.0, 1.0],
    }


def test_only_the_order_of_values_matters() -> None:
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rng.normal(size=(50, 2)), columns=["a", "b"])
    labels = rng.choice(["x", "y", "z"], 50)
    markers = {"x": ["a"], "z": ["b"]}
    pd.testing.assert_frame_equal(
        marker_auroc(values, labels, markers=markers), marker_auroc(np.exp(values), labels, markers=markers)
    )


def test_cells_without_a_label_do_not_count() -> None:
    without = marker_auroc(VALUES.iloc[:4], LABELS[:4], markers={"x": ["a"]})
    for missing in ("unknown", None, np.nan):
        pd.testing.assert_frame_equal(marker_auroc(VALUES, [*LABELS[:4], missing], markers={"x": ["a"]}), without)


def test_errors() -> None:
    with pytest.raises(ValueError, match="`labels` names 4 cells, `values` holds 5"):
        marker_auroc(VALUES, LABELS[:4], markers={})
    with pytest.raises(ValueError, match="Of 4 known cells, 0 are 'z'"):
        marker_auroc(VALUES, LABELS, markers={"z": ["a"]})
    with pytest.raises(KeyError, match="no column 'c'"):
        marker_auroc(VALUES, LABELS, markers={"x": ["c"]})
