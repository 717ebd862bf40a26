"""Gene sets in which the markers of a cluster pile up."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scmag_muon import _mudata
from scmag_muon._checks import check_number
from scmag_muon._keys import Keys, check_key
from scmag_muon._made_from import check_current, made_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

logger = logging.getLogger(__name__)

_COLUMNS = ["cluster", "gene_set", "overlap", "size", "share", "odds_ratio", "p", "p_adjusted", "genes"]


def enrichment(
    mdata: MuData,
    *,
    gene_sets: str | Path | Mapping[str, Sequence[str]],
    key: str = Keys.SCMAG,
    markers_key: str | None = None,
    modality: str | None = None,
    gene_symbols: str | None = None,
    max_p_adjusted: float = 0.05,
    min_auroc: float = 0.6,
    n_markers: int = 200,
    min_size: int = 3,
    key_added: str | None = None,
) -> pd.DataFrame:
    """Over-representation of gene sets, as GO terms or pathways, among each cluster's markers (paper, 4.6).

    Fisher's exact test of ``gseapy.enrich``, against all genes that were measured. No network is needed.

    Parameters
    ----------
    mdata
        Markers of :func:`scmag_muon.tl.markers`.
    gene_sets
        A ``.gmt`` file, as MSigDB and g:Profiler offer them, or a mapping of names to genes.
    key
        The ``key_added`` of :func:`scmag_muon.tl.scmag`.
    markers_key
        The ``key_added`` of :func:`scmag_muon.tl.markers`; ``None`` is ``f"{key}_markers"``.
    modality
        Modality whose features are genes; ``None`` takes the first that was ranked.
    gene_symbols
        Column of ``var`` that holds the names used in the gene sets; ``None`` takes the feature names.
    max_p_adjusted, min_auroc, n_markers
        Which markers count: those with at most this adjusted p and at least this AUROC, the best ``n_markers`` of them.
    min_size
        Leave out gene sets of which fewer genes were measured.
    key_added
        Name under which the table is written; ``None`` is ``f"{key}_enrichment"``.

    Returns
    -------
    A row per cluster and gene set that share a gene, the smallest p first: ``cluster``, ``gene_set``, ``overlap`` (genes
    shared), ``size`` (genes of the set that were measured), ``share`` (their ratio), ``odds_ratio``, ``p``, ``p_adjusted``
    (Benjamini-Hochberg within the cluster), ``genes`` (shared, joined by ``;``). Written to ``mdata.uns[key_added]`` as
    ``table``, with ``params``.

    Raises
    ------
    ImportError
        Where gseapy is not installed.
    KeyError
        Where there are no markers, or no such column.
    FileNotFoundError
        Where there is no such file.
    TypeError
        Where ``gene_sets`` is neither a mapping nor a file.
    ValueError
        Where no gene set has ``min_size`` genes among those measured, or clusters have changed since they were ranked.

    Notes
    -----
    The background is the genes that were *measured*, not the genome. With only highly variable genes in the data, even that
    background is chosen, and enrichment of what varies is partly built in.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3)
    >>> ranked = smm.tl.markers(mdata, groupby="cell_type")
    >>> best = ranked[(ranked["modality"] == "rna") & (ranked["cluster"] == "type_1")]["feature"]
    >>> sets = {"made of the best": list(best[:8]), "made of the worst": list(best[-8:])}
    >>> table = smm.tl.enrichment(mdata, gene_sets=sets, min_auroc=0.55)
    >>> table["gene_set"].iloc[0]
    'made of the best'
    """
    check_number("max_p_adjusted", max_p_adjusted, low=0, high=1)
    check_number("min_auroc", min_auroc, low=0, high=1)
    check_number("n_markers", n_markers, integer=True, low=1)
    check_number("min_size", min_size, integer=True, low=1)
    _mudata.check_mudata(mdata)
    gseapy = _gseapy()
    markers_key = markers_key or Keys.markers(key)
    if markers_key not in mdata.uns:
        raise KeyError(f"No markers in mdata.uns[{markers_key!r}]. Rank them with scmag_muon.tl.markers(mdata).")
    check_current(mdata, markers_key, f"scmag_muon.tl.markers(mdata, key={key!r})")
    if key_added is None:
        key_added = Keys.enrichment(key)
    else:
        check_key(key_added, argument="key_added")
    _mudata.check_free_record(mdata, key_added, "enrichment", argument="key_added")
    ranked = mdata.uns[markers_key]["table"]
    modality = modality or str(ranked["modality"].iloc[0])
    ranked = ranked[ranked["modality"].astype(str) == modality]
    if ranked.empty:
        raise KeyError(f"mdata.uns[{markers_key!r}] ranks no features of modality {modality!r}.")
    genes = ranked["feature"].astype(str)
    if gene_symbols is not None:
        if gene_symbols not in mdata.mod[modality].var:
            raise KeyError(f"gene_symbols={gene_symbols!r} names no column of mdata[{modality!r}].var.")
        genes = genes.map(mdata.mod[modality].var[gene_symbols].astype(str))
    ranked = ranked.assign(gene=genes.to_numpy())
    background = sorted(set(ranked["gene"].dropna()))
    sets, name = _measured(gene_sets, set(background), min_size)
    tables = []
    for cluster, of_cluster in ranked.groupby(ranked["cluster"].astype(str), sort=False):
        good = of_cluster[(of_cluster["p_adjusted"] <= max_p_adjusted) & (of_cluster["auroc"] >= min_auroc)]
        chosen = list(dict.fromkeys(good["gene"].dropna()))[:n_markers]
        if set(chosen) & {gene for members in sets.values() for gene in members}:
            tables.append(_test(gseapy, str(cluster), chosen, sets, background))
        else:
            logger.info("Cluster %s: none of its %d markers is in any gene set.", cluster, len(chosen))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=_COLUMNS)
    params = {
        "markers_key": markers_key,
        "modality": modality,
        "gene_sets": name,
        "gene_symbols": gene_symbols,
        "max_p_adjusted": max_p_adjusted,
        "min_auroc": min_auroc,
        "n_markers": n_markers,
        "n_background": len(background),
    }
    sources = made_from(mdata, tables=[markers_key])
    contents = {"params": params, "table": table}
    mdata.uns[key_added] = _mudata.make_record("enrichment", contents, made_from=sources, key=key)
    return table


def read_gmt(path: str | Path) -> dict[str, list[str]]:
    """Gene sets of a ``.gmt`` file: a line per set, tab-separated: name, description, genes."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Gene sets as .gmt can be had from MSigDB or g:Profiler.")
    sets = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, *rest = line.rstrip().split("\t")
        if len(rest) >= 2:
            sets[name] = [gene for gene in rest[1:] if gene]
    if not sets:
        raise ValueError(f"{path} holds no gene set: a line needs a name, a description and genes, separated by tabs.")
    return sets


def _gseapy() -> Any:
    try:
        import gseapy
    except ImportError:
        raise ImportError("Enrichment needs gseapy. Install it with: pip install 'gseapy>=1.1'") from None
    return gseapy


def _measured(
    gene_sets: str | Path | Mapping[str, Sequence[str]], measured: set[str], min_size: int
) -> tuple[dict[str, list[str]], str]:
    if isinstance(gene_sets, (str, Path)):
        all_sets: Mapping[str, Sequence[str]] = read_gmt(gene_sets)
        source = Path(gene_sets).name
    elif isinstance(gene_sets, Mapping):
        all_sets, source = gene_sets, "mapping"
    else:
        raise TypeError(f"`gene_sets` must map names to genes, or name a .gmt file, got {type(gene_sets).__name__}.")
    sets = {str(name): sorted(set(map(str, genes)) & measured) for name, genes in all_sets.items()}
    kept = {name: genes for name, genes in sets.items() if len(genes) >= max(min_size, 1)}
    if not kept:
        theirs = next((str(gene) for genes in all_sets.values() for gene in genes), "no gene")
        raise ValueError(
            f"None of the {len(sets)} gene sets has {min_size} of the measured genes: they hold names as {theirs!r}, the data as "
            f"{min(measured, default='')!r}. Is it the same species and kind of name? gene_symbols= names another column."
        )
    return kept, source


def _test(
    gseapy: Any, cluster: str, chosen: list[str], sets: dict[str, list[str]], background: list[str]
) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' warnings of gseapy's own tables
        found = gseapy.enrich(
            gene_list=chosen, gene_sets=sets, background=background, outdir=None, no_plot=True, cutoff=1.0
        ).results
    overlap = found["Overlap"].str.split("/", expand=True).astype(int)
    table = pd.DataFrame(
        {
            "cluster": cluster,
            "gene_set": found["Term"],
            "overlap": overlap[0],
            "size": overlap[1],
            "share": overlap[0] / overlap[1],
            "odds_ratio": found["Odds Ratio"].astype(float),
            "p": found["P-value"].astype(float),
            "p_adjusted": found["Adjusted P-value"].astype(float),
            "genes": found["Genes"],
        }
    )
    return table.sort_values("p", kind="stable")
