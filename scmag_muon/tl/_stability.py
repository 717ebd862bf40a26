"""Do the same clusters come back with another seed?"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from scmag_muon import _mudata, _values
from scmag_muon._checks import check_random_state
from scmag_muon._keys import Keys
from scmag_muon._made_from import made_from
from scmag_muon.metrics import cluster_stability
from scmag_muon.tl._again import layers_of_run, recorded_run, refit, rounds_counts
from scmag_muon.tl._scmag import scmag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData


def stability(
    mdata: MuData,
    *,
    random_states: Sequence[int] = (1, 2, 3),
    key: str = Keys.SCMAG,
    accelerator: str = "auto",
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Repeat the whole run with other seeds, and see which clusters come back.

    Manifold fitting and training are repeated with the recorded arguments. The number of clusters is that of the
    run, or is estimated again where the run estimated it. It takes as long as so
    many runs of :func:`scmag_muon.tl.scmag`.

    Parameters
    ----------
    mdata
        Raw counts and what :func:`scmag_muon.tl.scmag` wrote; its clusters stay as they are.
    random_states
        Seeds to repeat with; other ones than that of the first run.
    key
        The ``key_added`` of the run to repeat.
    accelerator, progress_bar
        As in :func:`scmag_muon.tl.scmag`.

    Returns
    -------
    A row per cluster, a column per seed (as text): the best Jaccard index of the cluster with any of that seed's clusters, 0 to
    1 (:func:`scmag_muon.metrics.cluster_stability`). Written to ``mdata.uns[f"{key}_stability"]`` as ``table``, with ``ari``
    (a row per seed, agreement of the whole clustering) and ``params``.

    Raises
    ------
    KeyError
        Where there is no run to repeat.
    ValueError
        Where no seed is given, one is given twice or is none, or cells, clusters, counts or the fit are not those of the run.

    Notes
    -----
    Stable is not yet right: the same mistake can be made with every seed. But a cluster that does not come back should carry
    no claim.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> smm.tl.stability(mdata, random_states=(1,), progress_bar=False).shape
    (3, 1)
    """
    seeds = _checked(random_states)
    arguments = recorded_run(mdata, key)
    labels = _values.cluster_column(mdata, key)
    slot = Keys.stability(key)
    _mudata.check_free_record(mdata, slot, "stability", argument="key")
    others = []
    for random_state in seeds:
        work = _mudata.working_copy(
            mdata,
            arguments["modalities"],
            layers_of_run(mdata, key),
            arguments["batch_key"],
            round_counts=rounds_counts(mdata, key),
        )
        refit(mdata, work, key, random_state)
        scmag(
            work,
            random_state=random_state,
            accelerator=accelerator,
            progress_bar=progress_bar,
            write_layers="none",
            **arguments,
        )
        others.append(work.obs[Keys.SCMAG].to_numpy())
        del work
        gc.collect()  # an AnnData and its layers hold each other, and the collector counts objects, not gigabytes
    table = cluster_stability(labels, others)
    table.columns = [str(random_state) for random_state in seeds]
    codes = labels.cat.codes.to_numpy()
    ari = pd.DataFrame({"ari": [adjusted_rand_score(codes, other) for other in others]}, index=table.columns)
    params = {"key": key, "random_states": np.asarray(seeds)}
    layers = {name: _values.counts_layer(mdata, key, name) for name in arguments["modalities"]}
    sources = made_from(mdata, obs=[key, arguments["batch_key"]], counts=layers)
    contents = {"params": params, "table": table, "ari": ari}
    mdata.uns[slot] = _mudata.make_record("stability", contents, made_from=sources, key=key)
    return table


def _checked(random_states: Sequence[int]) -> list[int]:
    try:
        random_states = list(random_states)
    except TypeError:
        raise TypeError(f"`random_states` must hold seeds, for example (1, 2, 3), got {random_states!r}.") from None
    if not random_states:
        raise ValueError("`random_states` is empty: name at least one seed.")
    if any(seed is None for seed in random_states):
        raise ValueError("`random_states` holds None, which can't be repeated. Name seeds, for example (1, 2, 3).")
    seeds = [check_random_state(seed, "random_states") for seed in random_states]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"`random_states` holds a seed twice: {seeds}. The same seed gives the same clusters.")
    return seeds
