"""The whole table, section by section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.odd import arguments, cells, counts, models, results

if TYPE_CHECKING:
    from tests.odd.table import Row

TABLE: dict[str, list[Row]] = {**cells.TABLE, **counts.TABLE, **arguments.TABLE, **results.TABLE, **models.TABLE}
