"""Evidence on the number of clusters."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from scmag_muon import _mudata, _values
from scmag_muon._checks import check_number, check_random_state
from scmag_muon._keys import Keys, check_key
from scmag_muon._made_from import made_from
from scmag_muon.metrics._stability import most_typical
from scmag_muon.tl._graph_clusters import RESOLUTIONS, communities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

logger = logging.getLogger(__name__)

_SHARE = 0.8


def n_clusters(
    mdata: MuData,
    *,
    manifold_key: str = Keys.MANIFOLD,
    resolutions: Sequence[float] = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0),
    n_replicates: int = 5,
    key_added: str = "n_clusters",
    random_state: int | None = 0,
) -> pd.DataFrame:
    """How many clusters the data speak for, and how surely.

    Leiden communities of the joint space before fitting are counted at several resolutions, in all cells and in random
    samples of 80 % of them. The graph has 30 neighbours, and below 900 cells a thirtieth of their number, at least 10. A
    number that hardly moves says that the same communities are found again. It does not say that they are cell types. A wide
    range says that the data do not decide.

    Parameters
    ----------
    mdata
        Fitted by :func:`scmag_muon.pp.manifold_fit`.
    manifold_key
        The ``key_added`` of that call.
    resolutions
        Leiden resolutions. 0.5, 0.6 … 1 are added where they are missing: the estimate, which :func:`scmag_muon.tl.scmag` takes,
        is the number at the one of these whose communities agree best with those at the others, by mean adjusted Rand index.
    n_replicates
        Samples for each resolution.
    key_added
        Name under which the table is written.
    random_state
        Seed of the samples and of Leiden.

    Returns
    -------
    A row per resolution: ``resolution``; ``n_clusters`` in all cells; ``fewest`` and ``most`` over the samples;
    ``stability``, the mean ARI between each sample's clusters and those of all cells, on the sample's cells. Written to
    ``mdata.uns[key_added]`` as ``table``, with the ``estimate``, the ``resolution`` at which it was found, and the range
    ``fewest``–``most`` over the samples at resolutions from 0.5 to 1.

    Raises
    ------
    KeyError
        Where ``mdata`` is not fitted.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=300, n_vars=200, n_prot=20, n_clusters=3)
    >>> smm.pp.manifold_fit(mdata)
    >>> table = smm.tl.n_clusters(mdata, resolutions=(0.5, 1.0), n_replicates=2)
    >>> list(table.columns)
    ['resolution', 'n_clusters', 'fewest', 'most', 'stability']
    """
    joint = _values.joint_space(mdata, manifold_key)
    check_key(key_added, argument="key_added")
    _mudata.check_free_record(mdata, key_added, "n_clusters", argument="key_added")
    n_replicates = check_number("n_replicates", n_replicates, integer=True, low=1)
    random_state = check_random_state(random_state)
    resolutions = [
        check_number("resolutions", resolution, above=0) for resolution in np.atleast_1d(resolutions).tolist()
    ]
    rng = np.random.default_rng(random_state)
    samples = [rng.choice(len(joint), max(round(_SHARE * len(joint)), 1), replace=False) for _ in range(n_replicates)]
    wanted = sorted({*resolutions, *RESOLUTIONS})
    of_all = communities(joint, resolutions=wanted, random_state=random_state)
    of_samples = [communities(joint[sample], resolutions=wanted, random_state=random_state) for sample in samples]
    rows = []
    for i, resolution in enumerate(wanted):
        counts = [int(labels[i].max() + 1) for labels in of_samples]
        agreement = [
            adjusted_rand_score(of_all[i][s], labels[i]) for s, labels in zip(samples, of_samples, strict=True)
        ]
        rows.append((resolution, int(of_all[i].max() + 1), min(counts), max(counts), float(np.mean(agreement))))
    table = pd.DataFrame(rows, columns=["resolution", "n_clusters", "fewest", "most", "stability"])
    compared = [wanted.index(resolution) for resolution in RESOLUTIONS]
    taken = compared[most_typical([of_all[i] for i in compared])]
    near = table.iloc[compared]
    record = {
        "table": table,
        "estimate": int(table["n_clusters"].iloc[taken]),
        "resolution": float(wanted[taken]),
        "fewest": int(near["fewest"].min()),
        "most": int(near["most"].max()),
    }
    mdata.uns[key_added] = _mudata.make_record(
        "n_clusters", record, made_from=made_from(mdata, obsm=[Keys.joint_embedding(manifold_key)])
    )
    logger.info("n_clusters: %d, in samples %d to %d.", record["estimate"], record["fewest"], record["most"])
    return table
