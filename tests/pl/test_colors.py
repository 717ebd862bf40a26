from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scmag_muon.pl import _colors

if TYPE_CHECKING:
    from mudata import MuData


def test_colors_in_uns_are_taken_unless_they_are_of_other_groups(finished: MuData) -> None:
    usual = _colors.of_column(finished, "scmag")
    assert list(usual.values()) == list(_colors.COLORS[:4])
    finished.uns["scmag_colors"] = np.array(["#111111", "#222222", "#333333", "#444444"])
    assert _colors.of_column(finished, "scmag") == dict(zip("0123", finished.uns["scmag_colors"], strict=True))
    for stale in (["#111111"] * 3, ["#111111"] * 5, ["#111111", "#222222", "#333333", "no colour"], "#111111"):
        finished.uns["scmag_colors"] = stale
        assert _colors.of_column(finished, "scmag") == usual


def test_colors_of_a_modality(finished: MuData) -> None:
    finished["rna"].obs["site"] = pd.Categorical(np.where(np.arange(180) < 90, "a", "b"))
    finished["rna"].uns["site_colors"] = ["#111111", "#222222"]
    assert _colors.of_column(finished, "rna:site") == {"a": "#111111", "b": "#222222"}


def test_the_same_labels_have_the_same_colors(finished: MuData) -> None:
    types = ["B cells", "NK cells", "T cells", "monocytes", "unknown"]
    finished.uns["cell_type_colors"] = [f"#00000{i}" for i in range(5)]
    finished.obs["scmag_type"] = pd.Categorical(np.where(np.arange(180) < 90, "monocytes", "B cells"))
    assert _colors.of_column(finished, "scmag_type") == {"B cells": "#000000", "monocytes": "#000003"}
    finished.obs["scmag_type"] = pd.Categorical(np.where(np.arange(180) < 90, "monocytes", "others"))
    assert "#000003" not in _colors.of_column(finished, "scmag_type").values()
    assert list(finished.obs["cell_type"].cat.categories) == types


def test_known_types_have_the_color_of_their_cluster(finished: MuData) -> None:
    clusters = {name: f"#00000{name}" for name in "0123"}
    found = _colors.of_column(finished, "cell_type", like=(finished.obs["scmag"], clusters))
    assert {found[name] for name in ("T cells", "monocytes", "B cells", "NK cells")} == set(clusters.values())
    for name, cluster in zip(("T cells", "monocytes", "B cells", "NK cells"), "0123", strict=True):
        assert found[name] == clusters[cluster]
    assert found["unknown"] not in clusters.values()


@pytest.mark.parametrize("palette", [None, "viridis", [np.array([0.1, 0.2, i / 30]) for i in range(30)]])
def test_more_clusters_than_colors(finished: MuData, palette: object) -> None:
    finished.obs["scmag"] = pd.Categorical([str(i % 30) for i in range(180)])
    clusters = _colors.of_column(finished, "scmag", palette)  # type: ignore[arg-type]
    finished.obs["mine"] = ["a", "b", *(f"{i % 40}" for i in range(178))]
    found = _colors.of_column(finished, "mine", like=(finished.obs["scmag"], clusters))
    assert len(found) == 42
    assert len({to_hex(color) for color in found.values()}) > 30


def test_two_types_in_a_cluster_have_two_colors(finished: MuData) -> None:
    codes = finished.obs["scmag"].cat.codes.to_numpy()
    names = np.where((codes == 0) & (np.arange(180) < 30), "few", np.array(["many", "b", "c", "d"])[codes])
    finished.obs["types"] = pd.Categorical(names)
    clusters = _colors.of_column(finished, "scmag")
    found = _colors.of_column(finished, "types", like=(finished.obs["scmag"], clusters))
    assert found["many"] == clusters["0"]
    assert found["few"] not in clusters.values()
    assert len(set(found.values())) == 5


def test_palettes(finished: MuData) -> None:
    assert [to_hex(color) for color in _colors.of_names(["a", "b"], "tab10").values()] == ["#1f77b4", "#ff7f0e"]
    viridis = [to_hex(color) for color in _colors.of_names(["a", "b"], "viridis").values()]
    assert viridis == ["#440154", "#fde725"]
    assert len({to_hex(color) for color in _colors.of_names(range(30), "tab10").values()}) == 10
    assert _colors.of_names([1, 2], {1: "red", 2: "blue", 3: "green"}) == {"1": "red", "2": "blue"}
    assert len({str(color) for color in _colors.of_names(range(30)).values()}) == 30
    for palette, message in (
        ("nosuch", "palette='nosuch' is no colour map of matplotlib"),
        ({"a": "red"}, "`palette` has no colour for 'b'"),
        (["red"], "`palette` has 1 colours for 2 groups"),
        (["red", "nosuch"], "`palette` gives 'b' 'nosuch', which is no colour"),
    ):
        with pytest.raises(ValueError, match=message):
            _colors.of_names(["a", "b"], palette)
