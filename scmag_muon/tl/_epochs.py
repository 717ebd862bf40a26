"""How long a run trains at most, where nobody says."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

_PRETRAIN, _CLUSTER = 400, 100
MANY = 50_000
"""Cells above which minibatches are counted."""
_PRETRAIN_STEPS, _CLUSTER_STEPS = 12_000, 4_000
_FEWEST = 2  # of a stage, so that it can end on convergence


def most_epochs(
    pretrain: int | None, cluster: int | None, *, n_obs: int, batch_size: int, paper: bool
) -> tuple[int, int]:
    """Most epochs before and with clustering: as asked, else 400 and 100.

    Above 50,000 cells, where a single epoch takes more steps than whole runs of small sets, as many as make 12,000 and
    4,000 minibatches, two of each stage at least; not where the settings are the paper's.
    """
    usual_pretrain, usual_cluster = _PRETRAIN, _CLUSTER
    if n_obs > MANY and not paper:
        steps = max(n_obs // batch_size, 1)
        usual_pretrain = min(_PRETRAIN, max(_PRETRAIN_STEPS // steps, 2 * _FEWEST))
        usual_cluster = min(_CLUSTER, max(_CLUSTER_STEPS // steps, _FEWEST))
        if pretrain is None or cluster is None:
            logger.info(
                "%d cells: training ends after %d + %d epochs at most. Set `max_epochs_pretrain` and `max_epochs` for more.",
                n_obs,
                usual_pretrain if pretrain is None else pretrain,
                usual_cluster if cluster is None else cluster,
            )
    return (usual_pretrain if pretrain is None else pretrain, usual_cluster if cluster is None else cluster)
