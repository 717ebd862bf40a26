from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

# not imported here: it sets legends of its own
pytestmark = pytest.mark.skipif(find_spec("decoupler") is None, reason="decoupler is not installed")
LISTS = {"T cells": ["g0", "g1"], "monocytes": ["g8", "p2"], "B cells": ["g16", "p4"], "other": ["g58", "g59"]}


def test_types_on_the_map_and_a_frame_for_each_name(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    table = smm.tl.annotate(finished, markers=LISTS)
    assert table["type"].tolist() == ["T cells", "monocytes", "B cells", "unknown"]
    axes = smm.pl.annotation(finished)
    legend = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert legend == ["B cells", "T cells", "monocytes", "unknown"]
    columns = [label.get_text() for label in axes[1].get_xticklabels()]
    rows = [label.get_text() for label in axes[1].get_yticklabels()]
    framed = {(rows[round(p.get_y() + 0.5)], columns[round(p.get_x() + 0.5)]) for p in axes[1].patches}
    assert framed == {("0", "T cells"), ("1", "monocytes"), ("2", "B cells")}
    scores = finished.uns["scmag_type"]["scores"]
    assert axes[1].images[0].get_array()[1][columns.index("monocytes")] == pytest.approx(scores.at["1", "monocytes"])
    looks_right(axes, "annotation")


def test_other_clusters(finished: MuData) -> None:
    with pytest.raises(KeyError, match=r"No scores in mdata.uns\['scmag_type'\]. Run scmag_muon.tl.annotate"):
        smm.pl.annotation(finished)
    smm.tl.annotate(finished, markers=LISTS)
    finished.obs["scmag"] = finished.obs["scmag"].cat.rename_categories({"0": "9"})
    with pytest.raises(ValueError, match=r"mdata.uns\['scmag_type'\] is out of date"):
        smm.pl.annotation(finished)
