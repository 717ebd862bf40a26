"""Public sets of the paper, fetched once and kept in a cache."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import anndata
import pandas as pd
import pooch
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger(__name__)

_MODALITIES = {"Gene Expression": "rna", "Antibody Capture": "prot", "Peaks": "atac"}
_TENX = "https://cf.10xgenomics.com/samples"


class _File(NamedTuple):
    url: str
    known_hash: str | None  # None: nobody is known to publish one; the sha256 of what came is then logged

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


# The md5 sums are those in the source of PMBio/mudatasets, the sha256 is that in a public download script of another
# project. None of them was computed by us.
_FILES = {
    "pbmc10k_citeseq": _File(
        f"{_TENX}/cell-exp/3.0.0/pbmc_10k_protein_v3/pbmc_10k_protein_v3_filtered_feature_bc_matrix.h5", None
    ),
    "pbmc3k_multiome": _File(
        f"{_TENX}/cell-arc/1.0.0/pbmc_granulocyte_sorted_3k/pbmc_granulocyte_sorted_3k_filtered_feature_bc_matrix.h5",
        "md5:41925fd911399ee12174407334aba0c3",
    ),
    "pbmc10k_multiome": _File(
        f"{_TENX}/cell-arc/1.0.0/pbmc_granulocyte_sorted_10k/pbmc_granulocyte_sorted_10k_filtered_feature_bc_matrix.h5",
        "md5:920b16bf1e63b6610bf74bf9040ed386",
    ),
    "spleen_lymph_111": _File(
        "https://exampledata.scverse.org/scvi-tools/sln_111.h5ad",
        "sha256:2098ca88739a9d2d789cb092481c326d7bcbfa73ca815ce3e80b7668cffbe452",
    ),
    "spleen_lymph_206": _File("https://github.com/YosefLab/scVI-data/raw/master/sln_208.h5ad", None),
    "hallmark_gene_sets": _File(
        "https://data.broadinstitute.org/gsea-msigdb/msigdb/release/2023.2.Hs/h.all.v2023.2.Hs.symbols.gmt", None
    ),
}


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
    return _read_10x(_fetch("pbmc10k_citeseq", folder))


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
    return _read_10x(_fetch("pbmc3k_multiome", folder))


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
    return _read_10x(_fetch("pbmc10k_multiome", folder))


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
    adata = anndata.read_h5ad(_fetch(f"spleen_lymph_{panel}", folder))
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
    """The 50 hallmark gene sets of human MSigDB (release 2023.2), as a ``.gmt`` file of gene symbols.

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
    >>> import scmag_muon as smm
    >>> gene_sets = smm.datasets.hallmark_gene_sets()  # doctest: +SKIP
    >>> smm.tl.enrichment(mdata, gene_sets)  # doctest: +SKIP
    """
    return _fetch("hallmark_gene_sets", folder, known_hash)


def _fetch(name: str, folder: str | os.PathLike[str] | None, known_hash: str | None = None) -> Path:
    """Path of the file, from the first of: the folder given, ``SCMAG_MUON_DATA``, the cache, its address."""
    file = _FILES[name]
    local = os.environ.get("SCMAG_MUON_DATA") if folder is None else folder
    if local and (Path(local) / file.name).exists():
        return Path(local) / file.name
    if folder is not None:
        raise FileNotFoundError(
            f"There is no file {file.name} in the folder {os.fspath(folder)!r}. It is at {file.url}."
        )
    cache = Path(os.environ.get("SCMAG_MUON_CACHE") or pooch.os_cache("scmag_muon"))
    new = not (cache / file.name).exists()
    known_hash = known_hash or file.known_hash
    try:
        path = pooch.retrieve(file.url, known_hash=known_hash, fname=file.name, path=cache)
    except OSError as error:
        raise ConnectionError(
            f"Could not fetch {file.url}: {error}. Where there is no network, bring the file here by other means and name "
            f"its folder, as in scmag_muon.datasets.{name.removesuffix('_111').removesuffix('_206')}(folder=...)."
        ) from error
    if new and known_hash is None:
        logger.warning("No checksum of %s is known. The file fetched has sha256 %s.", file.name, pooch.file_hash(path))
    return Path(path)


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
