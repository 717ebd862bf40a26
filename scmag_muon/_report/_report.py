"""The report as one file."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from scmag_muon import _mudata, _values
from scmag_muon._checks import check_random_state
from scmag_muon._columns import batches_of_run, known_labels
from scmag_muon._files import written_aside
from scmag_muon._keys import Keys
from scmag_muon._levels import run_of
from scmag_muon._report import _health, _html, _map, _methods, _query, _sections
from scmag_muon._report._doubts import doubts
from scmag_muon._report._prepare import has_level, left_out, prepared
from scmag_muon._versions import version_of

if TYPE_CHECKING:
    from mudata import MuData

_SUFFIXES = (".html", ".htm")
_NARROW = ("summary", "warnings", "methods", "parameters")
_NO_DOUBT = "No automatic check fired. Checks know counts, doublets, batches, small and unsure clusters; they do not know your biology."


def report(
    mdata: MuData,
    path: str | Path,
    *,
    labels: str | None = None,
    batch_key: str | None = None,
    key: str = Keys.SCMAG,
    title: str = "Cell clusters",
    random_state: int | None = 0,
) -> Path:
    """Write one HTML page with clusters, types, markers, batches, the model's insides, methods and warnings about the data.

    The page holds its pictures and needs no network. A map tells of the cell under the pointer (20,000 cells at most, drawn at
    random); tables can be saved as CSV files, and a text on methods pasted. What it shows and is not in ``mdata`` yet (UMAP, markers, dendrogram, tree,
    mixing of the batches) is computed for it; ``mdata`` stays as it is. Types, trajectory, enrichment, stability and held-out
    markers are shown where their verbs have run.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.scmag` or :func:`scmag_muon.tl.map_query` left it, also read back from a file.
    path
        File to write, as ``"report.html"``.
    labels
        Column of known labels to compare with.
    batch_key
        Column of batches; ``None`` takes the one that :func:`scmag_muon.tl.scmag` was told, if any.
    key
        The ``key_added`` of :func:`scmag_muon.tl.scmag`, or of :func:`scmag_muon.tl.cut` or :func:`scmag_muon.tl.subcluster`.
    title
        Heading of the page.
    random_state
        Seed of the UMAPs.

    Returns
    -------
    The path.

    Raises
    ------
    KeyError
        Where clusters or a column are not there.
    FileNotFoundError
        Where there is no such folder.
    ValueError
        Where ``path`` does not end in ``.html`` or is a link to another kind of file, so that no data are replaced by a page; where
        there are no clusters, or counts were normalised since the run.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> path = smm.report(mdata, pathlib.Path(tempfile.mkdtemp()) / "report.html", labels="cell_type")
    >>> path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    True
    """
    path = Path(path)
    check_page(path)
    random_state = check_random_state(random_state)
    _mudata.check_mudata(mdata)
    if not mdata.n_obs:
        raise ValueError("The MuData has no cells.")
    if not len(_values.cluster_column(mdata, key).cat.categories):
        raise ValueError(f"mdata.obs[{key!r}] is missing for all {mdata.n_obs} cells: there are no clusters to report.")
    run = run_of(mdata, key)
    if run not in mdata.uns or Keys.latent(run) not in mdata.obsm:
        raise KeyError(f"No run in mdata.uns[{run!r}]. Make it with scmag_muon.tl.scmag(mdata, key_added={run!r}).")
    if labels is not None:
        known_labels(mdata, labels, argument="labels")
    for name in _values.used_modalities(mdata, key):
        _values.counts_in_use(mdata, key, name)  # what is wrong is told before all other work
    of_run = mdata.uns[key]["params"].get("batch_key")
    batch_key = batch_key or batches_of_run(mdata, key)
    work, made = prepared(mdata, key=key, batch_key=batch_key, random_state=random_state)
    stale = left_out(work, key)
    if batch_key is None and of_run is not None:
        stale.append(f"The batches of the run are left out: no column is called {of_run!r}.")
    with plt.rc_context({"font.family": "DejaVu Sans", "figure.facecolor": "white", "savefig.facecolor": "white"}):
        sections = [("summary", "Summary", _sections.summary(work, key, labels))]
        messages = stale + doubts(work, key, batch_key)
        sections.append(
            ("warnings", "What to be careful about", _html.warnings(messages) or _html.paragraph(_NO_DOUBT))
        )
        if _query.is_query(work, key):
            sections.append(("mapping", "Mapped onto a reference", _query.mapping(work, key)))
        sections.append(("clusters", "Clusters", _sections.clusters(work, key, labels, batch_key)))
        if Keys.cluster_qc(key) in work.uns:
            sections.append(("health", "Health of the clusters", _health.health(work, key)))
        if Keys.cell_type(key) in work.uns and Keys.cell_type(key) in work.obs:
            sections.append(("types", "Cell types", _sections.annotation(work, key)))
        if Keys.cluster_tree(run) in work.uns and has_level(work, key):
            sections.append(("tree", "Tree of the clusters", _sections.tree(work, key)))
        if Keys.markers(key) in work.uns:
            sections.append(("markers", "Markers", _sections.markers(work, key)))
        if Keys.batch_mixing(key) in work.uns:
            sections.append(("batches", "Batches", _sections.batches(work, key)))
        further = _sections.further(work, key)
        if further:
            sections.append(("further", "Further analyses", further))
        inside = _sections.inside(work, key)
        if inside:
            sections.append(("inside", "Inside the model", inside))
    sections.append(("methods", "Methods, to paste", _methods.methods(work, key, batch_key)))
    notes = f"Computed for this page: {', '.join(made)}." if made else ""
    parameters = _methods.parameters(work, key) + (_html.paragraph(notes) if notes else "")
    sections.append(("parameters", "Parameters and versions", parameters))
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    done = "mapped onto a reference" if _query.is_query(work, key) else "clustered"
    subtitle = f"{mdata.n_obs:,} cells, {_listed(_values.used_modalities(mdata, key))}, {done} by scMAG."
    text = _html.page(
        str(title),
        subtitle,
        sections,
        f"Written on {today} by scmag_muon {version_of('scmag-muon')}.",
        policy=_map.POLICY,
        narrow=_NARROW,
    )
    with written_aside(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="replace")
    return path


def check_page(path: Path) -> None:
    """Raise unless a page can be written there that replaces nothing but a page."""
    if not path.parent.exists():
        raise FileNotFoundError(f"There is no folder {path.parent} for the report.")
    if path.suffix.lower() not in _SUFFIXES or path.is_dir():
        raise ValueError(f"{path} is no name for a page: it must end in .html and be no folder.")
    if path.resolve().suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{path} is a link to {path.resolve()}, which is no page. Give another name.")


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
