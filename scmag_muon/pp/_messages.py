"""What manifold fitting tells of the data before it goes on."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from scmag_muon import _mudata
from scmag_muon.manifold.information import discordant

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from scmag_muon.manifold.joint import Joint
    from scmag_muon.manifold.modality import Modality

logger = logging.getLogger(__name__)

_LOW_REPLICATION = 0.1


def keeps_data(modalities: Sequence[Modality], asked: bool | None) -> bool:  # noqa: FBT001 - as the user gave it
    """Whether fitted data are to be there as layers: as asked, else where they are not large."""
    if asked is not None:
        return asked
    values = sum(math.prod(modality.counts.shape) for modality in modalities)
    if not _mudata.is_large(values):
        return True
    logger.info(
        "Fitted layers are not written: they would hold %.3g values, more than %.3g. The stored fit gives their rows. Ask for them "
        "with write_layers=True, or choose fewer features.",
        values,
        _mudata.LARGE,
    )
    return False


def warn_of_single_cells(batches: pd.Categorical | None, batch_key: str | None) -> None:
    """Warn where a batch is one cell."""
    sizes = np.array([]) if batches is None else batches.value_counts().to_numpy()
    if (sizes == 1).any():
        logger.warning(
            "batch_key=%r: %d of %d batches hold a single cell. Components are centred within batches, which leaves nothing of it.",
            batch_key,
            (sizes == 1).sum(),
            len(sizes),
        )


def warn_of_little_information(modalities: list[Modality], joint: Joint) -> None:
    """Warn of modalities that say little about the cells, or know nothing of the same ones."""
    for modality, replicated, weight in zip(modalities, joint.replications, joint.weights, strict=True):
        if replicated < _LOW_REPLICATION and len(modalities) > 1:
            logger.warning(
                "Modality %r holds little information on which cells belong together: only %.1f %% of neighbours replicate "
                "between two halves of its counts. It gets a weight of %.2f in the joint neighbourhoods.",
                modality.name,
                100 * replicated,
                weight,
            )
    main = 1 if len(modalities) == 2 else 0
    apart = discordant(joint.concordances, joint.replications, len(joint.values))
    for i in range(main, len(modalities)):
        if apart[i] and joint.replications[i] >= _LOW_REPLICATION:
            logger.warning(
                "Modalities %r and %r know next to nothing of the same cells: of the neighbours that each finds for itself they "
                "share %.1f %%. Make sure that the cells are paired. %r gets a weight of %.2f in the joint neighbourhoods.",
                modalities[0].name if main else modalities[i].name,
                modalities[i].name if main else "the others",
                100 * joint.concordances[i],
                modalities[i].name,
                joint.weights[i],
            )
