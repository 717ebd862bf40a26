"""Counts in any storage are read right, and no array of the user's is written to."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon import _mudata, _values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

QUICK = {"n_clusters": 3, "max_epochs_pretrain": 2, "max_epochs": 1, "progress_bar": False, "accelerator": "cpu"}


def repeated(counts: np.ndarray) -> sp.csr_matrix:
    """Every count above 1 is stored in two parts."""
    whole = sp.coo_matrix(counts)
    two = whole.data > 1
    data = np.r_[np.where(two, whole.data - 1, whole.data), np.ones(two.sum(), counts.dtype)]
    row, col = np.r_[whole.row, whole.row[two]], np.r_[whole.col, whole.col[two]]
    order = np.lexsort((col, row))
    indptr = np.r_[0, np.cumsum(np.bincount(row, minlength=counts.shape[0]))]
    return sp.csr_matrix((data[order], col[order], indptr), shape=counts.shape)


def unsorted(counts: np.ndarray) -> sp.csr_matrix:
    matrix = sp.csr_matrix(counts)
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        matrix.indices[start:stop] = matrix.indices[start:stop][::-1].copy()
        matrix.data[start:stop] = matrix.data[start:stop][::-1].copy()
    return sp.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=counts.shape)


def with_zeros(counts: np.ndarray) -> sp.csr_matrix:
    row, col = np.indices(counts.shape)
    indptr = np.arange(counts.shape[0] + 1) * counts.shape[1]
    return sp.csr_matrix((counts.ravel(), col.ravel(), indptr), shape=counts.shape)


def with_spare_room(counts: np.ndarray) -> sp.csr_matrix:
    matrix = sp.csr_matrix(counts)
    spare = np.full(5, 7, matrix.dtype)
    matrix.data, matrix.indices = np.r_[matrix.data, spare], np.r_[matrix.indices, np.zeros(5, np.int32)]
    return matrix


def wide_indices(counts: np.ndarray) -> sp.csr_matrix:
    matrix = sp.csr_matrix(counts)
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "canonical": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csc": sp.csc_matrix,
    "coo": sp.coo_matrix,
    "bsr": lambda counts: sp.bsr_matrix(counts, blocksize=(2, 2)),
    "dok": sp.dok_matrix,
    "lil": sp.lil_matrix,
    "dense": np.array,
    "fortran": np.asfortranarray,
    "matrix": lambda counts: counts.view(np.matrix),
    "repeated": repeated,
    "unsorted": unsorted,
    "unsorted csc": lambda counts: unsorted(counts.T).T,
    "explicit zeros": with_zeros,
    "spare room": with_spare_room,
    "64-bit indices": wide_indices,
}


@pytest.fixture
def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(0.8, (12, 8)) * np.random.default_rng(1).integers(1, 90, (12, 8))


def arrays(matrix: Any) -> list[np.ndarray]:
    parts = [getattr(matrix, name, None) for name in ("data", "indices", "indptr", "row", "col")]
    return (
        [np.asarray(matrix)]
        if isinstance(matrix, np.ndarray)
        else [part for part in parts if isinstance(part, np.ndarray)]
    )


def read_only(matrix: Any) -> Any:
    for part in [matrix] if isinstance(matrix, np.ndarray) else arrays(matrix):
        part.setflags(write=False)
    return matrix


def digest(matrix: Any) -> list[Any]:
    flags = [getattr(matrix, "__dict__", {}).get(name) for name in ("_has_sorted_indices", "_has_canonical_format")]
    return [*(hashlib.sha256(part.tobytes()).hexdigest() for part in arrays(matrix)), flags]


class Holder:
    """What get_counts needs of an AnnData, without AnnData's own conversions."""

    def __init__(self, matrix: Any) -> None:
        self.X, self.layers, self.raw = matrix, {}, None
        self.obs_names = pd.Index([f"cell_{i}" for i in range(matrix.shape[0])])
        self.var_names = pd.Index([f"gene_{i}" for i in range(matrix.shape[1])])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.int16, ">f8", ">i4"])
@pytest.mark.parametrize("form", FORMS)
def test_any_storage_is_read_and_never_written_to(counts: np.ndarray, form: str, dtype: Any) -> None:
    counts = np.minimum(counts, 255).astype(np.dtype(dtype).newbyteorder("="))
    matrix = FORMS[form](counts)
    if np.dtype(dtype).byteorder == ">":
        if form in ("dense", "fortran", "matrix"):
            matrix = matrix.astype(dtype)
        elif form not in ("dok", "lil"):
            matrix.data = matrix.data.astype(dtype)
    matrix = read_only(matrix)
    before = digest(matrix)
    found = _mudata.get_counts(Holder(matrix), modality="rna")
    np.testing.assert_array_equal(found.toarray(), counts)
    assert found.dtype == np.float32
    fresh = sp.csr_array((found.data, found.indices, found.indptr), shape=found.shape)
    assert fresh.has_canonical_format
    assert np.all(found.data != 0)
    assert digest(matrix) == before


def test_bool_and_half_precision(counts: np.ndarray) -> None:
    for dense in (counts > 0, counts.astype(np.float16), counts.astype(np.longdouble)):
        np.testing.assert_array_equal(_mudata.get_counts(Holder(dense), modality="rna").toarray(), dense)
    np.testing.assert_array_equal(
        _mudata.get_counts(Holder(sp.csr_matrix(counts > 0)), modality="rna").toarray(), counts > 0
    )


def test_small_integers_stored_in_parts_do_not_overflow() -> None:
    parts = sp.csr_matrix((np.array([200, 100], np.uint8), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    triplets = sp.coo_matrix((np.array([200, 100], np.uint8), ([0, 0], [1, 1])), shape=(1, 3))
    for matrix in (parts, triplets):
        np.testing.assert_array_equal(_mudata.get_counts(Holder(matrix), modality="rna").toarray(), [[0, 300, 0]])


def test_canonical_counts_are_not_copied(counts: np.ndarray) -> None:
    matrix = sp.csr_matrix(counts.astype(np.float32))
    found = _mudata.get_counts(Holder(matrix), modality="rna")
    assert np.shares_memory(found.data, matrix.data)
    assert np.shares_memory(found.indices, matrix.indices)


def test_dask_and_views_and_masked_arrays(counts: np.ndarray) -> None:
    class Lazy:
        shape = counts.shape

        def compute(self) -> Any:
            return sp.csc_matrix(counts)

    np.testing.assert_array_equal(_mudata.get_counts(Holder(Lazy()), modality="rna").toarray(), counts)
    view = AnnData(unsorted(counts.astype(np.float32)))[::2, ::-1]
    np.testing.assert_array_equal(_mudata.get_counts(view, modality="rna").toarray(), counts[::2, ::-1])
    with pytest.raises(ValueError, match="masked array"):
        _mudata.get_counts(Holder(np.ma.masked_equal(counts, 0)), modality="rna")


@pytest.mark.parametrize("what", ["beyond", "negative"])
def test_a_broken_matrix_is_refused_before_it_ends_python(counts: np.ndarray, what: str) -> None:
    matrix = sp.csr_matrix(counts)
    matrix.indices = matrix.indices.copy()
    matrix.indices[3] = 8 if what == "beyond" else -1
    with pytest.raises(ValueError, match=r"mdata\['rna'\].X is a broken sparse matrix"):
        _mudata.get_counts(Holder(matrix), modality="rna")


@pytest.mark.parametrize("form", ["repeated", "unsorted", "explicit zeros", "canonical", "csc", "dense"])
def test_a_whole_run_leaves_the_users_arrays(citeseq: MuData, form: str) -> None:
    matrices = {}
    for name, adata in citeseq.mod.items():
        adata.X = FORMS[form](adata.X.toarray())
        matrices[name] = read_only(adata.X)
    before = {name: digest(matrix) for name, matrix in matrices.items()}
    fitted = smm.pp.manifold_fit(citeseq, copy=True)
    smm.tl.scmag(citeseq, **QUICK)
    smm.tl.markers(citeseq)
    np.testing.assert_array_equal(fitted.obsm["X_manifold"], citeseq.obsm["X_manifold"])
    for name, adata in citeseq.mod.items():
        assert adata.X is matrices[name]
        assert digest(adata.X) == before[name]


@pytest.mark.parametrize("form", ["repeated", "unsorted", "csc"])
def test_the_model_sees_canonical_counts(citeseq: MuData, form: str) -> None:
    latent = []
    for make in (sp.csr_matrix, FORMS[form]):
        mdata = _mudata.copy_of(citeseq)
        for adata in mdata.mod.values():
            adata.X = read_only(make(adata.X.toarray()))
        smm.pp.manifold_fit(mdata)
        smm.model.SCMAG.setup_mudata(mdata)
        model = smm.model.SCMAG(mdata, n_clusters=3)
        model.train(max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
        latent.append(model.get_latent_representation())
    np.testing.assert_array_equal(*latent)


# --- values that are no counts
def soupx(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.maximum(counts - 0.3 * rng.random(counts.shape), 0) * (counts > 0)


def alevin(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return counts + (rng.random(counts.shape) < 0.05) * (counts > 0) / 3


def normalised(counts: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4


def log_normalised(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.log1p(normalised(counts, rng))


def subset_of_log_normalised(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return log_normalised(counts, rng)[:, ::2]


def square_roots(counts: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.sqrt(counts)


def centred_log_ratio(counts: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.log1p(counts / np.exp(np.log1p(counts).mean(axis=1, keepdims=True)))


def recovered(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.expm1(log_normalised(counts, rng)) / 1e4 * counts.sum(axis=1, keepdims=True)


def recovered_in_single_precision(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    values = np.expm1(log_normalised(counts, rng).astype(np.float32))
    return values / np.float32(1e4) * counts.sum(axis=1, keepdims=True).astype(np.float32)


@pytest.fixture
def large(citeseq: MuData) -> np.ndarray:
    return citeseq["rna"].X.toarray().astype(np.float64)


@pytest.mark.parametrize("make", [recovered, recovered_in_single_precision])
def test_rounding_noise_is_taken_off(large: np.ndarray, make: Callable[..., np.ndarray]) -> None:
    values = make(large, np.random.default_rng(0))
    assert (values != large).any()
    np.testing.assert_array_equal(_mudata.get_counts(Holder(values), modality="rna").toarray(), large)


@pytest.mark.parametrize(("make", "seems"), [(soupx, "ambient correction"), (alevin, "expectation maximisation")])
def test_decimals_are_refused_or_rounded(large: np.ndarray, make: Callable[..., np.ndarray], seems: str) -> None:
    values = make(large, np.random.default_rng(0))
    with pytest.raises(ValueError, match=rf"not integers \(.* in cell 'cell_.*{seems}.*round_counts=True"):
        _mudata.get_counts(Holder(values), modality="rna")
    found = _mudata.get_counts(Holder(values), modality="rna", round_counts=True)
    np.testing.assert_array_equal(found.toarray(), np.rint(values))
    assert np.all(found.data > 0)


@pytest.mark.parametrize(
    "make", [normalised, log_normalised, subset_of_log_normalised, square_roots, centred_log_ratio]
)
@pytest.mark.parametrize("round_counts", [False, True])
def test_normalised_values_are_never_rounded(
    large: np.ndarray, make: Callable[..., np.ndarray], *, round_counts: bool
) -> None:
    holder = Holder(make(large, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="seem to be normalised already.*with layer="):
        _mudata.get_counts(holder, modality="rna", round_counts=round_counts)
    holder.layers = {"scaled": holder.X, "raw": np.rint(holder.X)}
    with pytest.raises(ValueError, match=r"for example layer=\{'rna': 'raw'\}"):
        _mudata.get_counts(holder, modality="rna", round_counts=round_counts)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "NaN or infinite values"),
        (-np.inf, "NaN or infinite values"),
        (-3, "negative values"),
        (2**24 + 2, r"values above 2\*\*24"),
        (1e20, r"values above 2\*\*24"),
    ],
)
@pytest.mark.parametrize("make", [np.array, sp.csr_matrix, sp.csc_matrix])
def test_the_first_wrong_value_is_named(
    counts: np.ndarray, value: float, message: str, make: Callable[..., Any]
) -> None:
    values = counts.astype(np.float64)
    values[3, 5] = values[7, 1] = value
    with pytest.raises(ValueError, match=rf"mdata\['rna'\].X holds {message} \(2 of .*cell 'cell_3', feature 'gene_5'"):
        _mudata.get_counts(Holder(make(values)), modality="rna")


def test_counts_up_to_ten_million_are_taken(counts: np.ndarray) -> None:
    values = np.minimum(counts, 100) * 100_000
    np.testing.assert_array_equal(_mudata.get_counts(Holder(values), modality="rna").toarray(), values)


@pytest.mark.parametrize("values", [np.array([["1", "2"]]), np.array([[1, None]], dtype=object), np.array([[1j, 2]])])
def test_values_that_are_no_numbers_are_refused(values: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"mdata\['rna'\].X holds values of type .*, not numbers"):
        _mudata.get_counts(Holder(values), modality="rna")


# --- rounding goes through all that follows
def test_rounding_is_recorded_and_used_downstream(citeseq: MuData, caplog: pytest.LogCaptureFixture) -> None:
    rounded = _mudata.copy_of(citeseq)
    rng = np.random.default_rng(0)
    citeseq["rna"].X = sp.csr_matrix(soupx(citeseq["rna"].X.toarray(), rng))
    rounded["rna"].X = sp.csr_matrix(np.rint(citeseq["rna"].X.toarray()))
    for verb in (smm.pp.manifold_fit, smm.tl.scmag):
        with pytest.raises(ValueError, match="round_counts=True"):
            verb(citeseq)
    with caplog.at_level(logging.INFO, logger="scmag_muon"):
        smm.tl.scmag(citeseq, round_counts=True, **QUICK)
    assert "have decimals and are rounded" in caplog.text
    smm.tl.scmag(rounded, **QUICK)
    assert citeseq.uns["scmag"]["params"]["round_counts"]
    np.testing.assert_array_equal(citeseq.obsm["X_scmag"], rounded.obsm["X_scmag"])
    pd.testing.assert_frame_equal(smm.tl.markers(citeseq), smm.tl.markers(rounded))
    np.testing.assert_array_equal(_values.counts_in_use(citeseq, "scmag", "rna").toarray(), rounded["rna"].X.toarray())
    with pytest.raises(ValueError, match="made by the model; raw counts are needed"):
        smm.tl.markers(citeseq, layer="scmag")
    with pytest.raises(ValueError, match="round_counts=True"):
        smm.model.SCMAG.setup_mudata(citeseq)
    latent = []
    for mdata, arguments in ((citeseq, {"round_counts": True}), (rounded, {})):
        smm.model.SCMAG.setup_mudata(mdata, **arguments)
        model = smm.model.SCMAG(mdata, n_clusters=3)
        model.train(max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
        latent.append(model.get_latent_representation())
    np.testing.assert_array_equal(*latent)


# --- layers
def test_the_mapping_that_works_is_named(citeseq: MuData) -> None:
    citeseq["rna"].layers["counts"] = citeseq["rna"].X.copy()
    for verb in (smm.pp.manifold_fit, smm.tl.scmag):
        with pytest.raises(
            KeyError, match=r"No layer 'counts' in modality 'prot'.*layer=\{'rna': 'counts', 'prot': None\}"
        ):
            verb(citeseq, layer="counts")
        with pytest.raises(KeyError, match=r"layer names the modality 'RNA', but the modalities are \['rna', 'prot'\]"):
            verb(citeseq, layer={"RNA": "counts"})
        with pytest.raises(TypeError, match="`layer` must be a name, or map modalities"):
            verb(citeseq, layer=3)


# --- files
def test_backed_files(citeseq: MuData, tmp_path: Path) -> None:
    citeseq.obsm["mine"] = np.ones((120, 2))
    citeseq.write_h5mu(tmp_path / "in.h5mu")
    backed = mudata.read_h5mu(tmp_path / "in.h5mu", backed="r")
    copied = smm.tl.scmag(backed, copy=True, **QUICK)
    assert not copied.isbacked
    assert "scmag" not in backed.obs
    smm.tl.scmag(citeseq, **QUICK)
    np.testing.assert_array_equal(copied.obsm["X_scmag"], citeseq.obsm["X_scmag"])
    np.testing.assert_array_equal(copied.obsm["mine"], citeseq.obsm["mine"])
    np.testing.assert_array_equal(copied["rna"].X.toarray(), citeseq["rna"].X.toarray())
    assert list(copied.obs["cell_type"]) == list(citeseq.obs["cell_type"])
    smm.pp.manifold_fit(backed)
    smm.model.SCMAG.setup_mudata(backed)
    model = smm.model.SCMAG(backed, n_clusters=3)
    model.train(max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
    assert np.isfinite(model.get_latent_representation()).all()
    backed.file.close()
