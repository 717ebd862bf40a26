from __future__ import annotations

import json
import subprocess
import sys

import pytest

_CHILD = """
import json, logging, os, random, signal, threading, warnings
import matplotlib, numpy as np, torch, scvi
import anndata, mudata, scanpy

def state():
    return {
        "root handlers": len(logging.getLogger().handlers), "root level": logging.getLogger().level,
        "levels": [logging.getLogger(n).level for n in ("scvi", "lightning.pytorch", "lightning.fabric", "scmag_muon")],
        "random": str(random.getstate()), "numpy": np.random.get_state()[1].tolist() + [int(np.random.get_state()[2])],
        "torch": torch.random.get_rng_state().sum().item(), "torch threads": torch.get_num_threads(),
        "filters": [str(f) for f in warnings.filters], "rc": str(dict(matplotlib.rcParams)), "seed": scvi.settings.seed,
        "mudata": str(getattr(getattr(mudata, "_core").config, "OPTIONS", None)),
        "signals": [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "environment": dict(os.environ), "grad": torch.is_grad_enabled(), "deterministic": torch.are_deterministic_algorithms_enabled(),
    }

import scmag_muon as smm
import scmag_muon.model, scmag_muon.tl
first = state()
mdata = smm.datasets.simulate_citeseq(n_obs=120, n_vars=60, n_prot=10, n_clusters=3, random_state=0)
model = smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu", return_model=True)
smm.tl.scmag(mdata, max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu", key_added="again", random_state=2**32 - 1)
model.get_latent_representation()
second = state()
print(json.dumps({name: [first[name], second[name]] for name in first if first[name] != second[name]}))
"""


@pytest.fixture(scope="module")
def changed() -> dict[str, list[object]]:
    """What of the process's state a run changes, before and after."""
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_run_leaves_the_process_as_it_was(changed: dict[str, list[object]]) -> None:
    assert changed == {}
