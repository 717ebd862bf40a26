from __future__ import annotations

import functools
import hashlib
import http.server
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon.datasets import _fetch
from scmag_muon.tl._enrichment import read_gmt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mudata import MuData

CITESEQ = "pbmc_10k_protein_v3_filtered_feature_bc_matrix.h5"
COUNTS = np.array([[1, 0, 2, 0, 7], [0, 3, 0, 4, 0], [5, 0, 0, 6, 8]], dtype=np.int32)
LOADERS = [smm.datasets.pbmc10k_citeseq, smm.datasets.pbmc3k_multiome, smm.datasets.pbmc10k_multiome]


def write_10x(path: Path, second: str = "Antibody Capture") -> None:
    """Three cells, three genes of which two share a name, two features of another type."""
    matrix = sp.csc_matrix(COUNTS.T)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array([b"AAA-1", b"CCC-1", b"GGG-1"])
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        group["shape"] = matrix.shape
        features = group.create_group("features")
        features["id"] = np.array([b"E1", b"E2", b"E3", b"x", b"y"])
        features["name"] = np.array([b"CD4", b"CD4", b"LYZ", b"CD4", b"CD8"])
        features["feature_type"] = np.array([b"Gene Expression"] * 3 + [second.encode()] * 2)
        features["genome"] = np.array([b"GRCh38"] * 5)


@pytest.fixture(autouse=True)
def _no_folders_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SCMAG_MUON_DATA", raising=False)
    monkeypatch.setenv("SCMAG_MUON_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands in for the web: the CITE-seq set is fetched from it over HTTP."""
    folder = tmp_path / "web"
    folder.mkdir()
    write_10x(folder / CITESEQ)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        use_file(monkeypatch, f"http://127.0.0.1:{server.server_port}/{CITESEQ}", None)
        yield folder
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


def use_file(monkeypatch: pytest.MonkeyPatch, url: str, known_hash: str | None) -> None:
    monkeypatch.setitem(_fetch.FILES, "pbmc10k_citeseq", _fetch.File(url, known_hash))


def assert_is_the_small_set(mdata: MuData, second: str) -> None:
    assert list(mdata.mod) == ["rna", second]
    np.testing.assert_array_equal(mdata["rna"].X.toarray(), COUNTS[:, :3])
    np.testing.assert_array_equal(mdata[second].X.toarray(), COUNTS[:, 3:])
    assert list(mdata["rna"].var_names) == ["CD4", "CD4-1", "LYZ"]
    assert list(mdata["rna"].var["gene_ids"]) == ["E1", "E2", "E3"]
    assert list(mdata.obs_names) == ["AAA-1", "CCC-1", "GGG-1"]
    assert mdata["rna"].X.dtype == np.float32


def test_a_folder_stands_in_for_the_download(tmp_path: Path) -> None:
    write_10x(tmp_path / CITESEQ)
    assert_is_the_small_set(smm.datasets.pbmc10k_citeseq(folder=tmp_path), "prot")


def test_the_environment_names_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_10x(tmp_path / "pbmc_granulocyte_sorted_3k_filtered_feature_bc_matrix.h5", "Peaks")
    monkeypatch.setenv("SCMAG_MUON_DATA", str(tmp_path))
    assert_is_the_small_set(smm.datasets.pbmc3k_multiome(), "atac")


@pytest.mark.parametrize("loader", LOADERS)
def test_a_folder_without_the_file_is_named(loader: Callable[..., MuData], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file .*\.h5 in the folder .* It is at https://"):
        loader(folder=tmp_path)


def test_a_folder_given_is_the_only_place_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_10x(tmp_path / CITESEQ)
    monkeypatch.setenv("SCMAG_MUON_DATA", str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="There is no file"):
        smm.datasets.pbmc10k_citeseq(folder=tmp_path / "empty")


def test_fetched_once_and_its_hash_told(served: Path, caplog: pytest.LogCaptureFixture) -> None:
    sha256 = hashlib.sha256((served / CITESEQ).read_bytes()).hexdigest()
    with caplog.at_level(logging.WARNING, "scmag_muon"):
        assert_is_the_small_set(smm.datasets.pbmc10k_citeseq(), "prot")
    assert f"has sha256 {sha256}" in caplog.text
    caplog.clear()
    (served / CITESEQ).unlink()
    smm.datasets.pbmc10k_citeseq()
    assert "sha256" not in caplog.text


def test_a_known_hash_is_compared(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _fetch.FILES["pbmc10k_citeseq"].url
    use_file(monkeypatch, url, "md5:" + hashlib.md5((served / CITESEQ).read_bytes()).hexdigest())
    assert_is_the_small_set(smm.datasets.pbmc10k_citeseq(), "prot")
    (Path(_fetch.os.environ["SCMAG_MUON_CACHE"]) / CITESEQ).unlink()
    use_file(monkeypatch, url, "md5:" + 32 * "0")
    with pytest.raises(ValueError, match="does not match the known hash"):
        smm.datasets.pbmc10k_citeseq()


def test_without_a_network_the_error_says_what_to_do(served: Path) -> None:
    (served / CITESEQ).unlink()
    with pytest.raises(ConnectionError, match=r"Could not fetch http.*datasets\.pbmc10k_citeseq\(folder=\.\.\.\)"):
        smm.datasets.pbmc10k_citeseq()


def test_every_address_ends_in_a_file_name() -> None:
    for file in _fetch.FILES.values():
        assert file.url.startswith("https://")
        assert Path(file.name).suffix in {".h5", ".h5ad", ".gmt"}
        assert file.known_hash is None or file.known_hash.partition(":")[0] in {"md5", "sha256"}


@pytest.mark.parametrize("as_frame", [True, False])
def test_spleen_lymph(tmp_path: Path, as_frame: bool) -> None:
    obs = pd.DataFrame({"cell_types": ["B", "T", "B"], "batch": ["D1", "D1", "D2"]}, index=["a", "b", "c"])
    adata = AnnData(sp.csr_matrix(COUNTS[:, :3], dtype=np.float32), obs=obs)
    frame = pd.DataFrame(COUNTS[:, 3:], index=obs.index, columns=["ADT_CD4", "ADT_CD8"])
    adata.obsm["protein_expression"] = frame if as_frame else frame.to_numpy()
    adata.uns["protein_names"] = np.array(frame.columns, dtype=object)
    adata.write_h5ad(tmp_path / "sln_208.h5ad")
    mdata = smm.datasets.spleen_lymph(panel="206", folder=tmp_path)
    np.testing.assert_array_equal(mdata["prot"].X.toarray(), COUNTS[:, 3:])
    assert list(mdata["prot"].var_names) == ["ADT_CD4", "ADT_CD8"]
    assert mdata.obs["cell_type"].tolist() == ["B", "T", "B"]
    assert mdata.obs["batch"].cat.categories.tolist() == ["D1", "D2"]


def test_unknown_panel() -> None:
    with pytest.raises(ValueError, match='`panel` must be "111" or "206", got 208'):
        smm.datasets.spleen_lymph(panel=208)


def test_gene_sets_are_compared_with_the_hash_given(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _fetch.FILES["pbmc10k_citeseq"].url.replace(CITESEQ, "h.gmt")
    monkeypatch.setitem(_fetch.FILES, "hallmark_gene_sets", _fetch.File(url, None))
    (served / "h.gmt").write_text("HALLMARK_A\thttp://a\tCD4\tLYZ\n")
    sha256 = "sha256:" + hashlib.sha256((served / "h.gmt").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="does not match the known hash"):
        smm.datasets.hallmark_gene_sets(known_hash="sha256:" + 64 * "0")
    path = smm.datasets.hallmark_gene_sets(known_hash=sha256)
    assert read_gmt(path) == {"HALLMARK_A": ["CD4", "LYZ"]}
    assert smm.datasets.hallmark_gene_sets(folder=served) == served / "h.gmt"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><title>Log in</title>", "it is a web page"),
        (b"  <html>", "it is a web page"),
        (b"Not found", "it is no whole HDF5 file"),
        (None, "it is no whole HDF5 file"),
    ],
)
def test_what_comes_is_checked_before_it_is_kept(
    served: Path, content: bytes | None, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (served / CITESEQ).read_bytes()
    (served / CITESEQ).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=rf"gave no file of the right kind: {fault}.*pbmc10k_citeseq\(folder="):
        smm.datasets.pbmc10k_citeseq()
    cache = Path(_fetch.os.environ["SCMAG_MUON_CACHE"])
    assert list(cache.iterdir()) == []
    (served / CITESEQ).write_bytes(whole)
    assert_is_the_small_set(smm.datasets.pbmc10k_citeseq(), "prot")


def test_a_damaged_file_in_the_cache_is_named(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smm.datasets.pbmc10k_citeseq()
    kept = Path(_fetch.os.environ["SCMAG_MUON_CACHE"]) / CITESEQ
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-500])
    with pytest.raises(ValueError, match=f"The file {kept} in the cache is damaged: .* Delete it"):
        smm.datasets.pbmc10k_citeseq()
    kept.write_bytes(whole)
    use_file(monkeypatch, _fetch.FILES["pbmc10k_citeseq"].url, "md5:" + 32 * "0")
    with pytest.raises(ValueError, match="does not match the known hash md5:0"):
        smm.datasets.pbmc10k_citeseq()


def test_a_cache_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("")
    monkeypatch.setenv("SCMAG_MUON_CACHE", str(tmp_path / "text" / "cache"))
    with pytest.raises(PermissionError, match=r"The cache .* can't be written to: .*SCMAG_MUON_CACHE"):
        smm.datasets.pbmc10k_citeseq()


def test_gene_sets_that_are_none(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = _fetch.FILES["pbmc10k_citeseq"].url.replace(CITESEQ, "h.gmt")
    monkeypatch.setitem(_fetch.FILES, "hallmark_gene_sets", _fetch.File(url, None))
    (served / "h.gmt").write_text("Please log in\n")
    with pytest.raises(ValueError, match="its first line is no gene set"):
        smm.datasets.hallmark_gene_sets()
