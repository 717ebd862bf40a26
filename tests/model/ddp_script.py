"""What each of the processes does that train together: ``python ddp_script.py FOLDER``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

import scmag_muon as smm
from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from mudata import MuData

RUN = {"n_clusters": 3, "max_epochs_pretrain": 12, "max_epochs": 6, "progress_bar": False, "accelerator": "cpu"}


def cells() -> MuData:
    """Three types that no run takes for each other."""
    rng = np.random.default_rng(0)
    types = rng.integers(3, size=201)
    mods = {}
    for name, n_features, level in (("rna", 60, 0.0), ("prot", 12, 2.0)):
        means = np.exp(level + rng.normal(size=n_features) + 0.7 * rng.normal(size=(3, n_features)))
        mods[name] = AnnData(rng.poisson(means[types]).astype(np.float32))
        mods[name].var_names = [f"{name}_{i}" for i in range(n_features)]
    return make_mudata(mods)


def made(**arguments: Any) -> dict[str, Any]:
    """What a run says of itself, in plain numbers."""
    mdata = cells()
    model = smm.tl.scmag(mdata, return_model=True, **RUN, **arguments)
    history = mdata.uns["scmag"]["history"]
    return {
        "labels": mdata.obs["scmag"].astype(int).tolist(),
        "held out": np.sort(model.validation_indices).tolist(),
        "centers": model.module.centers.tolist(),
        "weights": float(sum(weights.detach().double().sum() for weights in model.module.parameters())),
        "stages": history["stage"].tolist(),
        "loss": history["loss"].tolist(),
        "validation loss": history["validation_loss"].tolist(),
        "losses by which stages end": model.trainer.lightning_module.progress()["validation_losses"],
        "label change": history["label_change"].dropna().tolist(),
    }


if __name__ == "__main__":
    rank = os.environ.get("LOCAL_RANK", "0")
    told = made(batch_size=64, trainer_kwargs={"devices": 2, "strategy": "ddp"})
    (Path(sys.argv[1]) / f"{rank}.json").write_text(json.dumps(told))
