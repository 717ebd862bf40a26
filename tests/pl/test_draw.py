from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from scmag_muon.pl import _colors, _draw


def test_names_on_each_other_are_moved_apart() -> None:
    places = np.array([[0.0, 0.0], [0.0, 0.0], [0.1, 0.0], [50.0, 50.0]])
    moved = _draw.apart(places, np.array([100.0, 100.0]))
    gaps = np.linalg.norm(moved[:, None] - moved[None], axis=-1) + 100 * np.eye(4)
    assert gaps.min() > 5
    np.testing.assert_allclose(moved[3], places[3], atol=1e-3)
    assert np.abs(moved - places).max() < 12


def test_the_middle_of_a_group_in_two_parts_is_one_of_its_cells() -> None:
    places = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [9.0, 9.0], [10.0, 9.0]])
    assert _draw.middle(places).tolist() == [1.0, 1.0]


def test_long_names_keep_their_ends() -> None:
    names = [f"Collecting duct intercalated cells {i}" for i in (1, 2)]
    short = [_draw.shorten(name) for name in names]
    assert [len(name) for name in short] == [28, 28]
    assert short[0] != short[1]
    assert _draw.shorten("T cells") == "T cells"


def test_colors_of_a_rare_feature_end_at_its_maximum() -> None:
    values = np.zeros(1000)
    assert _draw.highest(values) == 1
    values[0] = 3
    assert _draw.highest(values) == 3
    assert _draw.highest(np.arange(101.0)) == 99


@pytest.mark.parametrize("n_types", [8, 9])
def test_many_categories_are_numbered_and_missing_ones_named(n_types: int) -> None:
    names = [f"type {i}" for i in range(n_types)]
    labels = pd.Series([*names, None] * 3, dtype="category")
    xy = np.random.default_rng(0).normal(size=(len(labels), 2))
    _, ax = plt.subplots()
    _draw.categories_on_map(ax, xy, labels, "types", colors=_colors.of_names(names), on_data=False, numbered=True)
    on_map = [text.get_text() for text in ax.texts]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    if n_types > 8:
        assert on_map == [str(i + 1) for i in range(n_types)]
        assert legend == [*(f"{i + 1}  {name}" for i, name in enumerate(names)), "none"]
    else:
        assert on_map == []
        assert legend == [*names, "none"]


def test_colors_are_apart_for_colour_blind_readers() -> None:
    # Vienot et al. 1999: what deuteranopes and protanopes see, in linear RGB
    seen = {
        "full": np.eye(3),
        "deuteranopia": np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]),
        "protanopia": np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]),
    }
    linear = np.array([to_rgb(color) for color in _colors.COLORS[: _draw._TOLD_BY_COLOR]]) ** 2.2
    for eye, matrix in seen.items():
        shown = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2)
        gaps = np.linalg.norm(shown[:, None] - shown[None], axis=-1) + np.eye(len(shown))
        assert gaps.min() > 0.1, eye
