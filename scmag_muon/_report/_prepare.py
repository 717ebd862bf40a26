"""What a report needs and the user has not computed yet, on a copy that shares the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import scanpy as sc
from anndata import AnnData

from scmag_muon import _mudata, _values, tl
from scmag_muon._keys import Keys
from scmag_muon._levels import read_levels, run_of
from scmag_muon._made_from import dendrogram_is_of, differences
from scmag_muon.pl._draw import is_older_map
from scmag_muon.tl._batch_mixing import umap_of

if TYPE_CHECKING:
    from mudata import MuData

_LENT = ("history", "versions", "converged", "older_maps")


def prepared(mdata: MuData, *, key: str, batch_key: str | None, random_state: int | None) -> tuple[MuData, list[str]]:
    """A MuData with everything the report draws, and the names of what had to be computed for it; ``mdata`` is untouched."""
    work = _shared(mdata)
    _lend(work, key)
    made = []
    latent = _values.clustering_space(work, key)
    if "X_umap" not in work.obsm or is_older_map(work, "X_umap", key):
        work.obsm["X_umap"] = umap_of(latent, random_state)
        made.append("UMAP of the clustering space")
    clusters = _values.cluster_column(work, key)
    n_clusters = len(clusters.cat.categories)
    if _is_lacking(work, Keys.markers(key)):
        work.uns.pop(Keys.markers(key), None)
        if n_clusters > 1 and (clusters.value_counts() > 1).any():
            tl.markers(work, key=key)
            made.append("markers")
    qc = work.uns.get(Keys.cluster_qc(key), {})
    if _is_lacking(work, Keys.cluster_qc(key)) or str(qc["params"].get("batch_key")) != str(batch_key):
        work.uns.pop(Keys.cluster_qc(key), None)
        work.obs = work.obs.drop(columns=Keys.doublet_score(key), errors="ignore")
        tl.cluster_qc(work, key=key, batch_key=batch_key, random_state=random_state)
        made.append("checks of the clusters")
    tree = work.uns.get(f"dendrogram_{key}")
    of_latent = latent if str((tree or {}).get("use_rep")) == Keys.latent(key) else None
    if n_clusters < 2:
        work.uns.pop(f"dendrogram_{key}", None)
    elif tree is None or not dendrogram_is_of(tree, clusters, of_latent):
        scratch = AnnData(obs=clusters.to_frame(key), obsm={Keys.latent(key): latent})
        sc.tl.dendrogram(scratch, groupby=key, use_rep=Keys.latent(key))
        work.uns[f"dendrogram_{key}"] = scratch.uns[f"dendrogram_{key}"]
        made.append("dendrogram")
    if _lacks_tree(work, key):
        run = run_of(work, key)
        work.uns.pop(Keys.cluster_tree(run), None)
        tl.cluster_tree(work, key=run, n_clusters=_finest(work, key))
        made.append("features of the tree's splits")
    batches = _mudata.get_batches(work, batch_key)
    mixing = work.uns.get(Keys.batch_mixing(key))
    told = mixing is not None and str(mixing["params"].get("batch_key")) == batch_key
    if batches is not None and len(batches.categories) > 1 and (not told or _is_lacking(work, Keys.batch_mixing(key))):
        tl.batch_mixing(work, batch_key=batch_key, key=key, random_state=random_state)
        made.append("mixing of the batches")
    return work, made


def left_out(work: MuData, key: str) -> list[str]:
    """Take results out of a prepared MuData that are of other cells, clusters or counts, and say which, and why."""
    changed = [reason for of in (run_of(work, key), key) for reason in differences(work, work.uns[of], counts=True)]
    messages = [f"Since the run, {reason}." for reason in dict.fromkeys(changed)]
    if any("obs[" in reason for reason in changed):  # pictures refuse what is of other clusters or batches
        work.uns[key] = {part: value for part, value in work.uns[key].items() if part != "gate"}
    for slot, verb in (
        (Keys.trajectory(key), "trajectory"),
        (Keys.enrichment(key), "enrichment"),
        (Keys.held_out(key), "held_out_markers"),
        (Keys.stability(key), "stability"),
        (Keys.cell_type(key), "annotate"),
    ):
        reasons = differences(work, work.uns.get(slot), counts=True)
        if reasons:
            del work.uns[slot]
            messages.append(f"{slot} is left out: {'; '.join(reasons)}. Run scmag_muon.tl.{verb} again.")
    return messages


def _lend(work: MuData, key: str) -> None:
    """Give clusters that were cut or divided what the report asks of their run: space, history, what was measured."""
    run = run_of(work, key)
    if run == key:
        return
    of_run, own = work.uns[run], work.uns[key]
    lent = {part: of_run[part] for part in _LENT if part in of_run}
    work.uns[key] = {**lent, **own, "params": {**of_run["params"], **own["params"]}}
    work.obsm[Keys.latent(key)] = work.obsm[Keys.latent(run)]
    if Keys.measured(run) in work.obs:
        work.obs[Keys.measured(key)] = work.obs[Keys.measured(run)]
    for adata in work.mod.values():
        if Keys.imputation(run, "r") in adata.var:
            adata.var[Keys.imputation(key, "r")] = adata.var[Keys.imputation(run, "r")]


def _lacks_tree(work: MuData, key: str) -> bool:
    """Whether there is a tree of these clusters whose features are yet to be found."""
    run = run_of(work, key)
    if "tree" not in work.uns[run] or not has_level(work, key) or not _has_leaves(work, run):
        return False
    slot = Keys.cluster_tree(run)
    return _is_lacking(work, slot) or int(work.uns[slot]["params"]["n_clusters"]) < (_finest(work, key) or 0)


def has_level(work: MuData, key: str) -> bool:
    """Whether the clusters are a level of the tree of their run."""
    return run_of(work, key) == key or _mudata.is_record(work.uns[key], "cut")


def _finest(work: MuData, key: str) -> int | None:
    """The level at which the tree ends where these clusters are finer than the run's."""
    own, of_run = (int(work.uns[each]["n_clusters"]) for each in (key, run_of(work, key)))
    return own if own > of_run else None


def _has_leaves(work: MuData, key: str) -> bool:
    """Whether the tree can be drawn: its leaves are those of the run, and there is more than one."""
    try:
        return read_levels(work, key).tree.n_leaves > 1
    except (KeyError, ValueError):
        return False


def _is_lacking(work: MuData, slot: str) -> bool:
    return slot not in work.uns or bool(differences(work, work.uns[slot], counts=True))


def _shared(mdata: MuData) -> MuData:
    mods = {}
    for name, adata in mdata.mod.items():
        layers = {slot: adata.layers[slot] for slot in adata.layers if slot is not None}
        mods[name] = AnnData(adata.X, obs=adata.obs.copy(), var=adata.var.copy(), layers=layers, uns=dict(adata.uns))
    work = _mudata.make_mudata(mods, mdata.obs)
    for slot in mdata.obsm:
        if slot not in mdata.mod:  # mudata keeps a mask of each modality's cells there
            work.obsm[slot] = mdata.obsm[slot]
    for slot in mdata.uns:
        work.uns[slot] = mdata.uns[slot]
    return work
