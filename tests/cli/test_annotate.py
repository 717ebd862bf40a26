"""From a 10x file to a report with named types."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmag_muon._cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

pytestmark = pytest.mark.skipif(find_spec("decoupler") is None, reason="decoupler is not installed")
SHORT = ["--max-epochs-pretrain", "4", "--max-epochs", "2"]


def write_10x(mdata: MuData, path: Path) -> None:
    """As Cell Ranger writes RNA and antibodies of the same cells."""
    matrix = sp.csc_matrix(sp.hstack([mdata["rna"].X, mdata["prot"].X]).T.astype(np.int32))
    kinds = ["Gene Expression"] * mdata["rna"].n_vars + ["Antibody Capture"] * mdata["prot"].n_vars
    names = [*mdata["rna"].var_names, *mdata["prot"].var_names]
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = mdata.obs_names.to_numpy().astype("S")
        for part in ("data", "indices", "indptr"):
            group.create_dataset(part, data=getattr(matrix, part), compression="gzip")
        group["shape"] = matrix.shape
        features = group.create_group("features")
        features["id"] = np.array([f"E{i}" for i in range(len(names))]).astype("S")
        features["name"] = np.array(names).astype("S")
        features["feature_type"] = np.array(kinds).astype("S")
        features["genome"] = np.array(["GRCh38"] * len(names)).astype("S")


@pytest.mark.real_data
def test_from_10x_to_a_report_with_types(real_data: Callable[[str], MuData], tmp_path: Path) -> None:
    mdata = real_data("pbmc10k_citeseq")
    chosen = np.sort(np.random.default_rng(0).choice(mdata.n_obs, 1000, replace=False))
    known = mdata.obs["cell_type"].iloc[chosen]
    write_10x(mdata[chosen], tmp_path / "cells.h5")
    page, out = tmp_path / "page.html", tmp_path / "out.h5mu"
    words = ["run", tmp_path / "cells.h5", "-o", out, "--report", page, "--annotate", "blood", *SHORT]
    assert main([str(word) for word in words]) == 0
    done = mudata.read_h5mu(out)
    assert done["rna"].shape == (1000, 4000)
    assert out.stat().st_size < 15e6
    assert page.stat().st_size < 5e6
    text = page.read_text(encoding="utf-8")
    assert '<h2 id="types">Cell types</h2>' in text
    for name in ("B cell", "CD14 monocyte", "NK cell"):
        assert f"<td>{name}</td>" in text
    types = done.obs["scmag_type"].astype(str)
    assert (types[known.astype(str).to_numpy() == "B cells"] == "B cell").mean() > 0.85
    assert (types[known.astype(str).to_numpy() == "CD14+ monocytes"] == "CD14 monocyte").mean() > 0.85


def test_a_list_of_ones_own(
    file: Path, calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"type": ["T", "T", "B", "B"], "feature": ["g0", "g1", "g16", "p4"]}).to_csv(
        tmp_path / "list.csv", index=False
    )
    words = ["run", file, "-o", tmp_path / "o.h5mu", "--annotate", tmp_path / "list.csv", "--csv", tmp_path / "tables"]
    assert main([str(word) for word in words]) == 0
    assert mudata.read_h5mu(tmp_path / "o.h5mu").obs["scmag_type"].astype(str).value_counts()["T"] == 70
    assert "type" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "tables" / "cluster_summary.csv")["type"].tolist() == ["T", "unknown", "B", "unknown"]
    assert (pd.read_csv(tmp_path / "tables" / "clusters.csv")["scmag_type"] == "B").sum() == 40
    assert len(calls) == 1


def test_lists_that_can_not_be_used(
    file: Path,
    calls: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = ["run", str(file), "-o", str(tmp_path / "o.h5mu"), "--annotate"]
    assert main([*words, str(tmp_path / "none.csv")]) == 2
    assert "There is no file" in capsys.readouterr().err
    (tmp_path / "list.csv").write_text("name\nCD4\n")
    assert main([*words, str(tmp_path / "list.csv")]) == 2
    assert "lack the columns ['feature', 'type']" in capsys.readouterr().err
    assert calls == []  # nothing was trained in vain
    # none of the list's markers was measured: the clusters are not lost
    assert main([*words, "blood"]) == 0
    assert "The clusters get no names: No type has 2 of its markers" in caplog.text
    assert "scmag_type" not in mudata.read_h5mu(tmp_path / "o.h5mu").obs
