"""What all pictures have in common: their arguments, and what they leave behind."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update
from tests import finished as by_hand

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from mudata import MuData

ARGUMENTS: dict[str, dict[str, Any]] = {
    "marker_comparison": {"features": ["g0"]},
    "query": {"labels": "cell_type"},
    "volcano": {"group": "0"},
}
ONE_AXES = {"enrichment", "entropy", "gate", "held_out_markers", "markers", "n_clusters", "stability"}
OF_GROUPS = {"annotation", "batch_mixing", "cluster_tree", "held_out_markers", "overview", "query", "trajectory"}
OF_GROUPS |= {"view_weights"}
PALETTE = ["#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f", "#101112"]


@pytest.fixture(scope="module")
def ready() -> MuData:
    """180 cells on which all that a picture can show is there."""
    with no_pull_on_update():
        mdata = by_hand.finished()
        by_hand.add_tree(mdata)
        smm.tl.markers(mdata)
        smm.tl.cluster_tree(mdata)
        smm.tl.trajectory(mdata, root="0")
    mdata.obs["scmag_cell_type"] = mdata.obs["cell_type"]
    mdata.obs["scmag_cell_type_probability"] = mdata.obs["scmag_cell_type_unlikeness"] = np.linspace(0.1, 1.1, 180)
    states = pd.DataFrame({"mixing": [0.1, 0.9], "ilisi": [0.2, 0.8]}, index=["before", "after"])
    mdata.uns["scmag_batch_mixing"] = {"table": states, "params": {"batch_key": "batch"}}
    for state in states.index:
        mdata.obsm[f"X_scmag_batch_mixing_{state}"] = mdata.obsm["X_umap"]
    sets = pd.DataFrame({"cluster": ["0", "1"], "gene_set": ["a", "b"], "share": 0.5, "p": 0.01, "p_adjusted": 0.01})
    mdata.uns["scmag_enrichment"] = {"table": sets}
    gains = pd.DataFrame({"modality": ["rna", "prot"], "raw": [0.7, 0.8], "reconstructed": 0.9, "gain": [0.2, 0.1]})
    mdata.uns["scmag_held_out"] = {"table": gains}
    trials = pd.DataFrame({"resolution": [0.5, 1.0], "n_clusters": [4, 5], "fewest": 4, "most": 6, "stability": 0.9})
    mdata.uns["n_clusters"] = {"table": trials, "estimate": 4, "resolution": 1.0, "fewest": 4, "most": 6}
    seeds = pd.DataFrame({"1": [1, 0.9, 0.6, 0.3]}, index=list("0123"))
    mdata.uns["scmag_stability"] = {"table": seeds, "ari": pd.DataFrame({"ari": [0.9]})}
    types = pd.DataFrame({"type": ["T cells", "monocytes", "B cells", "unknown"]}, index=list("0123"))
    scores = pd.DataFrame(np.eye(4)[:, :3], index=list("0123"), columns=["T cells", "monocytes", "B cells"])
    mdata.obs["scmag_type"] = pd.Categorical(types["type"].to_numpy()[mdata.obs["scmag"].cat.codes])
    lists = pd.DataFrame({"type": scores.columns})
    mdata.uns["scmag_type"] = {"table": types, "scores": scores, "markers": lists, "params": {"groupby": "scmag"}}
    return mdata


def draw(name: str, mdata: MuData, **arguments: Any) -> Any:
    return getattr(smm.pl, name)(mdata, **ARGUMENTS.get(name, {}), **arguments)


def figure_of(axes: Any) -> Figure:
    return np.ravel(axes)[0].get_figure(root=True)


def colors_in(figure: Figure) -> set[str]:
    found = set()
    for artist in figure.findobj():
        for getter in ("get_facecolor", "get_color", "get_edgecolor"):
            value = getattr(artist, getter, lambda: ())()
            if isinstance(value, str) or (np.ndim(value) == 1 and len(value)):
                found.add(to_hex(value))
            elif np.ndim(value) == 2:
                found |= {to_hex(row) for row in np.unique(np.asarray(value), axis=0)}
    return found


def test_the_lists_here_are_whole() -> None:
    assert set(smm.pl.__all__) >= ONE_AXES | OF_GROUPS


@pytest.mark.parametrize("name", smm.pl.__all__)
def test_arguments_are_the_same_everywhere(name: str) -> None:
    picture = getattr(smm.pl, name)
    parameters = inspect.signature(picture).parameters
    shared = [each for each in parameters if each in ("ax", "figsize", "palette", "save", "show")]
    wanted = ["ax"] * (name in ONE_AXES) + ["figsize"] + ["palette"] * (name in OF_GROUPS) + ["save", "show"]
    assert shared == list(parameters)[-len(wanted) :] == wanted
    for each in wanted:
        assert parameters[each].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[each].default is None
    text = inspect.getdoc(picture) or ""
    assert text.count("\nParameters\n") == text.count("\nsave\n") == 1
    assert text.index("\nsave\n") < text.index("\nReturns\n")
    assert ("takes no ``ax``" in text) == (name not in ONE_AXES)


@pytest.mark.parametrize("name", smm.pl.__all__)
def test_saved_in_the_format_and_size_asked_for(name: str, ready: MuData, tmp_path: Path) -> None:
    draw(name, ready, figsize=(9, 6), save=tmp_path / "picture.png")
    pixels = matplotlib.image.imread(tmp_path / "picture.png")
    assert pixels.std() > 0.01
    # cut to the contents, at 200 dots an inch
    assert 900 < pixels.shape[1] < 2200
    assert 600 < pixels.shape[0] < 1500
    axes = draw(name, ready, figsize=(4, 3), save=str(tmp_path / "picture.PDF"))
    assert (tmp_path / "picture.PDF").read_bytes().startswith(b"%PDF")
    assert tuple(figure_of(axes).get_size_inches()) == (4, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.PDF", "picture.png"]
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", smm.pl.__all__)
def test_shown_now_later_or_never(name: str, ready: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.get_fignums())))
    assert draw(name, ready, show=True) is None
    assert shown == [1]
    assert plt.get_fignums() == []
    assert figure_of(draw(name, ready, show=False)).axes
    assert plt.get_fignums() == []
    assert plt.fignum_exists(figure_of(draw(name, ready)).number)
    assert shown == [1]


@pytest.mark.parametrize("name", sorted(ONE_AXES))
def test_drawn_into_axes_that_are_there(name: str, ready: MuData, tmp_path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
    assert draw(name, ready, ax=right, save=tmp_path / "both.png") is right
    assert right.has_data()
    assert not left.has_data()
    assert plt.get_fignums() == [figure.number]
    assert (tmp_path / "both.png").exists()
    with pytest.raises(TypeError, match="`ax` must be matplotlib axes, got Figure"):
        draw(name, ready, ax=figure)


@pytest.mark.parametrize("name", sorted(OF_GROUPS))
def test_palettes_color_the_groups(name: str, ready: MuData) -> None:
    usual = colors_in(figure_of(draw(name, ready, show=False)))
    assert not usual & set(PALETTE)
    drawn = colors_in(figure_of(draw(name, ready, palette=PALETTE, show=False)))
    assert len(drawn & set(PALETTE)) >= 2
    with pytest.raises(ValueError, match="`palette` has 1 colours for"):
        draw(name, ready, palette=["red"])


@pytest.mark.parametrize("name", smm.pl.__all__)
def test_refused_before_anything_is_drawn(name: str, ready: MuData, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*none for the picture"):
        draw(name, ready, save=tmp_path / "none" / "picture.png")
    for path in (tmp_path / "picture", tmp_path / "picture.h5mu", tmp_path):
        with pytest.raises(ValueError, match=r"names no picture. It must end in one of .*\.pdf, .*\.png"):
            draw(name, ready, save=path)
    for size in ((3,), (3, 4, 5), 3):
        with pytest.raises(ValueError, match="`figsize` must be a width and a height in inches"):
            draw(name, ready, figsize=size)
    with pytest.raises(ValueError, match="`figsize` must be a number above 0"):
        draw(name, ready, figsize=(3, 0))
    with pytest.raises(TypeError, match="`show` must be True, False or None"):
        draw(name, ready, show="yes")
    assert plt.get_fignums() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("decoupler") is None, reason="decoupler is not installed")
def test_a_picture_from_annotate_itself(finished: MuData) -> None:
    smm.tl.annotate(finished, markers={"T": ["g0", "g1"], "B": ["g16", "p4"]})
    axes = smm.pl.annotation(finished, palette={"T": "#010203", "B": "#040506", "unknown": "#070809"}, show=False)
    assert {"#010203", "#040506", "#070809"} <= colors_in(axes[0].figure)
