"""Lists of known markers, and which features of the data they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmag_muon import _values
from scmag_muon._feature_names import antibody_names, gene_symbol, is_isotype_control, plain_name
from scmag_muon.datasets import blood_markers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

_ANY = ("", "any")


def listed_markers(markers: Any) -> tuple[pd.DataFrame, str]:
    """The markers as a table with all columns, and where they are from."""
    if isinstance(markers, str) and markers == "blood":
        return blood_markers(), "blood"
    if isinstance(markers, pd.DataFrame):
        table, source = markers, "table"
    elif isinstance(markers, Mapping):
        for name, of_type in markers.items():
            if isinstance(of_type, str):
                raise TypeError(
                    f"The markers of {str(name)!r} must be a list, for example [{of_type!r}], got {of_type!r}."
                )
        rows = [
            (str(name), str(feature), weight)
            for name, of_type in markers.items()
            for feature, weight in (
                of_type.items() if isinstance(of_type, Mapping) else dict.fromkeys(of_type, 1).items()
            )
        ]
        table, source = pd.DataFrame(rows, columns=["type", "feature", "weight"]), "mapping"
    elif not isinstance(markers, (str, os.PathLike)):
        raise TypeError(
            f"`markers` must map types to lists of features, be a table or a CSV file, or 'blood', got {type(markers).__name__}."
        )
    else:
        path = Path(markers)
        if not path.exists():
            raise FileNotFoundError(
                f'There is no file {path}. Give a CSV file of markers, a mapping, or markers="blood".'
            )
        table, source = pd.read_csv(path, keep_default_na=False), path.name
    lacking = {"type", "feature"} - set(table)
    if lacking:
        raise KeyError(f"The markers lack the columns {sorted(lacking)}: they have {list(table)}.")
    defaults = {"modality": "", "weight": 1.0, "aliases": ""}
    table = table.assign(**{name: value for name, value in defaults.items() if name not in table})
    return table.assign(weight=_weights(table)).fillna({"modality": "", "aliases": ""}), source


def _weights(table: pd.DataFrame) -> pd.Series:
    """Weights as numbers, 1 where none is given."""
    given = table["weight"].replace("", np.nan)
    numbers = pd.to_numeric(given, errors="coerce").astype(float)
    wrong = (numbers.isna() & given.notna()) | np.isinf(numbers)
    if wrong.any():
        row = table[wrong].iloc[0]
        raise ValueError(
            f"The weight of {row['feature']!r} for the type {row['type']!r} must be a number, got {row['weight']!r}."
        )
    return numbers.fillna(1.0)


def measured_markers(
    mdata: MuData, listed: pd.DataFrame, names: Sequence[str], key: str, gene_symbols: str | None, least: int
) -> pd.DataFrame:
    """Markers that were measured: ``type``, ``marker``, ``modality``, ``target`` (as ``"prot:CD3"``), ``weight``."""
    aliases = blood_markers().query("modality == 'protein' and aliases != ''").drop_duplicates("feature")
    known = {plain_name(row.feature): row.aliases for row in aliases.itertuples()}
    rows = []
    for name in names:
        kind = _values.kind_in_use(mdata, key, name)
        if kind == "atac":
            continue
        places = feature_places(mdata, name, kind, gene_symbols)
        for row in listed[listed["modality"].isin([*_ANY, kind, name])].itertuples():
            further = str(row.aliases or known.get(plain_name(row.feature), "")) if kind == "protein" else ""
            called = [plain_name(text) for text in [row.feature, *further.split()]]
            target = next((places[text] for text in called if text in places), None)
            if target is not None:
                rows.append((str(row.type), str(row.feature), name, f"{name}:{target}", float(row.weight)))
    found = pd.DataFrame(rows, columns=["type", "marker", "modality", "target", "weight"])
    found = found.drop_duplicates(["type", "target"], ignore_index=True)
    enough = found["type"].map(found.loc[found["weight"] > 0, "type"].value_counts()).fillna(0) >= least
    if not enough.any():
        theirs = ", ".join(repr(str(name)) for name in listed["feature"].head(3))
        own = ", ".join(repr(f"{name}: {mdata.mod[name].var_names[0]}") for name in names)
        raise ValueError(
            f"No type has {least} of its markers in the data. The list names {theirs}, the data {own}. Is it the same species and "
            "kind of name? gene_symbols= names a column of var, min_markers= the least number of markers."
        )
    return found[enough].reset_index(drop=True)


def feature_places(mdata: MuData, name: str, kind: str, gene_symbols: str | None = None) -> dict[str, str]:
    """Feature of each plain name, the likelier names of all features before the others."""
    adata = mdata.mod[name]
    if kind != "protein":
        if gene_symbols is not None and gene_symbols not in adata.var:
            raise KeyError(f"gene_symbols={gene_symbols!r} names no column of mdata[{name!r}].var.")
        symbols = adata.var_names if gene_symbols is None else adata.var[gene_symbols].astype(str)
        options = [[plain_name(gene_symbol(symbol))] for symbol in symbols]
    else:
        controls = is_isotype_control(adata.var_names)
        options = [[] if no else antibody_names(each) for each, no in zip(adata.var_names, controls, strict=True)]
    places: dict[str, str] = {}
    for rank in range(max(map(len, options), default=0)):
        for feature, called in zip(adata.var_names, options, strict=True):
            if rank < len(called):
                places.setdefault(called[rank], str(feature))
    return places
