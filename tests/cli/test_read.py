from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon._cli._read import read

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

COUNTS = np.array([[1, 0, 2, 0, 7], [0, 3, 0, 4, 0], [5, 0, 0, 6, 8]], dtype=np.int32)
TYPES = ["Gene Expression"] * 3 + ["Antibody Capture"] * 2


def write_10x(path: Path, types: list[str]) -> None:
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
        features["feature_type"] = np.array([each.encode() for each in types])
        features["genome"] = np.array([b"GRCh38"] * 5)


def joined() -> AnnData:
    return AnnData(
        sp.csr_matrix(COUNTS, dtype=np.float32),
        obs=pd.DataFrame({"donor": ["a", "a", "b"]}, index=["c0", "c1", "c2"]),
        var=pd.DataFrame({"feature_types": TYPES}, index=["CD4", "LYZ", "MS4A1", "ADT_CD4", "ADT_CD8"]),
    )


def assert_split(mdata: MuData, second: str = "prot") -> None:
    assert list(mdata.mod) == ["rna", second]
    np.testing.assert_array_equal(mdata["rna"].X.toarray(), COUNTS[:, :3])
    np.testing.assert_array_equal(mdata[second].X.toarray(), COUNTS[:, 3:])
    assert all(adata.var_names.is_unique for adata in mdata.mod.values())


@pytest.mark.parametrize(("kind", "name"), [("Antibody Capture", "prot"), ("Peaks", "atac")])
def test_10x(tmp_path: Path, kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_10x(tmp_path / "matrix.h5", TYPES[:3] + [kind] * 2)
    mdata = read(tmp_path / "matrix.h5")
    assert_split(mdata, name)
    assert list(mdata["rna"].var_names) == ["CD4", "CD4-1", "LYZ"]
    assert capsys.readouterr().out == ""


def test_10x_of_rna_alone(tmp_path: Path) -> None:
    write_10x(tmp_path / "matrix.h5", ["Gene Expression"] * 5)
    mdata = read(tmp_path / "matrix.h5")
    assert list(mdata.mod) == ["rna"]
    np.testing.assert_array_equal(mdata["rna"].X.toarray(), COUNTS)


def test_10x_of_an_old_version(tmp_path: Path) -> None:
    write_10x(tmp_path / "matrix.h5", TYPES)
    with h5py.File(tmp_path / "matrix.h5", "r+") as file:
        file.move("matrix", "GRCh38")
        file.move("GRCh38/features/id", "GRCh38/genes")
        file.move("GRCh38/features/name", "GRCh38/gene_names")
        del file["GRCh38/features"]
    mdata = read(tmp_path / "matrix.h5")
    assert list(mdata["rna"].var_names) == ["CD4", "CD4-1", "LYZ", "CD4-2", "CD8"]
    np.testing.assert_array_equal(mdata["rna"].X.toarray(), COUNTS)


@pytest.mark.parametrize("prefix", ["", "GSM1_"])
def test_10x_folder(tmp_path: Path, prefix: str) -> None:
    write_10x_folder(tmp_path, prefix)
    assert_split(read(tmp_path))
    (tmp_path / "other_matrix.mtx.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="holds 2 matrices"):
        read(tmp_path)


def test_10x_folder_of_an_old_version(tmp_path: Path) -> None:
    scipy.io.mmwrite(tmp_path / "matrix.mtx", sp.coo_matrix(COUNTS.T))
    (tmp_path / "genes.tsv").write_text("E1\tCD4\nE2\tCD4\nE3\tLYZ\nE4\tNKG7\nE5\tMS4A1\n")
    (tmp_path / "barcodes.tsv").write_text("AAA-1\nCCC-1\nGGG-1\n")
    np.testing.assert_array_equal(read(tmp_path)["rna"].X.toarray(), COUNTS)


def test_10x_folder_that_lacks_a_file(tmp_path: Path) -> None:
    write_10x_folder(tmp_path, "")
    (tmp_path / "barcodes.tsv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"barcodes\.tsv\.gz"):
        read(tmp_path)


def write_10x_folder(folder: Path, prefix: str) -> None:
    names = ["CD4", "LYZ", "MS4A1", "ADT_CD4", "ADT_CD8"]
    lines = "".join(f"E{i}\t{name}\t{kind}\n" for i, (name, kind) in enumerate(zip(names, TYPES, strict=True)))
    with gzip.open(folder / f"{prefix}matrix.mtx.gz", "wb") as file:
        scipy.io.mmwrite(file, sp.coo_matrix(COUNTS.T))
    (folder / f"{prefix}features.tsv.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / f"{prefix}barcodes.tsv.gz").write_bytes(gzip.compress(b"AAA-1\nCCC-1\nGGG-1\n"))


def test_h5ad_of_layers_alone(tmp_path: Path) -> None:
    adata = joined()
    adata.layers["counts"], adata.X = adata.X, None
    adata.write_h5ad(tmp_path / "a.h5ad")
    mdata = read(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(mdata["prot"].layers["counts"].toarray(), COUNTS[:, 3:])


def test_h5ad_with_cells_of_one_name(tmp_path: Path) -> None:
    adata = joined()
    adata.obs_names = ["c0", "c1", "c1"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"1 cells whose names others have, the first 'c1'"):
        read(tmp_path / "a.h5ad")
    adata.obs_names_make_unique()
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert_split(read(tmp_path / "a.h5ad"))


def test_h5ad_with_features_of_no_type(tmp_path: Path) -> None:
    adata = joined()
    adata.var["feature_types"] = pd.Categorical([*TYPES[:4], None])
    adata.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"1 features without a type in var\['feature_types'\], the first 'ADT_CD8'"):
        read(tmp_path / "a.h5ad")
    adata = adata[:, adata.var["feature_types"].notna()].copy()
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert read(tmp_path / "a.h5ad")["prot"].n_vars == 1


@pytest.mark.parametrize(("types", "names"), [([1, 2], ["1", "2"]), (["RNA/gene", "a"], ["RNA_gene", "a"])])
def test_h5ad_with_types_that_name_no_modality(tmp_path: Path, types: list[Any], names: list[str]) -> None:
    adata = joined()
    adata.var["feature_types"] = np.repeat(types, [3, 2])
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert list(read(tmp_path / "a.h5ad").mod) == names


def test_h5ad_with_proteins_that_are_no_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    adata = joined()[:, :3].copy()
    adata.obsm["protein_expression"] = np.log1p(COUNTS[:, 3:])
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert list(read(tmp_path / "a.h5ad").mod) == ["rna"]
    assert "obsm['protein_expression'] of" in caplog.text
    assert "holds no counts, and is left out" in caplog.text


def test_h5ad_by_feature_types(tmp_path: Path) -> None:
    joined().write_h5ad(tmp_path / "a.h5ad")
    mdata = read(tmp_path / "a.h5ad")
    assert_split(mdata)
    assert mdata.obs["donor"].tolist() == ["a", "a", "b"]


@pytest.mark.parametrize("how", ["frame", "named", "nameless", "sparse"])
def test_h5ad_with_proteins_in_obsm(tmp_path: Path, how: str) -> None:
    adata = joined()[:, :3].copy()
    values: Any = COUNTS[:, 3:].astype(float)
    if how == "frame":
        values = pd.DataFrame(values, index=adata.obs_names, columns=["CD4", "CD8"])
    if how == "sparse":
        values = sp.csr_matrix(values)
    if how in ("named", "sparse"):
        adata.uns["protein_names"] = np.array(["CD4", "CD8"], dtype=object)
    adata.obsm["protein_expression"] = values
    adata.obsm["X_pca_protein"] = np.array([[-0.5], [0.2], [1]])  # no counts, so no proteins
    adata.write_h5ad(tmp_path / "a.h5ad")
    mdata = read(tmp_path / "a.h5ad")
    assert_split(mdata)
    names = ["protein_1", "protein_2"] if how == "nameless" else ["CD4", "CD8"]
    assert list(mdata["prot"].var_names) == names
    assert mdata.obs["donor"].tolist() == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("kind", "name"), [("Gene Expression", "rna"), ("Antibody Capture", "prot"), ("Peaks", "atac"), (None, "rna")]
)
def test_h5ad_of_one_modality(tmp_path: Path, kind: str | None, name: str, caplog: pytest.LogCaptureFixture) -> None:
    adata = joined()
    adata.var = pd.DataFrame(index=["MALAT1", "LYZ", "NKG7", "FOXP3", "ACTB"])
    if kind is not None:
        adata.var["feature_types"] = kind
    adata.write_h5ad(tmp_path / "one.h5ad")
    with caplog.at_level("INFO", "scmag_muon"):
        mdata = read(tmp_path / "one.h5ad")
    assert list(mdata.mod) == [name]
    np.testing.assert_array_equal(mdata[name].X.toarray(), COUNTS)
    assert mdata.obs["donor"].tolist() == ["a", "a", "b"]
    assert "holds one modality. It is taken as " in caplog.text


def test_h5ad_that_does_not_say_which(tmp_path: Path) -> None:
    adata = joined()[:, :3].copy()
    adata.obsm["protein_a"] = adata.obsm["protein_b"] = COUNTS[:, 3:].astype(float)
    adata.write_h5ad(tmp_path / "two.h5ad")
    with pytest.raises(ValueError, match=r"these may be proteins: \['protein_a', 'protein_b'\]"):
        read(tmp_path / "two.h5ad")
    hashtags = joined()
    hashtags.var["feature_types"] = "Multiplexing Capture"
    hashtags.write_h5ad(tmp_path / "hashtags.h5ad")
    with pytest.raises(ValueError, match="holds hashtags.* alone, which does not tell types of cells"):
        read(tmp_path / "hashtags.h5ad")


@pytest.mark.parametrize("suffix", [".zarr", ".h5mu", ".h5"])
def test_what_is_inside_counts(counts: MuData, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cells{suffix}"
    (counts.write_zarr if suffix == ".zarr" else counts.write_h5mu)(path)
    mdata = read(path)
    assert {name: adata.shape for name, adata in mdata.mod.items()} == {"rna": (180, 60), "prot": (180, 10)}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no HDF5 file: it is empty"),
        (b"<!DOCTYPE html>", "perhaps a download that failed"),
        (b"\x1f\x8b\x08", "unpack it with gunzip"),
        (b"PK\x03\x04", "unpack it with unzip"),
        (b"gene,cell\n1,2\n", "is no HDF5 file. The input must be"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "cells.h5mu").write_bytes(content)
    with pytest.raises(ValueError, match=why):
        read(tmp_path / "cells.h5mu")


def test_hdf5_of_another_kind(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["layer"] = 1
        file["matrix"] = 1  # as loom has it
    with pytest.raises(ValueError, match=r"HDF5 file of another kind, with \['layer', 'matrix'\]"):
        read(tmp_path / "weights.h5")


def test_cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="is cut short. Copy or download it again"):
        read(file)


def test_damaged_inside(file: Path) -> None:
    with h5py.File(file, "r+") as data:
        del data["mod/rna/X/indptr"]
    with pytest.raises(ValueError, match=r"in\.h5mu can't be read: "):
        read(file)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder and no zarr store. The input"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read(tmp_path / "none.h5mu")


def test_being_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object) -> None:
        raise BlockingIOError(11, "Unable to synchronously open file (unable to lock file, errno = 11)")

    monkeypatch.setattr(h5py, "File", locked)
    with pytest.raises(ValueError, match="is being written by another program"):
        read(file)


def test_the_input_is_as_it_was(file: Path) -> None:
    before = file.read_bytes()
    read(file)
    assert file.read_bytes() == before
    assert mudata.read_h5mu(file).n_obs == 180
