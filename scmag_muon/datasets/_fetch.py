"""Files of the public sets: where they are, fetched once, checked before they are kept."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import h5py
import pooch

from scmag_muon._files import written_aside

logger = logging.getLogger(__name__)

_TENX = "https://cf.10xgenomics.com/samples"


class File(NamedTuple):
    url: str
    known_hash: str | None  # None: nobody is known to publish one; the sha256 of what came is then logged

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


# The md5 sums are those in the source of PMBio/mudatasets, the sha256 is that in a public download script of another
# project. None of them was computed by us.
FILES = {
    "pbmc10k_citeseq": File(
        f"{_TENX}/cell-exp/3.0.0/pbmc_10k_protein_v3/pbmc_10k_protein_v3_filtered_feature_bc_matrix.h5", None
    ),
    "pbmc3k_multiome": File(
        f"{_TENX}/cell-arc/1.0.0/pbmc_granulocyte_sorted_3k/pbmc_granulocyte_sorted_3k_filtered_feature_bc_matrix.h5",
        "md5:41925fd911399ee12174407334aba0c3",
    ),
    "pbmc10k_multiome": File(
        f"{_TENX}/cell-arc/1.0.0/pbmc_granulocyte_sorted_10k/pbmc_granulocyte_sorted_10k_filtered_feature_bc_matrix.h5",
        "md5:920b16bf1e63b6610bf74bf9040ed386",
    ),
    "spleen_lymph_111": File(
        "https://exampledata.scverse.org/scvi-tools/sln_111.h5ad",
        "sha256:2098ca88739a9d2d789cb092481c326d7bcbfa73ca815ce3e80b7668cffbe452",
    ),
    "spleen_lymph_206": File("https://github.com/YosefLab/scVI-data/raw/master/sln_208.h5ad", None),
    "hallmark_gene_sets": File(
        "https://data.broadinstitute.org/gsea-msigdb/msigdb/release/2023.2.Hs/h.all.v2023.2.Hs.symbols.gmt", None
    ),
}


def fetch(name: str, folder: str | os.PathLike[str] | None, known_hash: str | None = None) -> Path:
    """Path of the file, from the first of: the folder given, ``SCMAG_MUON_DATA``, the cache, its address."""
    file = FILES[name]
    local = os.environ.get("SCMAG_MUON_DATA") if folder is None else folder
    if local and (Path(local) / file.name).exists():
        return Path(local) / file.name
    if folder is not None:
        raise FileNotFoundError(
            f"There is no file {file.name} in the folder {os.fspath(folder)!r}. It is at {file.url}."
        )
    cache = Path(os.environ.get("SCMAG_MUON_CACHE") or pooch.os_cache("scmag_muon"))
    known_hash = known_hash or file.known_hash
    loader = f"scmag_muon.datasets.{name.removesuffix('_111').removesuffix('_206')}"
    if (cache / file.name).exists():
        _check_kept(cache / file.name, known_hash)
        return cache / file.name
    _check_cache(cache)
    try:
        with written_aside(cache / file.name) as draft:
            pooch.retrieve(file.url, known_hash=known_hash, fname=draft.name, path=draft.parent)
            fault = _fault(draft)
            if fault:
                raise ValueError(
                    f"{file.url} gave no file of the right kind: {fault}. It was not kept. Fetch it by other means and name its "
                    f"folder, as in {loader}(folder=...)."
                )
            sha256 = pooch.file_hash(draft)
    except OSError as error:
        raise ConnectionError(
            f"Could not fetch {file.url}: {error}. Where there is no network, bring the file here by other means and name "
            f"its folder, as in {loader}(folder=...)."
        ) from error
    if known_hash is None:
        logger.warning("No checksum of %s is known. The file fetched has sha256 %s.", file.name, sha256)
    return cache / file.name


def _check_cache(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        raise PermissionError(
            f"The cache {cache} can't be written to: {error.strerror}. Name another folder by the environment variable "
            "SCMAG_MUON_CACHE."
        ) from error


def _check_kept(path: Path, known_hash: str | None) -> None:
    fault = _fault(path)
    if not fault and known_hash is not None and not pooch.hashes.hash_matches(path, known_hash):
        fault = f"it does not match the known hash {known_hash}"
    if fault:
        raise ValueError(f"The file {path} in the cache is damaged: {fault}. Delete it, and it is fetched again.")


def _fault(path: Path) -> str:
    """What shows that a file is not what its name says; empty where nothing does."""
    size = path.stat().st_size
    if size == 0:
        return "it is empty"
    with path.open("rb") as file:
        start = file.read(512).lstrip()
    if start[:1] == b"<":
        return "it is a web page"
    if path.suffix == ".gmt":
        columns = start.split(b"\n")[0].split(b"\t")
        return "" if len(columns) > 2 else "its first line is no gene set"
    try:
        with h5py.File(path, "r") as file:
            return "" if len(file) else "it holds nothing"
    except OSError as error:
        return f"it is no whole HDF5 file ({' '.join(str(error).split())})"
