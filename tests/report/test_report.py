from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import matplotlib.image
import mudata
import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm
from scmag_muon import _fingerprint
from scmag_muon._made_from import made_from
from scmag_muon._report import _html
from scmag_muon._report._doubts import doubts
from scmag_muon._report._methods import text_and_references
from tests import finished as by_hand

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

HEADINGS = [
    "Summary",
    "What to be careful about",
    "Clusters",
    "Health of the clusters",
    "Markers",
    "Batches",
    "Inside the model",
    "Methods, to paste",
    "Parameters and versions",
]
VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """The page as a list of elements, refusing tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self._open[-1] if self._open else "", data.strip()))

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def texts(self, tag: str) -> list[str]:
        return [text for name, text in self.words if name == tag]


@pytest.fixture(autouse=True)
def _no_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    # compiling UMAP takes half a minute; the docstring's example runs it
    monkeypatch.setattr("scmag_muon.tl._batch_mixing.umap_of", lambda space, random_state: np.asarray(space)[:, :2])


@pytest.fixture
def path(finished: MuData, tmp_path: Path) -> Path:
    return smm.report(finished, tmp_path / "report.html", labels="cell_type", title="Cells & <types>")


def test_holds_headings_figures_and_tables(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.texts("h1") == ["Cells & <types>"]
    assert page.texts("h2") == HEADINGS
    assert page.all("html") == [{"lang": "en"}]
    links = [link["href"] for link in page.all("a")]
    names = {attributes.get("id") for _, attributes in page.elements}
    inner = [link for link in links if not link.startswith("data:text/csv")]
    assert len(links) - len(inner) == 4
    assert all(link.startswith("#") and link[1:] in names for link in inner)
    figures = page.all("img")
    # overview, two of markers, heat map, batches, views, gate, entropy, training
    assert len(figures) == 9
    for figure in figures:
        assert len(figure["alt"]) > 20
        kind, data = figure["src"].split(",", 1)
        assert kind == "data:image/png;base64"
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)))
        assert pixels.std() > 0.01
        # the size that is announced keeps the shape, so that the page does not jump
        assert int(figure["width"]) / int(figure["height"]) == pytest.approx(
            pixels.shape[1] / pixels.shape[0], rel=0.02
        )
    captions = page.texts("span")
    assert len(captions) == len(page.all("table")) == 6
    assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))


def test_needs_nothing_from_outside(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "url(" not in text
    # the data of the map and its script, the only one whose hash the policy of the page names
    assert re.findall(r"<script[^>]*>", text) == ['<script type="application/json" id="map-data">', "<script>"]
    script = text.rsplit("<script>", 1)[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}&#x27;" in text or f"script-src 'sha256-{digest}'" in text
    assert path.stat().st_size < 2e6


def test_tables_say_what_the_mudata_says(path: Path, finished: MuData) -> None:
    page = Page(path.read_text(encoding="utf-8"))
    cells = page.texts("td")
    for size in ("70", "50", "40", "20"):
        assert size in cells
    assert "B cells (95%)" in cells
    scores = smm.metrics.clustering_scores(finished.obs["cell_type"], finished.obs["scmag"])
    assert f"{scores['ARI']:.3g}" in cells
    rows = page.texts("th")
    assert {"modalities", "batch_key", "scmag-muon", "ARI with cell_type"} <= set(rows)


def saved(page: Page, name: str) -> pd.DataFrame:
    """The table behind a link."""
    (link,) = [link for link in page.all("a") if link.get("download") == name]
    return pd.read_csv(io.BytesIO(base64.b64decode(link["href"].split(",", 1)[1])), index_col=0, dtype={"cluster": str})


def test_tables_can_be_saved(finished: MuData, tmp_path: Path) -> None:
    ranked = smm.tl.markers(finished)
    page = Page(smm.report(finished, tmp_path / "report.html").read_text(encoding="utf-8"))
    cells = saved(page, "cells.csv")
    assert cells.index.tolist() == finished.obs_names.tolist()
    assert cells["scmag"].astype(str).tolist() == finished.obs["scmag"].tolist()
    np.testing.assert_allclose(cells["scmag_confidence"], finished.obs["scmag_confidence"], rtol=1e-4)
    assert saved(page, "clusters.csv")["cells"].tolist() == [70, 50, 40, 20]
    markers = saved(page, "markers.csv")
    assert markers["feature"].tolist() == ranked.loc[ranked["is_marker"], "feature"].tolist()


def test_the_health_of_each_cluster(finished: MuData, tmp_path: Path) -> None:
    table = smm.tl.cluster_qc(finished, batch_key="batch")
    finished.uns["scmag_cluster_qc"]["table"]["flags"] = ["near;low counts", "", "", ""]
    page = Page(smm.report(finished, tmp_path / "health.html").read_text(encoding="utf-8"))
    kept = saved(page, "health.csv")
    np.testing.assert_allclose(kept["doublet_score"], table["doublet_score"], rtol=1e-4)
    assert "stability" not in kept  # it was not measured
    headings = page.texts("th")
    assert {"counts rna", "standard errors to it", "nearest cluster", "checks that fired"} <= set(headings)
    assert f"{table['doublets'].iloc[0]:.1%}" in page.texts("td")
    assert headings[headings.index("counts rna") - 1] == "checks that fired"
    assert "near, low counts" in page.texts("td")


def test_many_cells_are_not_listed(
    path: Path, finished: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scmag_muon._report._sections._MOST_LISTED", 179)
    monkeypatch.setattr("scmag_muon._report._map.MOST_CELLS", 50)
    text = smm.report(finished, tmp_path / "short.html").read_text(encoding="utf-8")
    assert 'download="cells.csv"' not in text
    assert 'download="cells.csv"' in path.read_text(encoding="utf-8")
    assert "50 of 180 cells, drawn at random" in text
    assert len(map_data(text)["x"]) == 50


def map_data(text: str) -> dict[str, Any]:
    return json.loads(text.split('id="map-data">')[1].split("</script>")[0])


def test_the_map_knows_what_the_mudata_says(finished: MuData, tmp_path: Path) -> None:
    finished.obs.loc["cell3", "cell_type"] = np.nan
    data = map_data(smm.report(finished, tmp_path / "map.html", labels="cell_type").read_text(encoding="utf-8"))
    columns = {column["name"]: column for column in data["columns"]}
    assert list(columns) == ["cluster", "cell_type", "batch", "confidence", "counts of rna", "counts of prot"]
    xy = np.asarray(finished.obsm["X_umap"])
    # cells in a mixed order: found again by their places
    shown = np.column_stack([data["x"], data["y"]]) / data["span"]
    own = 0.02 + 0.96 * (xy - xy.min(axis=0)) / np.ptp(xy, axis=0)
    order = np.abs(shown[:, None] - own[None]).max(axis=2).argmin(axis=1)
    assert sorted(order) == list(range(180))
    assert order.tolist() != list(range(180))

    def names(column: str) -> list[str | None]:
        found = columns[column]
        return [None if code is None else found["levels"][code] for code in found["values"]]

    assert names("cluster") == finished.obs["scmag"].to_numpy()[order].tolist()
    known = finished.obs["cell_type"].astype(object).where(finished.obs["cell_type"].notna(), None)
    assert names("cell_type") == known.to_numpy()[order].tolist()
    totals = np.asarray(finished["rna"].X.sum(axis=1)).ravel()[order]
    assert columns["counts of rna"]["values"] == totals.tolist()
    np.testing.assert_allclose(
        columns["confidence"]["values"], finished.obs["scmag_confidence"].to_numpy()[order], atol=0.006
    )


def test_named_clusters_have_a_section(finished: MuData, tmp_path: Path) -> None:
    pytest.importorskip("decoupler")
    smm.tl.annotate(finished, markers={"T <cells>": ["g0", "g1"], "B/plasma": ["g16", "p4"]})
    page = Page(smm.report(finished, tmp_path / "types.html").read_text(encoding="utf-8"))
    assert "Cell types" in page.texts("h2")
    assert any("scores of 2 types in 4 clusters" in figure["alt"] for figure in page.all("img"))
    assert saved(page, "types.csv")["type"].tolist() == ["T <cells>", "unknown", "B/plasma", "unknown"]
    (text,) = [text for text in page.texts("p") if text.startswith("Raw counts of")]
    assert "decoupler" in text
    assert "lists of known markers" in text


def test_methods_say_how_well_ways_to_the_clusters_agree(finished: MuData) -> None:
    finished.uns["scmag"] |= {"fit_agreement": 0.9, "network_agreement": 0.8}
    text, references = text_and_references(finished, "scmag", "batch")
    assert "after manifold fitting agreed with an adjusted Rand index of 0.90" in text
    assert "without the network with one of 0.80" in text
    assert any("Leiden" in reference for reference in references)
    finished.uns["scmag"]["params"]["settings"] = "paper"
    assert "adjusted Rand" not in text_and_references(finished, "scmag", "batch")[0]


def test_methods_say_what_was_done(finished: MuData, tmp_path: Path) -> None:
    text, references = text_and_references(finished, "scmag", "batch")
    assert "Raw counts of 180 cells (60 features of rna, 10 features of prot)" in text
    assert "scmag_muon 0.1.0" in text
    assert "for 10 epochs in 3 stages" in text
    assert "Batches (batch) were told to the network." in text
    assert "The number of clusters was set to 4." in text
    for absent in ("Markers", "decoupler", "Scrublet", "Leiden"):
        assert absent not in text
    cited = {int(number) for group in re.findall(r"\[([\d, ]+)\]", text) for number in group.split(", ")}
    assert cited == set(range(1, len(references) + 1))
    smm.tl.markers(finished)
    finished.uns["scmag"]["params"]["n_clusters_estimated"] = True
    text, references = text_and_references(finished, "scmag", None)
    assert "Batches" not in text
    assert "a log2 fold change of at least 0.5 in at least 10% of the cells" in text
    assert "The number of clusters, 4, was estimated from Leiden" in text
    assert any("Leiden" in reference for reference in references)


@pytest.mark.parametrize(("n_clusters", "rows"), [(3, 4), (6, 6)])
def test_a_level_of_the_tree_has_a_report(with_tree: MuData, tmp_path: Path, n_clusters: int, rows: int) -> None:
    smm.tl.cluster_tree(with_tree, n_clusters=4)
    smm.tl.cut(with_tree, n_clusters=n_clusters)
    key = f"scmag_{n_clusters}"
    sizes = with_tree.obs[key].value_counts().tolist()
    before = sorted(with_tree.obsm), sorted(with_tree.uns), sorted(with_tree.obs)
    text = smm.report(with_tree, tmp_path / "level.html", key=key, labels="cell_type").read_text(encoding="utf-8")
    page = Page(text)
    assert saved(page, "clusters.csv")["cells"].tolist() == sizes
    assert saved(page, "cells.csv")[key].nunique() == n_clusters
    assert map_data(text)["columns"][0]["levels"] == [str(i) for i in range(n_clusters)]
    (about,) = [words for words in page.texts("p") if words.startswith("Each row has one cluster more")]
    assert f"This page is about the row of {n_clusters}." in about
    assert f"n_clusters={rows}, key='scmag'" in about
    (methods,) = [words for words in page.texts("p") if words.startswith("Raw counts of")]
    assert "for 10 epochs in 3 stages" in methods
    assert f"The number of clusters was set to 4. The tree of the clusters was cut at {n_clusters}." in methods
    assert {"made from", "height", "scmag-muon", "max_epochs_pretrain"} <= set(page.texts("th"))
    assert any("Terms of the loss" in figure["alt"] for figure in page.all("img"))
    assert before == (sorted(with_tree.obsm), sorted(with_tree.uns), sorted(with_tree.obs))
    assert with_tree.uns["scmag_cluster_tree"]["params"]["n_clusters"] == 4


def test_a_divided_cluster_has_a_report(with_tree: MuData, tmp_path: Path) -> None:
    smm.tl.subcluster(with_tree, "0", n_clusters=2)
    smm.tl.subcluster(with_tree, "1", n_clusters=2, key="scmag_sub", key_added="scmag_sub")
    page = Page(smm.report(with_tree, tmp_path / "parts.html", key="scmag_sub").read_text(encoding="utf-8"))
    assert saved(page, "clusters.csv").index.tolist() == ["0,0", "0,1", "1,0", "1,1", "2", "3"]
    (methods,) = [words for words in page.texts("p") if words.startswith("Raw counts of")]
    assert "set to 4. Cluster 1 of scmag_sub was divided by its own neighbourhoods." in methods
    assert "Tree of the clusters" not in page.texts("h2")  # it has no level with these clusters


def test_a_level_tells_what_has_changed_and_how_well_counts_are_imputed(with_tree: MuData, tmp_path: Path) -> None:
    with_tree.mod["prot"] = with_tree["prot"][:150].copy()
    with_tree.update()
    with_tree.obs["scmag_measured"] = np.where(np.arange(180) < 150, "rna+prot", "rna")
    with_tree["prot"].var["scmag_imputation_r"] = 0.8
    smm.tl.cut(with_tree, n_clusters=3)
    with_tree.obs.loc["cell3", "scmag_3"] = "2"
    page = Page(smm.report(with_tree, tmp_path / "level.html", key="scmag_3").read_text(encoding="utf-8"))
    assert any("Since the run, obs['scmag_3'] has changed." in words for words in page.texts("p"))
    assert any("correlate with imputed ones by 0.80" in words for words in page.texts("p"))
    assert "cells by what was measured" in page.texts("th")


@pytest.mark.parametrize("names", [{"0": "T cells", "1": "monocytes"}, {"0": "T cells", "1": "T cells"}])
def test_clusters_that_were_named_or_joined_by_hand(with_tree: MuData, tmp_path: Path, names: dict[str, str]) -> None:
    labels = with_tree.obs["scmag"].astype(str)
    noted = {"scmag": _fingerprint.of_labels(with_tree.obs_names, labels), "batch": "another"}
    with_tree.uns["scmag"]["made_from"] = {**with_tree.uns["scmag"]["made_from"], "obs": noted}
    with_tree.obs["scmag"] = labels.replace(names)
    page = Page(smm.report(with_tree, tmp_path / "named.html").read_text(encoding="utf-8"))
    said = page.texts("p")
    assert any("Since the run, obs['scmag'] has changed." in words for words in said)
    assert saved(page, "clusters.csv").index.tolist() == sorted({"2", "3", *names.values()})
    assert any("Terms of the loss" in figure["alt"] for figure in page.all("img"))
    assert not any("gate" in figure["alt"] for figure in page.all("img"))


def test_a_level_whose_run_is_gone_names_it(with_tree: MuData, tmp_path: Path) -> None:
    smm.tl.cut(with_tree, n_clusters=3)
    del with_tree.uns["scmag"]
    with pytest.raises(KeyError, match=r"No run in mdata.uns\['scmag'\].*key_added='scmag'"):
        smm.report(with_tree, tmp_path / "level.html", key="scmag_3")


def test_the_mudata_stays_as_it_is(finished: MuData, tmp_path: Path) -> None:
    def state() -> list[Any]:
        parts = [finished, *finished.mod.values()]
        return [[sorted(map(str, s)) for s in (p.obs, p.var, p.obsm, p.uns, p.obsp)] for p in parts] + [
            sorted(map(str, mod.layers)) for mod in finished.mod.values()
        ]

    before = state()
    smm.report(finished, tmp_path / "report.html")
    assert state() == before


def test_shows_what_else_was_computed(finished: MuData, tmp_path: Path) -> None:
    smm.tl.markers(finished)
    smm.tl.trajectory(finished, root="0")
    page = Page(smm.report(finished, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Further analyses" in page.texts("h2")
    assert any("pseudotime from root 0" in figure["alt"] for figure in page.all("img"))


def test_warnings_name_what_is_wrong(finished: MuData) -> None:
    found = "\n".join(doubts(finished, "scmag", "batch"))
    assert "only 180 cells" in found
    assert "Modality prot holds little information" in found
    assert "5.0% of" in found
    for absent in ("fewer than 20 cells", "confidence", "Training ended", "one batch", "no count", "Modality rna"):
        assert absent not in found
    assert "paired" not in found
    assert "differ (adjusted" not in found
    finished.uns["scmag"] |= {"fit_agreement": 0.55, "network_agreement": 0.55}
    found = "\n".join(doubts(finished, "scmag", "batch"))
    assert "with and without fitting differ (adjusted Rand index 0.55)" in found
    assert "the network differ" not in found
    finished.uns["scmag"] |= {"fit_agreement": 0.65, "network_agreement": 0.45}
    found = "\n".join(doubts(finished, "scmag", "batch"))
    assert "with and without the network differ (adjusted Rand index 0.45)" in found
    assert "fitting differ" not in found
    finished["rna"].uns["manifold"] |= {"replication": 0.6, "concordance": 0.5}
    finished["prot"].uns["manifold"] |= {"replication": 0.6, "concordance": 0.004, "modality_weight": 0.2}
    assert "Modality prot knows next to nothing of the same cells as any other: concordance 0.00" in "\n".join(
        doubts(finished, "scmag", "batch")
    )
    finished["prot"].uns["manifold"] |= {"concordance": 0.045}  # of 180 cells it may be so low by chance
    assert "paired" not in "\n".join(doubts(finished, "scmag", "batch"))
    finished.obs["scmag_confidence"] = np.where(finished.obs["scmag"] == "2", 0.5, 1.0)
    finished.obs["scmag"] = np.where(np.arange(180) < 3, "9", finished.obs["scmag"].astype(str))
    finished.uns["scmag"]["converged"] = False
    finished.obs["batch"] = np.where(finished.obs["scmag"] == "1", "a", "b")
    counts = finished["rna"].X.tolil()
    counts[5] = 0
    finished["rna"].X = counts.tocsr()
    found = "\n".join(doubts(finished, "scmag", "batch"))
    assert "Clusters of fewer than 20 cells: 9 (3)" in found
    assert "Cluster 2: mean confidence below 0.7." in found
    assert "Training ended before" in found
    assert "1 (a)" in found
    assert "1 cells have no count at all in modality rna" in found


def test_clusters_of_doublets_are_a_doubt(finished: MuData) -> None:
    smm.tl.cluster_qc(finished)
    table = finished.uns["scmag_cluster_qc"]["table"]
    assert "two cells" not in "\n".join(doubts(finished, "scmag", "batch"))
    table["flags"] = ["", "doublets;near", "mitochondrial", ""]
    found = "\n".join(doubts(finished, "scmag", "batch"))
    assert "Cluster 1: half of the cells or more look like two cells in one droplet" in found
    assert "Cluster 2: more than a fifth of the RNA is mitochondrial" in found
    assert "Cluster 1: within three standard errors" in found
    table["flags"] = ["", "near", "near", ""]
    assert "Clusters 1, 2: within three standard errors" in "\n".join(doubts(finished, "scmag", "batch"))


def test_a_page_without_doubts_says_what_was_checked(
    finished: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scmag_muon._report._report.doubts", lambda *arguments: [])
    page = Page(smm.report(finished, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert any("No automatic check fired" in text for text in page.texts("p"))
    assert "checks that fired" in page.texts("th")
    assert "scmag_cluster_qc" not in finished.uns
    assert "scmag_doublet_score" not in finished.obs


def test_text_is_escaped_and_contrast_is_enough() -> None:
    assert "<b>" not in _html.paragraph("<b>") + _html.warnings(["<b>"])

    def luminance(color: str) -> float:
        color = color.lstrip("#")
        color = "".join(c * 2 for c in color) if len(color) == 3 else color
        channels = [int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    for color in re.findall(r"[{; ]color: (#[0-9a-f]+)", _html._STYLE):
        for background in ("#fff", "#fff5ec"):
            bright, dark = sorted([luminance(color), luminance(background)], reverse=True)
            assert (bright + 0.05) / (dark + 0.05) > 4.5, color


def test_numbers_are_readable() -> None:
    values = [0.0001, 0.012345, 12.345, 2391.4, 1e6, 0.0, float("nan"), 1234]
    shown = Page(_html.table(pd.DataFrame({"x": pd.Series(values, dtype=object)}), caption="numbers")).texts("td")
    assert shown == ["< 0.001", "0.0123", "12.3", "2,391", "1,000,000", "0", "–", "1,234"]


def test_errors(finished: MuData, tmp_path: Path) -> None:
    finished.obs["nothing"] = np.nan
    with pytest.raises(ValueError, match=r"labels='nothing' is missing for all 180 cells"):
        smm.report(finished, tmp_path / "page.html", labels="nothing")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        smm.report(finished, tmp_path / "none" / "report.html")
    with pytest.raises(KeyError, match="labels='types' names no column"):
        smm.report(finished, tmp_path / "report.html", labels="types")
    del finished.uns["scmag"]
    with pytest.raises(KeyError, match=r"No run in mdata.uns\['scmag'\].*tl.scmag"):
        smm.report(finished, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("change", ["one cluster", "others", "no batches"])
def test_clusters_and_cells_that_have_changed_since_the_run(tmp_path: Path, change: str) -> None:
    mdata = by_hand.finished()
    by_hand.add_tree(mdata)
    mdata.uns["scmag"]["made_from"] = made_from(mdata, obs=["scmag", "batch"])
    smm.tl.markers(mdata)
    smm.tl.cluster_tree(mdata)
    if change == "one cluster":
        mdata = mdata[(mdata.obs["scmag"] == "0").to_numpy()].copy()
    elif change == "others":
        mdata.obs["scmag"] = pd.Series(np.resize(["0", "1", None], mdata.n_obs), index=mdata.obs_names)
    else:
        del mdata.obs["batch"]
    page = Page(smm.report(mdata, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert any("Since the run" in text for text in page.texts("p"))
    assert any("The batches of the run are left out" in text for text in page.texts("p")) == (change == "no batches")
    assert {str(name) for name in mdata.obs["scmag"].dropna()} <= set(page.texts("th"))


def test_what_can_not_be_reported_is_told_before_anything_is_computed(
    finished: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scmag_muon._report._report.prepared", lambda *_, **__: pytest.fail("computed in vain"))
    page = tmp_path / "page.html"
    without = mudata.MuData({"gex": finished["rna"]})
    without.obs, without.uns, without.obsm["X_scmag"] = finished.obs, finished.uns, finished.obsm["X_scmag"]
    with pytest.raises(KeyError, match=r"modalities \['rna', 'prot'\], and the MuData has cells of \['gex'\]"):
        smm.report(without, page)
    with pytest.raises(ValueError, match="has no cells"):
        smm.report(finished[:0].copy(), page)
    with pytest.raises(ValueError, match="`random_state` must be"):
        smm.report(finished, page, random_state=-1)
    rna, counts = finished["rna"], finished["rna"].X.copy()
    rna.X = np.log1p(counts.toarray())
    with pytest.raises(ValueError, match="normalised already"):
        smm.report(finished, page)
    rna.X = counts
    finished.obs["scmag"] = np.nan
    with pytest.raises(ValueError, match="there are no clusters to report"):
        smm.report(finished, page)
    assert not page.exists()


def test_a_page_does_not_replace_data_by_a_link(finished: MuData, tmp_path: Path) -> None:
    data, link = tmp_path / "cells.h5mu", tmp_path / "page.html"
    data.write_text("data")
    link.symlink_to(data)
    with pytest.raises(ValueError, match="page.html is a link to .*cells.h5mu, which is no page"):
        smm.report(finished, link)
    assert data.read_text() == "data"


def in_chromium(path: Path, folder: Path) -> tuple[str, str, set[str]]:
    """The DOM after loading, what the console said, and the addresses that were asked for."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    log = folder / "net.json"
    done = subprocess.run(
        [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={log}",
            "--enable-logging=stderr",
            "--window-size=390,844",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # the browser's own requests, for its updates, come from no origin
    asked = {e["url"] for e in events if "url" in e and e.get("initiator", "not an origin") != "not an origin"}
    asked = {url for url in asked if url.startswith("http")}
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return done.stdout, console, asked


def test_opens_in_chromium_without_errors_or_requests(path: Path, tmp_path: Path) -> None:
    dom, console, asked = in_chromium(path, tmp_path)
    assert console == ""
    assert asked == set()
    page = Page(dom.strip().removeprefix("<!DOCTYPE html>"))
    assert page.texts("h2") == HEADINGS
    assert len(page.all("img")) == 9
    assert len(page.all("table")) == 6
    (canvas,) = page.all("canvas")
    assert canvas["data-drawn"] == "180"
    assert page.texts("option") == ["cluster", "cell_type", "batch", "confidence", "counts of rna", "counts of prot"]
    assert [text for text in page.texts("button") if text in list("0123")] == list("0123")


HOSTILE = [
    "</script><script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title = 'owned'\">",
    "'\"><b>&lt;&amp;",
    "__proto__",
]


def test_hostile_names_are_shown_as_they_are(finished: MuData, tmp_path: Path) -> None:
    renamed = dict(zip("0123", HOSTILE, strict=True))
    finished.obs["scmag"] = finished.obs["scmag"].cat.rename_categories(renamed)
    finished.obs["<b>owned</b>"] = finished.obs["scmag"].astype(str)
    finished.uns["scmag"] = {part: value for part, value in finished.uns["scmag"].items() if part != "gate"}
    path = smm.report(
        finished, tmp_path / "hostile.html", labels="<b>owned</b>", title="<script>document.title = 'owned'</script>"
    )
    text = path.read_text(encoding="utf-8")
    assert len(re.findall("<script", text)) == 2
    assert "<b>" not in text
    # a second script, which the policy of a real page would not let run, points at a cell
    pointing = """<script>
const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect();
const data = JSON.parse(document.getElementById("map-data").textContent);
canvas.dispatchEvent(Object.assign(new PointerEvent("pointermove", {
  clientX: box.left + data.x[0] / data.span * box.width, clientY: box.top + (1 - data.y[0] / data.span) * box.height})));
document.querySelectorAll(".legend button")[1].click();
</script>"""
    open_page = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", text).replace(
        "</body>", f"{pointing}</body>"
    )
    path.write_text(open_page, encoding="utf-8")
    dom, console, asked = in_chromium(path, tmp_path)
    assert console == ""
    assert asked == set()
    page = Page(dom.strip().removeprefix("<!DOCTYPE html>"))
    assert page.texts("title") == ["<script>document.title = 'owned'</script>"]
    column = map_data(text)["columns"][0]
    assert column["levels"] == HOSTILE
    assert f"cluster: {HOSTILE[column['values'][0]]}" in page.texts("div")
    pressed = [button.get("aria-pressed") for button in page.all("button") if "aria-pressed" in button]
    assert pressed == ["false", "true", "false", "false"]
    assert [text for text in page.texts("button") if text in HOSTILE] == HOSTILE


def test_no_other_script_runs(path: Path, tmp_path: Path) -> None:
    bad = path.read_text(encoding="utf-8").replace("</body>", "<script>document.title = 'owned'</script></body>")
    path.write_text(bad, encoding="utf-8")
    dom, console, _ = in_chromium(path, tmp_path)
    assert "<title>owned" not in dom
    assert "Content Security Policy" in console


def test_the_check_in_chromium_would_notice(tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text('<!DOCTYPE html><img src="http://127.0.0.1:9/x.png"><script>undefined_name()</script>')
    _, console, asked = in_chromium(path, tmp_path)
    assert "undefined_name is not defined" in console
    assert asked == {"http://127.0.0.1:9/x.png"}


def test_the_tree_is_shown_with_the_levels_near_the_one_taken(with_tree: MuData, tmp_path: Path) -> None:
    with_tree.uns["scmag"]["levels"] = pd.DataFrame(
        {"n_clusters": [3, 4], "agreement": [0.8, 0.81], "separation": [2.5, 2]}
    )
    with_tree.uns["scmag"]["as_good"] = np.array([3])
    text = smm.report(with_tree, tmp_path / "tree.html").read_text(encoding="utf-8")
    assert "Tree of the clusters, from 1 to 6" in text
    assert "As good as the number taken: 3." in text
    assert "features of the tree&#x27;s splits" in text or "features of the tree's splits" in text
    assert "scmag_cluster_tree" not in with_tree.uns
    with_tree.obs["scmag_leaf"] = np.roll(with_tree.obs["scmag_leaf"], 1)
    text = smm.report(with_tree, tmp_path / "tree.html").read_text(encoding="utf-8")
    assert "Tree of the clusters" not in text
