"""``run --model`` and ``map``, end to end on a few simulated cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mudata
import numpy as np
import pytest

import scmag_muon as smm
from scmag_muon._cli import _read, main
from scmag_muon._mudata import make_mudata, no_pull_on_update

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference in ``model`` that ``run`` saved, made from ``reference.h5mu``, and ``query.h5mu`` with RNA alone."""
    folder = tmp_path_factory.mktemp("map")
    mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=40, n_prot=10, n_clusters=3)
    with no_pull_on_update():
        mdata[:110].copy().write_h5mu(folder / "reference.h5mu")
        make_mudata({"rna": mdata["rna"][110:].copy()}, mdata.obs[110:]).write_h5mu(folder / "query.h5mu")
    words = ["run", "reference.h5mu", "-o", "out.h5mu", "--n-clusters", "3", "--model", "model"]
    words += ["--max-epochs-pretrain", "2", "--max-epochs", "1"]
    assert main([str(folder / word) if "." in word or word == "model" else word for word in words]) == 0
    return folder


def test_map_writes_what_map_query_gives(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mapped.h5mu"
    words = ["map", str(folder / "query.h5mu"), "--reference", str(folder / "model"), "-o", str(out)]
    assert main([*words, "--labels", "cell_type", "--layers", "denoised"]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {out}" in printed
    assert "40 cells in" in printed
    found, expected = mudata.read_h5mu(out), mudata.read_h5mu(folder / "query.h5mu")
    smm.tl.map_query(expected, folder / "model", labels="cell_type", accelerator="cpu")
    np.testing.assert_array_equal(found.obsm["X_scmag"], expected.obsm["X_scmag"])
    assert (found.obs["scmag_cell_type"].astype(str) == expected.obs["scmag_cell_type"].astype(str)).all()
    assert found.obsm["scmag_imputed_prot"].shape == (40, 10)
    assert "scmag" in found["rna"].layers


@pytest.mark.parametrize("suffix", [".h5mu", ".zarr"])
def test_cells_of_a_large_file_are_mapped_as_those_of_a_small_one(
    folder: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query = tmp_path / f"query{suffix}"
    with no_pull_on_update():
        getattr(mudata.read_h5mu(folder / "query.h5mu"), f"write_{suffix.lstrip('.')}")(query)
    found = []
    for most in (_read.MANY, 0):
        monkeypatch.setattr(_read, "MANY", most)
        out = tmp_path / f"{most}.h5mu"
        assert main(["map", str(query), "--reference", str(folder / "model"), "-o", str(out)]) == 0
        assert ("They stay there" in capsys.readouterr().err) == (most == 0)
        found.append(mudata.read_h5mu(out))
    assert found[0].obs.equals(found[1].obs)
    np.testing.assert_array_equal(found[0].obsm["X_scmag"], found[1].obsm["X_scmag"])
    np.testing.assert_array_equal(found[0]["rna"].X.toarray(), found[1]["rna"].X.toarray())


def test_counts_are_left_out_unless_asked_for_as_run_leaves_them(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mapped.h5mu"
    assert main(["map", str(folder / "query.h5mu"), "--reference", str(folder / "model"), "-o", str(out)]) == 0
    written = mudata.read_h5mu(out)
    assert "X_scmag" in written.obsm
    assert "scmag_imputed_prot" not in written.obsm
    for mdata in (written, mudata.read_h5mu(folder / "out.h5mu")):
        assert not any("scmag" in adata.layers for adata in mdata.mod.values())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "{folder}/query.h5mu"], "leads to the input"),
        (["-o", "{folder}/model/out.h5mu"], "leads to the input"),
        (["-o", "{tmp}/out.h5mu", "--labels", "none"], "no labels 'none'"),
        (["-o", "{tmp}/out.csv"], "the ending says the format"),
    ],
)
def test_what_is_refused_writes_nothing(
    words: list[str], says: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(folder=folder, tmp=tmp_path) for word in words]
    assert main(["map", str(folder / "query.h5mu"), "--reference", str(folder / "model"), *words]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_existing_model_is_not_replaced(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "model" / "model.json").read_bytes()
    words = ["run", str(folder / "reference.h5mu"), "-o", str(tmp_path / "o.h5mu"), "--model", str(folder / "model")]
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert (folder / "model" / "model.json").read_bytes() == before
    assert not list(tmp_path.iterdir())


def test_results_under_another_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with the results of a run is mapped, and one with those of a query clustered."""
    mapped, again = tmp_path / "mapped.h5mu", tmp_path / "again.h5mu"
    words = ["map", str(folder / "out.h5mu"), "--reference", str(folder / "model"), "-o", str(mapped)]
    assert main(words) == 2
    assert "key_added= (--key-added on the command line)" in capsys.readouterr().err
    assert main([*words, "--key-added", "mapped", "--labels", "cell_type"]) == 0
    assert {"scmag", "mapped", "mapped_cell_type"} <= set(mudata.read_h5mu(mapped).obs)
    words = ["run", str(mapped), "-o", str(again), "--key-added", "again", "--csv", str(tmp_path / "tables")]
    words += ["--n-clusters", "3", "--max-epochs-pretrain", "2", "--max-epochs", "1", "--labels", "mapped"]
    assert main(words) == 0
    assert "110 cells in" in capsys.readouterr().out
    assert {"scmag", "mapped", "again"} <= set(mudata.read_h5mu(again).obs)
    assert (tmp_path / "tables" / "clusters.csv").read_text().startswith("cell,again,again_confidence")
