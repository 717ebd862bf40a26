"""Public sets of the paper, fetched once and kept in a cache."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import anndata
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon._mudata import make_mudata
from scmag_muon.datasets._fetch import fetch

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from mudata import MuData

_MODALITIES = {"Gene Expression": "rna", "Antibody Capture": "prot", "Peaks": "atac"}


def pbmc10k_citeseq(*, folder: str | os.PathLike[str] | None = None) -> MuData:
    """Human blood cells with RNA and surface proteins (10x Genomics ``pbmc_10k_protein_v3``).

    The filtered matrix as 10x publishes it: no cell is left out, isotype controls are among the proteins, and there are no
    labels.

    Parameters
    ----------
    folder
        Folder that holds the file under its own name, in place of a download. Else the folder that the environment variable
        ``SCMAG_MUON_DATA`` names, where the file is in it; else the cache, filled by a download on the first call.

    Returns
    -------
    MuData
        Modalities ``"rna"`` and ``"prot"`` with integer counts in ``.X`` (CSR, float32).

    Raises
    ------
    FileNotFoundError
        Where ``folder`` is given and does not hold the file.
    ConnectionError
        Where the file must be fetched and can't be.
    PermissionError
        Where the cache can't be written to.
    ValueError
        Where the download or the file in the cache is damaged or of another kind.

    Notes
    -----
    The cache is the folder that the environment variable ``SCMAG_MUON_CACHE`` names, else the user's cache folder
    (:func:`pooch.os_cache`). Downloads are compared with a checksum where one is published; for this file none is known to
    us, so the sha256 of what came is logged as a warning, for you to compare.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.pbmc10k_citeseq()  # doctest: +SKIP
    """
    return _read_10x(fetch("pbmc10k_citeseq", folder))


def pbmc3k_multiome(*, folder: str | os.PathLike[str] | None = None) -> MuData:
    """Human blood cells with RNA and open chromatin, the small set (10x Genomics ``pbmc_granulocyte_sorted_3k``).

    The filtered matrix of Cell Ranger ARC 1.0.0 as 10x publishes it: no cell is left out, and there are no labels.

    Parameters
    ----------
    folder
        As for :func:`pbmc10k_citeseq`.

    Returns
    -------
    MuData
        Modalities ``"rna"`` and ``"atac"`` (peaks) with integer counts in ``.X`` (CSR, float32).

    Raises
    ------
    FileNotFoundError
        Where ``folder`` is given and does not hold the file.
    ConnectionError
        Where the file must be fetched and can't be.
    ValueError
        Where the download does not have the known checksum.

    Notes
    -----
    The download is compared with the md5 sum that the package ``mudatasets`` gives.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.pbmc3k_multiome()  # doctest: +SKIP
    """
    return _read_10x(fetch("pbmc3k_multiome", folder))


def pbmc10k_multiome(*, folder: str | os.PathLike[str] | None = None) -> MuData:
    """Human blood cells with RNA and open chromatin, the large set (10x Genomics ``pbmc_granulocyte_sorted_10k``).

    The rest is as for :func:`pbmc3k_multiome`.

    Parameters
    ----------
    folder
        As for :func:`pbmc10k_citeseq`.

    Returns
    -------
    MuData
        Modalities ``"rna"`` and ``"atac"`` (peaks) with integer counts in ``.X`` (CSR, float32).

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.pbmc10k_multiome()  # doctest: +SKIP
    """
    return _read_10x(fetch("pbmc10k_multiome", folder))


def spleen_lymph(*, panel: Literal["111", "206"] = "111", folder: str | os.PathLike[str] | None = None) -> MuData:
    """Cells of mouse spleen and lymph nodes with RNA and surface proteins, on two days (SLN111 and SLN206 of the paper).

    The sets are those of GEO accession GSE150599, read from the files that the authors of totalVI prepared from it, since
    these hold their labels (Gayoso et al. 2021).

    Parameters
    ----------
    panel
        The smaller or the larger panel of antibodies.
    folder
        As for :func:`pbmc10k_citeseq`.

    Returns
    -------
    MuData
        Modalities ``"rna"`` and ``"prot"`` with integer counts in ``.X`` (CSR, float32).

        - ``.obs["cell_type"]`` -- label of the totalVI authors, categorical; doublets and low-quality cells are among them
        - ``.obs["batch"]`` -- mouse and day, categorical

    Raises
    ------
    FileNotFoundError
        Where ``folder`` is given and does not hold the file.
    ConnectionError
        Where the file must be fetched and can't be.
    ValueError
        Where ``panel`` is unknown, or the download does not have the known checksum.

    Notes
    -----
    The smaller set is compared with a sha256 that another project published. For the larger one none is known to us, so the
    sha256 of what came is logged as a warning, for you to compare.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.spleen_lymph(panel="111")  # doctest: +SKIP
    """
    if panel not in ("111", "206"):
        raise ValueError(f'`panel` must be "111" or "206", got {panel!r}.')
    adata = anndata.read_h5ad(fetch(f"spleen_lymph_{panel}", folder))
    proteins = adata.obsm["protein_expression"]
    if not isinstance(proteins, pd.DataFrame):
        proteins = pd.DataFrame(proteins, columns=adata.uns["protein_names"])
    mods = {
        "rna": _counts_only(adata.X, adata.obs_names, adata.var_names),
        "prot": _counts_only(proteins.to_numpy(), adata.obs_names, pd.Index(proteins.columns.astype(str))),
    }
    obs = adata.obs[["cell_types", "batch"]].astype(str).astype("category")
    return make_mudata(mods, obs.rename(columns={"cell_types": "cell_type"}))


def hallmark_gene_sets(*, folder: str | os.PathLike[str] | None = None, known_hash: str | None = None) -> Path:
    r"""The 50 hallmark gene sets of human MSigDB (release 2023.2), as a ``.gmt`` file of gene symbols.

    Parameters
    ----------
    folder
        As for :func:`pbmc10k_citeseq`.
    known_hash
        Checksum that a download must have, as ``"sha256:..."`` or ``"md5:..."``. We know of none that is published; without one
        the sha256 of what came is logged as a warning, for you to compare and to give here.

    Returns
    -------
    Path
        Where the file is, for :func:`scmag_muon.tl.enrichment`.

    Raises
    ------
    FileNotFoundError
        Where ``folder`` is given and does not hold the file.
    ConnectionError
        Where the file must be fetched and can't be.
    ValueError
        Where the download does not have ``known_hash``.

    Notes
    -----
    Liberzon et al., Cell Systems 2015; licence CC BY 4.0. The cache is that of :func:`pbmc10k_citeseq`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import scmag_muon as smm
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> genes = "\t".join(f"gene_{i}" for i in range(30))
    >>> _ = (folder / "h.all.v2023.2.Hs.symbols.gmt").write_text(f"HALLMARK_X\tabout\t{genes}\n")
    >>> gene_sets = smm.datasets.hallmark_gene_sets(folder=folder)  # without a folder it is fetched
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3)
    >>> table = smm.tl.markers(mdata, groupby="cell_type")
    >>> table = smm.tl.enrichment(mdata, gene_sets=gene_sets, min_auroc=0.55)
    >>> list(table["gene_set"].unique())
    ['HALLMARK_X']
    """
    return fetch("hallmark_gene_sets", folder, known_hash)


def _read_10x(path: Path) -> MuData:
    import scanpy as sc  # slow to import, and the simulators do without

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Variable names are not unique")
        adata = sc.read_10x_h5(path, gex_only=False)
    mods = {}
    for feature_type, name in _MODALITIES.items():
        mask = (adata.var["feature_types"] == feature_type).to_numpy()
        if mask.any():
            mods[name] = _counts_only(adata.X[:, mask], adata.obs_names, adata.var_names[mask])
            for column in ("gene_ids", "feature_types"):
                mods[name].var[column] = adata.var.loc[mask, column].to_numpy()
    return make_mudata(mods)


def _counts_only(values: object, obs_names: pd.Index, var_names: pd.Index) -> AnnData:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Variable names are not unique")
        adata = AnnData(
            sp.csr_matrix(values, dtype="float32"),
            obs=pd.DataFrame(index=obs_names.astype(str)),
            var=pd.DataFrame(index=var_names.astype(str)),
        )
    adata.var_names_make_unique()
    return adata
