from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

import scmag_muon as smm
from scmag_muon.pl._draw import BLUE, MISSING, ORANGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_planted_differences_are_named(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    smm.tl.markers(finished, groups=["0"], reference="1")
    axes = smm.pl.volcano(finished, group="0", reference="1", n_names=4)
    assert [ax.get_title(loc="left") for ax in axes] == [
        "rna: 60 of 60 features, in 5% of cells or more",
        "prot: 9 of 10 features, in 5% of cells or more",
    ]
    for ax in axes:
        for text in ax.texts:
            number = int(text.get_text()[1:])
            own = number // (8 if text.get_text()[0] == "g" else 2)
            # high in cluster 0 on the right, in cluster 1 on the left
            assert own == (0 if text.xy[0] > 0 else 1), text.get_text()
    assert len(axes[0].texts) == 8
    for points in axes[0].collections:
        folds = np.asarray(points.get_offsets())[:, 0]
        if len(folds) and to_hex(points.get_facecolor()[0]) != MISSING.lower():
            assert {to_hex(color).upper() for color in points.get_facecolor()} == {ORANGE if folds[0] > 0 else BLUE}
            assert len(set(np.sign(folds))) == 1
    heights = sorted(text.xyann[1] for text in axes[0].texts if text.xyann[0] > 0)
    assert np.diff(heights).min() > 0
    looks_right(axes, "volcano")


def test_points_are_the_tables(finished: MuData) -> None:
    table = smm.tl.markers(finished)
    axes = smm.pl.volcano(finished, group="2", min_share=0)
    for ax, modality in zip(axes, ("rna", "prot"), strict=True):
        rows = table[(table["cluster"] == "2") & (table["modality"] == modality)]
        drawn = np.concatenate([np.asarray(points.get_offsets()) for points in ax.collections])
        expected = np.column_stack([rows["log2_fold_change"].clip(-8, 8), -np.log10(rows["p_adjusted"])])
        np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(expected, axis=0), rtol=1e-5)


def test_rare_features_are_left_out(finished: MuData) -> None:
    smm.tl.markers(finished)
    drawn = [
        sum(len(points.get_offsets()) for points in smm.pl.volcano(finished, group="0", min_share=share)[1].collections)
        for share in (0, 0.2)
    ]
    assert drawn == [10, 9]


def test_p_of_zero_and_endless_folds_stay_on_the_axes(finished: MuData) -> None:
    table = smm.tl.markers(finished)
    table.loc[table["feature"] == "g0", ["p_adjusted", "log2_fold_change"]] = [0.0, 28.0]
    finished.uns["scmag_markers"]["table"] = table
    ax = smm.pl.volcano(finished, group="0")[0]
    drawn = np.concatenate([np.asarray(points.get_offsets()) for points in ax.collections])
    assert np.isfinite(drawn).all()
    assert [8, 300] in drawn.tolist()
    assert ax.get_ylim()[1] > 300


def test_names_stay_apart_where_points_lie_low(finished: MuData) -> None:
    smm.tl.markers(finished)
    table = finished.uns["scmag_markers"]["table"]
    table.loc[table["feature"] != "g0", "p_adjusted"] = 0.01
    table.loc[table["feature"] == "g0", "p_adjusted"] = 1e-200
    ax = smm.pl.volcano(finished, group="0", n_names=8, min_fold_change=0)[0]
    for side in (-1, 1):
        heights = np.sort([text.xyann[1] for text in ax.texts if np.sign(text.xyann[0]) == side])
        assert len(heights) == 8
        assert heights[0] > 0
        assert np.diff(heights).min() > ax.get_ylim()[1] / 20


def test_errors(finished: MuData) -> None:
    verb = r"scmag_muon.tl.markers\(mdata, groups=\['0'\], reference='1'\)"
    with pytest.raises(KeyError, match=rf"No table in mdata.uns\['scmag_markers_0_vs_1'\]. Run {verb}"):
        smm.pl.volcano(finished, group="0", reference="1")
    smm.tl.markers(finished)
    with pytest.raises(KeyError, match=rf"does not compare '0' with '1'. Run {verb}"):
        smm.pl.volcano(finished, group="0", reference="1", markers_key="scmag_markers")
