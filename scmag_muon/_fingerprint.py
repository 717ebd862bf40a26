"""Short strings that tell whether cells, labels, counts or coordinates are still the same.

A fingerprint does not depend on how data are stored (type, sparse or dense, sorted or not, explicit zeros), nor on the order of
cells and features: a result stays valid where both move together. It holds the number of cells and a 64-bit checksum.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmag_muon.manifold.scratch import entry_blocks, rows_between

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import scipy.sparse as sp


def of_cells(cells: Sequence[str] | pd.Index) -> str:
    """Fingerprint of a set of cells."""
    return _joined(_hashes(cells))


def of_labels(cells: Sequence[str] | pd.Index, labels: Any) -> str:
    """Fingerprint of the label of each cell; missing labels count as such."""
    column = pd.Series(np.asarray(labels, dtype=object))
    text = column.where(column.notna(), "\0missing").astype(str)
    return _joined(_mixed(_hashes(cells) + _mixed(_hashes(text))))


def of_counts(
    counts: sp.csr_array, cells: Sequence[str] | pd.Index, features: Sequence[str] | pd.Index, mask: Any = None
) -> str:
    """Fingerprint of whole-number counts, shape ``(n_obs, n_vars)``, or of the features that ``mask`` chooses."""
    weights = _hashes(features)
    if mask is not None:
        weights = np.where(np.asarray(mask, dtype=bool), weights, np.uint64(0))
    sums = np.zeros(counts.shape[0], dtype=np.uint64)
    for rows, _ in entry_blocks(counts.indptr):
        sums[rows] = rows_between(counts, rows.start, rows.stop).astype(np.uint64) @ weights
    return _joined(_mixed(_hashes(cells) + _mixed(sums)))


def of_parts(fingerprints: Sequence[str]) -> str:
    """Fingerprint of cells of which those of several parts are given."""
    parts = [fingerprint.partition("-") for fingerprint in fingerprints]
    total = sum(int(checksum, 16) for _, _, checksum in parts) % 2**64
    return f"{sum(int(number) for number, _, _ in parts)}-{total:016x}"


def of_rows(values: Any, cells: Sequence[str] | pd.Index) -> str:
    """Fingerprint of the coordinates of each cell, shape ``(n_obs, n_dimensions)``, in single precision."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    weights = _mixed(np.arange(1, bits.shape[1] + 1, dtype=np.uint64))
    return _joined(_mixed(_hashes(cells) + _mixed(bits @ weights)))


def of_values(values: Mapping[str, Any]) -> str:
    """Fingerprint of plain values, as parameters, in any order of their names."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def of_table(table: pd.DataFrame) -> str:
    """Fingerprint of a table's rows and columns, its index left out."""
    columns = {str(name): _of_column(table[name]) for name in table.columns}
    return f"{len(table)}-{of_values(columns)}"


def n_cells(fingerprint: str) -> int:
    """The number of cells that a fingerprint was made from."""
    return int(fingerprint.partition("-")[0])


def _of_column(column: pd.Series) -> str:
    number = pd.api.types.is_numeric_dtype(column)
    values = column.to_numpy(dtype=np.float64) if number else column.astype(str).to_numpy(dtype=object)
    hashes = pd.util.hash_array(values, categorize=False)
    return hashlib.blake2b(hashes.tobytes(), digest_size=8).hexdigest()


def _hashes(names: Any) -> np.ndarray:
    text = np.asarray([str(name) for name in names], dtype=object)
    return pd.util.hash_array(text, categorize=False).astype(np.uint64) if len(text) else np.zeros(0, dtype=np.uint64)


def _mixed(x: np.ndarray) -> np.ndarray:
    """Spread each bit over all 64 (the last steps of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _joined(hashes: np.ndarray) -> str:
    # a sum, so that the order of cells does not matter
    return f"{len(hashes)}-{int(_mixed(hashes).sum(dtype=np.uint64)):016x}"
