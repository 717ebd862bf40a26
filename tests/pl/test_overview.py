from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scmag_muon as smm
from scmag_muon import _values

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_a_panel_for_all_that_is_known(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    table = smm.tl.markers(finished)
    axes = smm.pl.overview(finished, labels="cell_type")
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles[:4] == ["clusters", "known labels (cell_type)", "batch (batch)", "confidence"]
    assert len(titles) == 4 + 2 * 4
    best = table.loc[table.groupby(["modality", "cluster"], observed=True)["auroc"].idxmax()]
    wanted = {f"{row.cluster}: {row.feature} ({row.modality})" for row in best.itertuples()}
    assert set(titles[4:]) == wanted
    assert sorted(text.get_text() for text in axes[0].texts) == ["0", "1", "2", "3"]
    legend = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert legend == ["B cells", "NK cells", "T cells", "monocytes", "unknown"]
    looks_right(axes, "overview")


def test_the_values_are_the_cells_own(finished: MuData) -> None:
    smm.tl.markers(finished)
    axes = smm.pl.overview(finished)
    name = axes[-1].get_title(loc="left").split(": ")[1].split(" (")[0]
    feature = _values.Feature("prot", name)
    points = axes[-1].collections[0]
    values = _values.normalized_features(finished, [feature], key="scmag", across="cells")[feature]
    xy = np.asarray(finished.obsm["X_umap"])
    drawn = {(round(x, 4), round(y, 4)): v for (x, y), v in zip(points.get_offsets(), points.get_array(), strict=True)}
    for place, value in zip(xy, values, strict=True):
        assert drawn[round(place[0], 4), round(place[1], 4)] == pytest.approx(value)


def test_nothing_is_written(finished: MuData) -> None:
    smm.tl.markers(finished)
    before = sorted(finished.obs), sorted(finished.obsm), sorted(finished.uns), sorted(finished["rna"].obs)
    smm.pl.overview(finished, labels="cell_type")
    assert before == (sorted(finished.obs), sorted(finished.obsm), sorted(finished.uns), sorted(finished["rna"].obs))


def test_errors(finished: MuData) -> None:
    with pytest.raises(KeyError, match=r"No table in mdata.uns\['scmag_markers'\]. Run scmag_muon.tl.markers"):
        smm.pl.overview(finished)
    smm.tl.markers(finished)
    with pytest.raises(KeyError, match="labels='types' names no column|No clusters in mdata.obs"):
        smm.pl.overview(finished, labels="types")
    with pytest.raises(KeyError, match=r"No map mdata.obsm\['X_tsne'\].*scanpy.tl.umap"):
        smm.pl.overview(finished, basis="X_tsne")
