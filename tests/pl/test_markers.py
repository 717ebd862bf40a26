from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_dots_carry_effect_and_share(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    table = smm.tl.markers(finished)
    ax = smm.pl.markers(finished, n_markers=2)
    features = [label.get_text() for label in ax.get_xticklabels()]
    clusters = [label.get_text() for label in ax.get_yticklabels()]
    assert clusters == ["0", "1", "2", "3"]
    assert [int(name[1:]) // 8 for name in features] == [0, 0, 1, 1, 2, 2, 3, 3]
    rows = table.set_index(["cluster", "feature"])
    points = ax.collections[0]
    assert len(points.get_offsets()) == 4 * 8
    largest = max(points.get_sizes())
    for (x, y), color, size in zip(points.get_offsets(), points.get_array(), points.get_sizes(), strict=True):
        row = rows.loc[(clusters[int(y)], features[int(x)])]
        assert color == pytest.approx(row["auroc"])
        assert size / largest == pytest.approx(row["share"] / rows["share"][rows["auroc"] > 0.8].max(), abs=0.03)
    looks_right(ax, "markers")


def test_errors(finished: MuData) -> None:
    with pytest.raises(KeyError, match=r"No table in mdata.uns\['scmag_markers'\]"):
        smm.pl.markers(finished)
    smm.tl.markers(finished)
    with pytest.raises(KeyError, match="ranks no features of modality 'atac'"):
        smm.pl.markers(finished, modality="atac")
    with pytest.raises(ValueError, match="`n_markers` must be an integer at least 1, got 0"):
        smm.pl.markers(finished, n_markers=0)
