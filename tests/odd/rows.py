"""The whole table, section by section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.odd import (
    arguments,
    batches,
    cells,
    checkpoints,
    counts,
    features,
    levels,
    modalities,
    models,
    pictures,
    queries,
    scores,
    types,
    verbs,
)

if TYPE_CHECKING:
    from tests.odd.table import Row

_PARTS = (
    cells,
    modalities,
    features,
    batches,
    counts,
    arguments,
    verbs,
    levels,
    queries,
    types,
    pictures,
    scores,
    models,
    checkpoints,
)
TABLE: dict[str, list[Row]] = {section: rows for part in _PARTS for section, rows in part.TABLE.items()}
