"""The only room that knows MuData's quirks: cells and modalities, counts and features, write-back."""

from __future__ import annotations

from scmag_muon import _namespace  # noqa: F401 - `mdata.scmag` is there with the first function that takes a MuData
from scmag_muon._assays import ASSAYS, Assay, ModalityKind
from scmag_muon._mudata._cells import (
    check_mudata,
    check_n_clusters,
    copy_of,
    get_batches,
    get_obs_column,
    make_mudata,
    no_pull_on_update,
    unview,
)
from scmag_muon._mudata._complete import (
    borrowed,
    fitted_everywhere,
    in_all_cells,
    is_complete,
    measured,
    padded,
    rows_of,
)
from scmag_muon._mudata._counts import check_layer, count_blocks, counts_in_file, get_counts, layer_of
from scmag_muon._mudata._features import (
    choosing_column,
    expand_features,
    feature_mask,
    features_to_read,
    used_features,
    with_features,
)
from scmag_muon._mudata._fit import deleted_part, drop_fit, lend_fit, read_fit, write_fit
from scmag_muon._mudata._fitted import LARGE, FittedLayer, are_large, fitted_layer, has_fitted_rows, is_large
from scmag_muon._mudata._kinds import check_kinds, kinds_of, modality_kind, recognize, recorded_kind
from scmag_muon._mudata._lazy import read_lazy, stored_raw, stored_values
from scmag_muon._mudata._pairing import check_paired, read_first
from scmag_muon._mudata._presence import FEWEST_CELLS, check_cells, check_complete, check_named, modality_names
from scmag_muon._mudata._query import MOST_CATEGORIES, Query, read_query, text_columns
from scmag_muon._mudata._records import (
    check_apart,
    check_free_fit,
    check_free_query,
    check_free_record,
    check_free_run,
    is_record,
    make_record,
    plain,
)
from scmag_muon._mudata._store import check_format, check_writable, nullable_strings, write_mudata
from scmag_muon._mudata._unmeasured import warn_of_unmeasured
from scmag_muon._mudata._working import PRESENT, complete_mudata, unshare_counts, working_copy
from scmag_muon._mudata._write import column_names, copy_fitted, from_json, to_json, to_uns, view_layers

__all__ = [
    "FEWEST_CELLS",
    "LARGE",
    "is_large",
    "are_large",
    "FittedLayer",
    "fitted_layer",
    "has_fitted_rows",
    "MOST_CATEGORIES",
    "Query",
    "read_query",
    "text_columns",
    "choosing_column",
    "count_blocks",
    "feature_mask",
    "features_to_read",
    "rows_of",
    "lend_fit",
    "PRESENT",
    "complete_mudata",
    "working_copy",
    "warn_of_unmeasured",
    "borrowed",
    "check_complete",
    "in_all_cells",
    "fitted_everywhere",
    "is_complete",
    "measured",
    "padded",
    "ASSAYS",
    "Assay",
    "ModalityKind",
    "check_cells",
    "check_kinds",
    "check_apart",
    "check_free_fit",
    "check_free_query",
    "check_free_record",
    "check_free_run",
    "check_format",
    "check_layer",
    "check_mudata",
    "check_named",
    "check_n_clusters",
    "check_paired",
    "check_writable",
    "column_names",
    "copy_fitted",
    "copy_of",
    "deleted_part",
    "drop_fit",
    "expand_features",
    "from_json",
    "get_batches",
    "counts_in_file",
    "get_counts",
    "get_obs_column",
    "kinds_of",
    "is_record",
    "layer_of",
    "make_mudata",
    "make_record",
    "modality_kind",
    "modality_names",
    "no_pull_on_update",
    "nullable_strings",
    "read_first",
    "read_fit",
    "read_lazy",
    "recognize",
    "recorded_kind",
    "stored_raw",
    "stored_values",
    "plain",
    "to_json",
    "to_uns",
    "unshare_counts",
    "unview",
    "used_features",
    "view_layers",
    "with_features",
    "write_fit",
    "write_mudata",
]
