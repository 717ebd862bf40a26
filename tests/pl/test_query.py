from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


@pytest.fixture
def mapped(citeseq: MuData) -> tuple[MuData, MuData]:
    """Query and reference as tl.map_query leaves them, with made-up results."""
    reference, query = citeseq[:80].copy(), citeseq[80:].copy()
    rng = np.random.default_rng(0)
    for mdata, basis in ((reference, "X_umap"), (query, "X_scmag_umap")):
        codes = mdata.obs["cell_type"].cat.codes.to_numpy()
        mdata.obsm[basis] = 5 * np.column_stack([codes, codes % 2]) + rng.normal(size=(mdata.n_obs, 2))
    query.obs["scmag_cell_type_unlikeness"] = np.linspace(0.2, 1.2, 40)
    labels = query.obs["cell_type"].astype(str).where(query.obs["scmag_cell_type_unlikeness"] <= 1, "unknown")
    query.obs["scmag_cell_type"] = pd.Categorical(labels)
    query.obs["scmag_cell_type_probability"] = np.linspace(0.5, 1, 40)
    return query, reference


def test_query(mapped: tuple[MuData, MuData], looks_right: Callable[[Any, str], None]) -> None:
    query, reference = mapped
    axes = smm.pl.query(query, "cell_type", reference=reference)
    assert [ax.get_title(loc="left") for ax in axes] == [
        "cell_type: 20.0% unknown",
        "probability of the label",
        "unlikeness",
    ]
    beneath, points = axes[2].collections
    np.testing.assert_allclose(beneath.get_offsets(), reference.obsm["X_umap"])
    order = np.argsort(query.obs["scmag_cell_type_unlikeness"].to_numpy(), kind="stable")
    np.testing.assert_allclose(points.get_offsets(), query.obsm["X_scmag_umap"][order])
    np.testing.assert_allclose(points.get_array(), query.obs["scmag_cell_type_unlikeness"].to_numpy()[order])
    assert points.get_clim()[1] >= 1
    legend = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert legend == ["type_0", "type_1", "type_2", "unknown"]
    looks_right(axes, "query")


def test_labels_have_the_colors_of_the_reference(mapped: tuple[MuData, MuData]) -> None:
    query, reference = mapped
    reference.uns["cell_type_colors"] = ["#010203", "#040506", "#070809"]

    def shown() -> list[str]:
        axes = smm.pl.query(query, "cell_type", reference=reference, show=False)
        return [to_hex(handle.get_color()) for handle in axes[0].get_legend().legend_handles]

    assert shown()[:3] == reference.uns["cell_type_colors"]
    assert shown()[3] not in reference.uns["cell_type_colors"]  # unknown
    del reference.obs["cell_type"]
    assert len(set(shown())) == 4


def test_a_map_of_the_query_itself_serves(mapped: tuple[MuData, MuData]) -> None:
    query, _ = mapped
    query.obsm["X_pca"] = query.obsm.pop("X_scmag_umap")
    axes = smm.pl.query(query, "cell_type", basis="X_pca")
    assert len(axes[1].collections) == 1


def test_what_is_missing_is_named(mapped: tuple[MuData, MuData]) -> None:
    query, _ = mapped
    with pytest.raises(KeyError, match="map_query.mdata, reference, labels='donor'"):
        smm.pl.query(query, "donor")
    with pytest.raises(KeyError, match="No map mdata.obsm"):
        smm.pl.query(query, "cell_type", basis="X_tsne")
