from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm
from scmag_muon._mudata import make_mudata, no_pull_on_update

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

RESULTS = ("scmag", "scmag_confidence", "scmag_q", "scmag_entropy")


@pytest.fixture
def counts(_finished_file: Path) -> MuData:
    """The cells of ``finished`` before any run."""
    import mudata

    done = mudata.read_h5mu(_finished_file)
    for adata in done.mod.values():
        adata.layers.clear()
        adata.uns.clear()
    return make_mudata(dict(done.mod), done.obs.drop(columns=list(RESULTS)))


@pytest.fixture
def file(counts: MuData, tmp_path: Path) -> Path:
    path = tmp_path / "in.h5mu"
    with no_pull_on_update():
        counts.write_h5mu(path)
    return path


@pytest.fixture
def calls(_finished_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands in for ``tl.scmag``: notes its arguments and writes the results of ``finished``."""
    import mudata

    done = mudata.read_h5mu(_finished_file)
    noted: list[dict[str, Any]] = []

    def scmag(mdata: MuData, **arguments: Any) -> None:
        noted.append(arguments)
        for column in RESULTS:
            mdata.obs[column] = done.obs[column].to_numpy()
        mdata.obs["scmag"] = pd.Categorical(done.obs["scmag"])
        mdata.obsm["X_scmag"] = done.obsm["X_scmag"]
        mdata.uns["scmag"] = done.uns["scmag"]
        for name, adata in mdata.mod.items():
            adata.var["manifold"] = True
            written = {"fitted": ["manifold"], "denoised": ["scmag"], "none": []}
            for layer in written.get(arguments.get("write_layers"), ["manifold", "scmag"]):
                adata.layers[layer] = np.asarray(done.mod[name].layers["scmag"])

    monkeypatch.setattr(smm.tl, "scmag", scmag)
    return noted
