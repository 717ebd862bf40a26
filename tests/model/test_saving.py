from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch

import scmag_muon as smm
from scmag_muon._mudata import copy_of, make_mudata, no_pull_on_update
from scmag_muon.model import SCMAG
from scmag_muon.model._codec import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

SHORT = {"max_epochs_pretrain": 4, "max_epochs": 2, "progress_bar": False, "accelerator": "cpu"}
FILES = ["model.json", "model.safetensors"]


@pytest.fixture(scope="module")
def fitted() -> MuData:
    """90 cells of two batches, 40 genes of which 30 take part, 8 proteins."""
    with no_pull_on_update():
        mdata = smm.datasets.simulate_citeseq(n_obs=90, n_vars=40, n_prot=8, n_clusters=3)
        mdata.obs["donor"] = np.tile(["a", "b"], 45)
        mdata["rna"].var["chosen"] = np.arange(40) % 4 > 0
        mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
        mdata["prot"].layers["counts"] = mdata["prot"].X.copy()
        return mdata


@pytest.fixture(scope="module")
def model(fitted: MuData) -> SCMAG:
    with no_pull_on_update():
        return smm.tl.scmag(
            fitted, n_clusters=3, mask_var="chosen", batch_key="donor", layer="counts", return_model=True, **SHORT
        )


@pytest.fixture(scope="module")
def saved(model: SCMAG, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "a" / "model"
    model.save(folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def load(folder: Path, adata: Any = False, **arguments: Any) -> SCMAG:
    return SCMAG.load(folder, adata, accelerator="cpu", **arguments)


def latents(model: SCMAG, mdata: MuData | None = None) -> np.ndarray:
    kinds = ("clustering", "reconstruction", "fused", "variational")
    return np.stack([model.get_latent_representation(mdata, kind=kind) for kind in kinds])


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None], *, sign: bool = False) -> None:
    header = json.loads((folder / "model.json").read_text())
    change(header)
    if sign and "sha256" in header:
        text = json.dumps(header["state"], sort_keys=True)
        header["sha256"]["state"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "model.json").write_text(json.dumps(header))


# what is saved comes back


def test_state_comes_back_bit_for_bit(model: SCMAG, fitted: MuData, saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == FILES
    loaded = load(saved, fitted)
    np.testing.assert_array_equal(latents(loaded), latents(model))
    np.testing.assert_array_equal(loaded.get_cluster_assignments(soft=True), model.get_cluster_assignments(soft=True))
    for name, value in model.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], value)
    pd.testing.assert_frame_equal(loaded.training_history, model.training_history)
    for split in ("train_indices", "validation_indices", "test_indices"):
        np.testing.assert_array_equal(getattr(loaded, split), getattr(model, split))
    assert loaded.is_trained
    assert (loaded.converged_, loaded.modalities_, loaded.kl_weight_) == (model.converged_, model.modalities_, 0.01)
    assert repr(loaded) == repr(model)
    assert "scMAG of rna, prot: 3 clusters" in repr(loaded)


def test_training_goes_on_as_without_saving(fitted: MuData, tmp_path: Path) -> None:
    mdata = fitted.copy()
    smm.pp.manifold_fit(mdata)
    SCMAG.setup_mudata(mdata)
    model = SCMAG(mdata, n_clusters=3)
    model.train(**SHORT)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model", mdata)
    assert loaded.adata is mdata
    for each in (model, loaded):
        each.train(**{**SHORT, "random_state": 5})
    np.testing.assert_array_equal(latents(loaded), latents(model))
    pd.testing.assert_frame_equal(loaded.training_history, model.training_history)


def test_untrained_model_is_saved_as_it_is(fitted: MuData, tmp_path: Path) -> None:
    mdata = fitted.copy()
    smm.pp.manifold_fit(mdata)
    SCMAG.setup_mudata(mdata)
    model = SCMAG(mdata, n_clusters=3, noise_scale=(0.1, 1e-17), gate_bias=None)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model", mdata)
    assert not loaded.is_trained
    assert loaded.module.encoder.noise_scale == (0.1, 1e-17)
    with pytest.raises(RuntimeError, match=r"has not been trained, .* call model.train\(\) first"):
        loaded.get_latent_representation()
    for each in (model, loaded):
        each.train(**SHORT)
    np.testing.assert_array_equal(latents(loaded), latents(model))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copies_are_refused_in_words(model: SCMAG, copied: Callable[[SCMAG], object]) -> None:
    with pytest.raises(TypeError, match=r"can't be pickled or copied.*model.save\(folder\)"):
        copied(model)


def test_cells_are_saved_on_request(model: SCMAG, tmp_path: Path) -> None:
    model.save(str(tmp_path / "model"), save_anndata=True, compression="gzip")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["mdata.h5mu", *FILES]
    np.testing.assert_array_equal(latents(load(tmp_path / "model", None)), latents(model))
    (tmp_path / "model" / "mdata.h5mu").write_bytes(b"not a file of cells")
    with pytest.raises(ValueError, match=r"mdata.h5mu can't be read .* adata=False"):
        load(tmp_path / "model", None)


def test_cells_with_names_of_strings_that_may_be_missing(fitted: MuData, tmp_path: Path) -> None:
    cells = copy_of(fitted)
    for part in (cells, *cells.mod.values()):
        part.obs.index = part.obs.index.astype("string")
    SCMAG.setup_mudata(cells)
    SCMAG(cells, n_clusters=3).save(tmp_path / "model", save_anndata=True)
    assert load(tmp_path / "model", None).adata.obs_names.tolist() == fitted.obs_names.tolist()


def test_without_cells(model: SCMAG, fitted: MuData, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No cells were saved .* adata=mdata, or load without: adata=False"):
        load(saved, None)
    loaded = load(saved)
    assert loaded.adata is None
    np.testing.assert_array_equal(latents(loaded, fitted), latents(model))
    assert loaded.adata is None
    with pytest.raises(ValueError, match="loaded without cells: say which are meant"):
        loaded.get_latent_representation()
    assert {name: len(names) for name, names in loaded.get_var_names().items()} == {"rna": 30, "prot": 8}
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(latents(load(tmp_path / "again"), fitted), latents(model))
    with pytest.raises(ValueError, match="there are none to save"):
        loaded.save(tmp_path / "more", save_anndata=True)
    assert not (tmp_path / "more").exists()
    loaded.deregister_manager()
    loaded.forget_data()


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "ü/\ud800"], "b": (1, (2, [3]))},
        {0: "int key", "$tensor": "no tensor", ("a", 1): -0.0},
        [0.1, 1e-300, 5e-324, float("inf"), 2**70],
        np.array(["b", "a", None], dtype=object),
        np.array(["x", "yy"]),
        np.array([[1, 2], [3, 4]], dtype=np.int16),
        np.array([np.nan, -0.0]),
        np.array(3.5),
        np.zeros((0, 3), dtype=bool),
        torch.tensor([1, 2], dtype=torch.bfloat16),
        torch.arange(6).reshape(2, 3).T,
    ],
)
def test_plain_data_come_back_exactly(value: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    back = unpack(json.loads(json.dumps(pack(value, "model", tensors))), tensors)
    assert type(back) is type(value)
    if isinstance(value, torch.Tensor):
        assert back.dtype == value.dtype
        assert torch.equal(back, value)
    elif isinstance(value, np.ndarray):
        assert back.shape == value.shape
        np.testing.assert_array_equal(back, value)
    else:
        assert repr(back) == repr(value)


def test_what_is_no_plain_data_is_refused_before_anything_is_written(
    model: SCMAG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "odd_", {"deep": [print]}, raising=False)
    with pytest.raises(TypeError, match=r"model.odd_.deep.0 of the model is a builtin_function_or_method"):
        model.save(tmp_path / "new" / "model")
    assert list(tmp_path.iterdir()) == []


# folders


def test_folder_is_replaced_only_on_request_and_as_a_whole(model: SCMAG, copied: Path) -> None:
    (copied / "mdata.h5mu").touch()
    with pytest.raises(FileExistsError, match="is there already. .* overwrite=True"):
        model.save(copied)
    assert (copied / "mdata.h5mu").exists()
    model.save(copied, overwrite=True)
    assert sorted(path.name for path in copied.iterdir()) == FILES
    (copied / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"holds 1 files that are no part of a model, among them 'thesis.tex'"):
        model.save(copied, overwrite=True)
    assert sorted(path.name for path in copied.iterdir()) == [*FILES, "thesis.tex"]
    with pytest.raises(FileExistsError, match="is a file. Name a folder"):
        model.save(copied / "thesis.tex", overwrite=True)


def test_failed_save_leaves_the_old_model(model: SCMAG, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mudata.MuData.write_h5mu", full)
    with pytest.raises(OSError, match="No space left"):
        model.save(copied, overwrite=True, save_anndata=True)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    assert [path.name for path in copied.parent.iterdir()] == ["model"]


def test_tensors_that_do_not_fit_on_the_disk(model: SCMAG, copied: Path, full_disk: Any) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    unchanged = "The model could not be written to .*What was there is unchanged"
    with full_disk(20_000), pytest.raises(OSError, match=unchanged):
        model.save(copied, overwrite=True)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    assert [path.name for path in copied.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prefix": "a_"}, ValueError, "folder of its own"),
        ({"save_kwargs": {"pickle_protocol": 4}}, ValueError, "`save_kwargs` is not offered"),
        ({"legacy_mudata_format": True}, ValueError, "`legacy_mudata_format` is not offered"),
        ({"datamodule": object()}, ValueError, "`datamodule` is not offered"),
        ({"overwritten": True}, TypeError, r"no arguments \['overwritten'\]"),
    ],
)
def test_arguments_of_save_that_are_not_offered(
    model: SCMAG, tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.save(tmp_path / "model", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prefix": "a_"}, ValueError, "folder of its own"),
        ({"backup_url": "https://example.org"}, ValueError, "`backup_url` is not offered"),
        ({"datamodule": object()}, ValueError, "`datamodule` is not offered"),
        ({"mdata": None}, TypeError, r"no arguments \['mdata'\]"),
        ({"adata": True}, TypeError, "must be a MuData, None or False, got bool"),
    ],
)
def test_arguments_of_load_that_are_not_offered(
    saved: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SCMAG.load(saved, **arguments)


def test_arguments_at_their_defaults_are_taken(model: SCMAG, tmp_path: Path) -> None:
    model.save(tmp_path / "model", prefix=None, save_kwargs=None, legacy_mudata_format=False, datamodule=None)
    SCMAG.load(tmp_path / "model", False, "cpu", prefix=None, backup_url=None, datamodule=None)


# files from others


class Exploit:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_crafted_pickle_runs_no_code(tmp_path: Path) -> None:
    folder, proof = tmp_path / "model", tmp_path / "proof"
    folder.mkdir()
    torch.save({"attr_dict": Exploit(proof)}, folder / "model.pt")
    message = r"is a pickle, .* runs whatever program its maker put into it, .* trust_pickle=True"
    for call in (load, SCMAG.load_registry, SCMAG.view_setup_args):
        with pytest.raises(ValueError, match=message):
            call(folder)
    with pytest.raises(NotImplementedError, match="trust_pickle=True"):
        SCMAG.convert_legacy_save(str(folder), str(tmp_path / "new"))
    assert not proof.exists()
    with pytest.raises((TypeError, ValueError)):
        load(folder, trust_pickle=True)
    assert proof.exists()  # so that the test can fail


def test_model_of_an_earlier_version_is_read_if_trusted(model: SCMAG, fitted: MuData, tmp_path: Path) -> None:
    from scvi.model.base import BaseModelClass

    BaseModelClass.save(model, str(tmp_path / "old"))
    assert (tmp_path / "old" / "model.pt").exists()
    loaded = load(tmp_path / "old", fitted, trust_pickle=True)
    np.testing.assert_array_equal(latents(loaded), latents(model))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damaged_files_are_told(copied: Path, name: str, damage: str) -> None:
    content = bytearray((copied / name).read_bytes())
    if damage == "flip":
        place = (
            content.index(b"cell") if b"categorical_mapping" in content and b"cell" in content else len(content) // 2
        )
        content[place] ^= 1
    (copied / name).write_bytes({"flip": content, "cut": content[: len(content) // 2], "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"is damaged: .* Copy it again from where it came, or save the model again"):
        load(copied)


def test_missing_files_are_told(copied: Path, tmp_path: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors is missing .* Copy the whole folder"):
        load(copied)
    (copied / "model.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds no model: model.json is missing"):
        load(copied)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        load(tmp_path / "nowhere")


def test_other_formats_and_classes_are_told(copied: Path) -> None:
    rewrite(copied, lambda header: header.update({"class": "SCVI"}))
    with pytest.raises(ValueError, match="is a 'SCVI', not a SCMAG. Load it with its own class"):
        load(copied)
    load(copied, allowed_classes_names_list=["SCVI"])
    rewrite(copied, lambda header: header.update({"format_version": 99, "versions": {"scmag-muon": "9.1"}}))
    with pytest.raises(
        ValueError, match=r"has format 99, written by scmag-muon 9.1. .* pip install --upgrade scmag-muon"
    ):
        load(copied)
    rewrite(copied, lambda header: header.pop("format_version"))
    with pytest.raises(ValueError, match="does not say in which format it is"):
        load(copied)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["state"].pop("module"),
        lambda header: header["state"].pop("registry_"),
        lambda header: header["state"]["module"].update({"centers": {"$tensor": "nowhere"}}),
        lambda header: header["state"]["module"].update({"centers": {"$code": "nowhere"}}),
        lambda header: header["state"]["init_params_"]["non_kwargs"].update(n_clusters=4),
        lambda header: header.pop("sha256"),
    ],
)
def test_crafted_content_is_refused(copied: Path, change: Callable[[dict[str, Any]], None]) -> None:
    rewrite(copied, change, sign=True)
    with pytest.raises(ValueError, match=r"is damaged|of another shape"):
        load(copied)


def test_setup_is_read_without_the_model(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = SCMAG.load_registry(saved)
    assert registry["setup_args"]["batch_key"] == "donor"
    assert registry["setup_args"]["layer"] == "counts"
    SCMAG.view_setup_args(saved)
    assert "donor" in capsys.readouterr().out


def test_package_has_one_place_that_unpickles() -> None:
    found = [
        path.name
        for path in Path(smm.__file__).parent.rglob("*.py")
        for word in ("weights_only=False", "import pickle", "pickle.load", "np.load(", "joblib")
        if word in path.read_text(encoding="utf-8")
    ]
    assert found == ["_model_files.py"]


# cells that a model is loaded with


def test_features_are_found_by_name(model: SCMAG, fitted: MuData, saved: Path) -> None:
    rng = np.random.default_rng(0)
    shuffled = {name: adata[:, rng.permutation(adata.n_vars)].copy() for name, adata in fitted.mod.items()}
    shuffled["other"] = fitted["prot"].copy()
    mdata = make_mudata(shuffled, fitted.obs)
    loaded = load(saved, mdata)
    np.testing.assert_array_equal(latents(loaded), latents(model))
    assert list(loaded.adata["rna"].var_names) == list(model.adata["rna"].var_names)
    np.testing.assert_array_equal(latents(model, mdata), latents(model))


def without_layer(mdata: MuData) -> None:
    del mdata["prot"].layers["manifold"]


def with_new_batch(mdata: MuData) -> None:
    mdata.obs["donor"] = mdata.obs["donor"].replace("b", "c")


def with_logs(mdata: MuData) -> None:
    mdata["rna"].layers["counts"] = mdata["rna"].layers["counts"].log1p()


def with_unnamed_batch(mdata: MuData) -> None:
    mdata.obs.loc[mdata.obs_names[3], "donor"] = None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (without_layer, KeyError, r"No layer 'manifold' in modality 'prot'. Make it with scmag_muon.pp.manifold_fit"),
        (with_new_batch, ValueError, r"has not seen \['c'\] \(45 of 90 cells\); it knows \['a', 'b'\]"),
        (with_logs, ValueError, r"trained on counts there. Put them back, or load with adata=False"),
        (with_unnamed_batch, ValueError, r"batch_key='donor' is missing for 1 cells"),
    ],
)
def test_cells_that_do_not_fit_are_refused(
    fitted: MuData, saved: Path, change: Callable[[MuData], None], error: type[Exception], message: str
) -> None:
    mdata = fitted.copy()
    change(mdata)
    n_kept = len(SCMAG._setup_adata_manager_store)
    with pytest.raises(error, match=message):
        load(saved, mdata)
    assert len(SCMAG._setup_adata_manager_store) == n_kept
    assert "_scvi_uuid" not in mdata.uns


def test_features_that_are_missing_are_counted(fitted: MuData, saved: Path) -> None:
    fewer = make_mudata({"rna": fitted["rna"][:, 5:].copy(), "prot": fitted["prot"]}, fitted.obs)
    with pytest.raises(ValueError, match=r"'rna' lacks 3 of the model's 30 features, among them 'gene_1'"):
        load(saved, fewer)
    with pytest.raises(KeyError, match=r"No modality 'prot' in the MuData, which has \['rna'\]"):
        load(saved, make_mudata({"rna": fitted["rna"]}, fitted.obs))
    with pytest.raises(ValueError, match="'prot' are in another order"):
        load(saved, make_mudata({"rna": fitted["rna"], "prot": fitted["prot"][::-1].copy()}, fitted.obs))
