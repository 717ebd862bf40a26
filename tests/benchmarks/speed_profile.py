"""Where the time of a training step, of fitting and of the whole run goes: shares, for ``speed.py``."""

from __future__ import annotations

import cProfile
import os
import pstats
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

_STEPS = 20
_OF_STEP = {
    "matrix products, with the copies of their biases": ("aten::mm", "aten::addmm", "aten::copy_"),
    "likelihood and its derivatives": ("_ZINBHeads", "_ZINBHeadsBackward"),
    "noise on the input (eq. 13)": ("aten::normal_",),
    "Adam": ("aten::_fused_adam_", "Optimizer.step#Adam.step"),
}
# functions of which none calls another, but the first, whose calls count as its own
_OF_FIT = {
    "how well neighbourhoods replicate: components and neighbours of two halves": "half_neighborhoods",
    "principal components": "principal_components",
    "nearest neighbours": "nearest_neighbors",
    "shared neighbourhoods": "shared_neighbors",
    "fusion, and products with the operators": "fused",
    "transforms": "make_modality",
}


def shares_of_step(step: Callable[[], None]) -> dict[str, float]:
    """Of the calling thread's time; an operation's time is without that of the operations it calls, waiting for others included."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(_STEPS):
            step()
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(times.values())
    shares = {what: sum(times.get(name, 0.0) for name in names) / total for what, names in _OF_STEP.items()}
    return shares | {"all else": 1 - sum(shares.values())}


def shares_of_fit(mdata: MuData) -> dict[str, float]:
    """Of the time on the clock with a single thread, since a profile sees no other than the main one."""
    import scmag_muon as smm

    smm.pp.manifold_fit(mdata)
    with patch.dict(os.environ, OMP_NUM_THREADS="1"):
        times = _times_of_functions(lambda: smm.pp.manifold_fit(mdata), not_from=("information.py",))
    shares = {what: times[name] / times["manifold_fit"] for what, name in _OF_FIT.items()}
    return shares | {"all else": 1 - sum(shares.values())}


def shares_of_run(mdata: MuData) -> dict[str, float]:
    """Of the time on the clock of ``tl.scmag`` with its defaults; the stages by their epochs, which are all alike."""
    import scmag_muon as smm

    times = _times_of_functions(lambda: smm.tl.scmag(mdata, progress_bar=False))
    total = times["scmag"]
    shares = {
        "pp.manifold_fit": times["manifold_fit"] / total,
        "clusters to start from": times["initial_clusters"] / total,
    }
    history = mdata.uns["scmag"]["history"]
    training = times["train"] / total
    for stage, epochs in history["stage"].value_counts().sort_index().items():
        shares[f"training, stage {stage:.0f}: {epochs} epochs"] = training * epochs / len(history)
    return shares | {"all else": 1 - sum(shares.values())}


def _times_of_functions(work: Callable[[], object], *, not_from: tuple[str, ...] = ()) -> dict[str, float]:
    """Time on the clock of each of the package's functions by name, with that of what it calls, in the main thread.

    Calls from the modules ``not_from`` are left out.
    """
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    return {
        function: sum(row[3] for caller, row in callers.items() if not caller[0].endswith(not_from))
        for (file, _, function), (*_, callers) in stats.items()
        if "scmag_muon" in file
    }
