"""What was done: sentences to paste into a paper, with what they cite, and the parameters and versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmag_muon import _values
from scmag_muon._keys import Keys
from scmag_muon._levels import run_of
from scmag_muon._report import _html, _query
from scmag_muon._versions import UNKNOWN, version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

_CITED = {
    "scmag": "Zou J. et al. scMAG: Integrating Single-Cell Multi-Omics Data via Multi-Stage Deep Fusion with Manifold-Aware Gating. Manuscript.",
    "manifold": "Yao Z. et al. Single-cell analysis via manifold fitting. PNAS 121, e2400002121 (2024).",
    "scvi": "Gayoso A. et al. A Python library for probabilistic analysis of single-cell omics data. Nat. Biotechnol. 40, 163-166 (2022). doi:10.1038/s41587-021-01206-w",
    "muon": "Bredikhin D., Kats I., Stegle O. MUON: multimodal omics analysis framework. Genome Biol. 23, 42 (2022). doi:10.1186/s13059-021-02577-8",
    "scanpy": "Wolf F. A., Angerer P., Theis F. J. SCANPY: large-scale single-cell gene expression data analysis. Genome Biol. 19, 15 (2018). doi:10.1186/s13059-017-1382-0",
    "leiden": "Traag V. A., Waltman L., van Eck N. J. From Louvain to Leiden. Sci. Rep. 9, 5233 (2019). doi:10.1038/s41598-019-41695-z",
    "umap": "McInnes L., Healy J., Melville J. UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction. arXiv:1802.03426 (2018).",
    "decoupler": "Badia-i-Mompel P. et al. decoupleR: ensemble of computational methods to infer biological activities from omics data. Bioinform. Adv. 2, vbac016 (2022). doi:10.1093/bioadv/vbac016",
    "scrublet": "Wolock S. L., Lopez R., Klein A. M. Scrublet: computational identification of cell doublets. Cell Syst. 8, 281-291 (2019). doi:10.1016/j.cels.2018.11.005",
}


def methods(mdata: MuData, key: str, batch_key: str | None) -> str:
    """The section of the report."""
    text, references = text_and_references(mdata, key, batch_key)
    return (
        _html.paragraph("Written from what this run recorded. Read it before you paste it.")
        + _html.to_paste(text)
        + _html.to_paste("\n".join(references))
    )


def text_and_references(mdata: MuData, key: str, batch_key: str | None) -> tuple[str, list[str]]:
    """A paragraph and its numbered references, of what this MuData says was done."""
    record = mdata.uns[key]
    params = record["params"]
    cited: list[str] = []

    def cite(*names: str) -> str:
        cited.extend(name for name in names if name not in cited)
        return f"[{', '.join(str(cited.index(name) + 1) for name in names)}]"

    versions = record.get("versions", {})
    if _query.is_query(mdata, key):
        found = _query.sentences(
            mdata, key, _features(mdata, key), cite("scmag", "manifold"), _of("scmag-muon", versions)
        )
        return _numbered([*found, *_of_verbs(mdata, key, cite)], cited)
    sentences = [
        f"Raw counts of {mdata.n_obs:,} cells ({_features(mdata, key)}) were kept in MuData {_of('mudata', versions)} {cite('muon')} and "
        f"clustered with scMAG {cite('scmag')} as implemented in scmag_muon {_of('scmag-muon', versions)}, on scvi-tools "
        f"{_of('scvi-tools', versions)} {cite('scvi')} and PyTorch {_of('torch', versions)} ({params.get('settings', 'default')} settings, "
        f"random seed {params.get('random_state', 'not recorded')}).",
        f"Expression was denoised by manifold fitting {cite('manifold')} in neighbourhoods {_neighborhoods(mdata, params)}; a gated "
        f"variational autoencoder was trained on it{_epochs(record)}.",
    ]
    if batch_key is not None and params.get("batch_key") is not None:
        sentences.append(f"Batches ({batch_key}) were told to the network.")
    sentences += _of_clusters(mdata, key, cite)
    sentences += _of_verbs(mdata, key, cite)
    return _numbered(sentences, cited)


def _of_clusters(mdata: MuData, key: str, cite: Callable[..., str]) -> list[str]:
    """How many clusters there are, and why."""
    run, record = run_of(mdata, key), mdata.uns[key]
    n_clusters = len(_values.cluster_column(mdata, key).cat.categories)
    n_of_run = n_clusters if run == key else int(mdata.uns[run]["n_clusters"])
    found = [f"The number of clusters was set to {n_of_run}."]
    if record["params"].get("n_clusters_estimated"):
        found = [
            f"The number of clusters, {n_of_run}, was estimated from Leiden communities {cite('leiden')} at several resolutions."
        ]
    elif "network_agreement" in mdata.uns.get(run, {}) and record["params"].get("settings", "default") == "default":
        found.append(
            f"They started from Leiden communities {cite('leiden')} that were joined to clusters. Clusters from communities before and "
            f"after manifold fitting agreed with an adjusted Rand index of {float(mdata.uns[run]['fit_agreement']):.2f}, clusters with and "
            f"without the network with one of {float(mdata.uns[run]['network_agreement']):.2f}."
        )
    if run == key:
        return found
    if "cluster" in record:
        return [
            *found,
            f"Cluster {record['cluster']} of {record['params']['key']} was divided by its own neighbourhoods.",
        ]
    return [*found, f"The tree of the clusters was cut at {n_clusters}."]


def _numbered(sentences: list[str], cited: list[str]) -> tuple[str, list[str]]:
    return " ".join(sentences), [f"{i + 1}. {_CITED[name]}" for i, name in enumerate(cited)]


def _of_verbs(mdata: MuData, key: str, cite: Callable[..., str]) -> list[str]:
    found = [
        f"The cells were drawn with UMAP {cite('umap')} of the clustering space, in scanpy {_of('scanpy', {})} {cite('scanpy')}."
    ]
    if Keys.markers(key) in mdata.uns:
        params = mdata.uns[Keys.markers(key)].get("params", {})
        limits = (
            f" with a log2 fold change of at least {float(params['min_fold_change']):g} in at least {float(params['min_share']):.0%} of "
            "the cells of a cluster"
            if "min_share" in params
            else ""
        )
        found.append(
            f"Markers are features{limits}, ranked by Wilcoxon's rank-sum test of normalised raw counts (Benjamini-Hochberg)."
        )
    if Keys.cell_type(key) in mdata.uns:
        used = str(mdata.uns[Keys.cell_type(key)]["params"]["markers"])
        lists = (
            "the list for human blood and bone marrow of scmag_muon" if used == "blood" else "lists of known markers"
        )
        found.append(
            f"Clusters were named by the weighted mean of their markers (decoupler {_of('decoupler', {})} {cite('decoupler')}, {lists})."
        )
    kinds = {_values.kind_in_use(mdata, key, name) for name in _values.used_modalities(mdata, key)}
    if Keys.doublet_score(key) in mdata.obs and kinds & {"rna", "protein"}:
        ways = [f"Scrublet {cite('scrublet')}"] * ("rna" in kinds)
        ways += ["pairs of proteins that exclude each other"] * ("protein" in kinds)
        found.append(f"Doublets were scored by {' and '.join(ways)}.")
    return found


def _neighborhoods(mdata: MuData, params: Any) -> str:
    manifold_key = str(params.get("manifold_key", Keys.MANIFOLD))
    fits = [adata.uns[manifold_key] for adata in mdata.mod.values() if manifold_key in adata.uns]
    own = any(str(fit.get("params", {}).get("neighborhoods", "")) == "own" for fit in fits)
    return "of each view" if own else "shared by the modalities"


def _features(mdata: MuData, key: str) -> str:
    return ", ".join(f"{mdata.mod[name].n_vars:,} features of {name}" for name in _values.used_modalities(mdata, key))


def _epochs(record: Any) -> str:
    if "history" not in record:
        return ""
    return f" for {len(record['history'])} epochs in {len(np.unique(record['history']['stage']))} stages"


def _of(package: str, versions: Any) -> str:
    """The version that made the run, else the one that is installed."""
    if package in versions:
        return str(versions[package])
    return version_of(package).replace(UNKNOWN, f"(version {UNKNOWN})")


def parameters(mdata: MuData, key: str) -> str:
    """The last section of the report."""
    run = run_of(mdata, key)
    own, record = mdata.uns[key], mdata.uns[run]
    level = {part: own[part] for part in ("n_clusters", "height", "cluster", "n_parts") if part in own}
    frames = {
        f"Clusters by scmag_muon.tl.{own.get('verb')}.": {"key": own["params"]["key"], **level} if run != key else {},
        f"Parameters of scmag_muon.tl.{record.get('verb', 'scmag')}.": record["params"],
        "Versions of the packages that made the run.": record.get("versions", {}),
    }
    return "\n".join(
        _html.table(
            pd.DataFrame({"value": [_plain(v) for v in values.values()]}, index=pd.Index(values, name="name")),
            caption=caption,
        )
        for caption, values in frames.items()
        if values
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_plain(item)}" for name, item in value.items()) or "none"
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(_plain(item) for item in value) or "none"
    return "none" if value is None else str(value)
