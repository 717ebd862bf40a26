"""By how much the reconstruction tells known types apart better, on cells it has not seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from scmag_muon import _mudata, _values, pp
from scmag_muon._checks import check_number, check_random_state
from scmag_muon._keys import Keys
from scmag_muon._made_from import made_from
from scmag_muon.metrics import marker_auroc
from scmag_muon.model._context import quiet
from scmag_muon.tl._again import best_markers, layers_of_run, recorded_run, refit, rounds_counts, subset
from scmag_muon.tl._markers import markers
from scmag_muon.tl._scmag import scmag

if TYPE_CHECKING:
    from mudata import MuData

    from scmag_muon.model import SCMAG


_LABELS = "_labels"  # a batch column can have any name but one of ours


def held_out_markers(
    mdata: MuData,
    *,
    labels: str,
    key: str = Keys.SCMAG,
    unknown: str = "unknown",
    test_size: float = 0.2,
    n_markers: int = 5,
    random_state: int | None = 0,
    accelerator: str = "auto",
    progress_bar: bool = True,
) -> pd.DataFrame:
    """AUROC of known types' markers in raw and in reconstructed counts, on held-out cells (paper, 4.2).

    The paper compares both on the cells the network was trained on, with markers of the clusters it found there: a circle.
    Here a share of the cells is set aside. Markers are chosen, in raw counts, and the network is trained, with the recorded
    arguments, on the others; then the cells set aside are fitted among themselves and reconstructed.

    Parameters
    ----------
    mdata
        Raw counts and what :func:`scmag_muon.tl.scmag` wrote.
    labels
        Column of known types.
    key
        The ``key_added`` of the run to repeat.
    unknown
        Label that stands for "not known"; such cells and cells without a label are trained on, and not scored.
    test_size
        Share of the cells to set aside.
    n_markers
        Markers of each type and modality.
    random_state
        Seed of the split and of the run.
    accelerator, progress_bar
        As in :func:`scmag_muon.tl.scmag`.

    Returns
    -------
    A row per type, modality and marker: ``label``, ``modality``, ``feature``, ``raw``, ``reconstructed`` (AUROC of each) and
    ``gain``, their difference. Written to ``mdata.uns[f"{key}_held_out"]`` as ``table``, with ``params``.

    Raises
    ------
    KeyError
        Where there is no run to repeat, or no such column.
    ValueError
        Where ``test_size`` is out of range or too few cells have a known type.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> table = smm.tl.held_out_markers(mdata, labels="cell_type", n_markers=2, progress_bar=False)
    >>> list(table.columns)
    ['label', 'modality', 'feature', 'raw', 'reconstructed', 'gain']
    """
    n_markers = check_number("n_markers", n_markers, integer=True, low=1)
    random_state = check_random_state(random_state)
    if not 0 < check_number("test_size", test_size) < 1:
        raise ValueError(f"`test_size` must lie between 0 and 1, got {test_size}.")
    arguments = recorded_run(mdata, key)
    names = arguments["modalities"]
    _mudata.check_free_record(mdata, Keys.held_out(key), "held_out_markers", argument="key")
    column = _mudata.get_obs_column(mdata, labels, argument="labels").astype(object)
    column = column.where(column.astype(str) != unknown, np.nan)
    order = np.random.default_rng(random_state).permutation(mdata.n_obs)
    n_test = round(test_size * mdata.n_obs)
    test_rows, train_rows = np.sort(order[:n_test]), np.sort(order[n_test:])
    for rows, where in ((train_rows, "trained on"), (test_rows, "set aside")):
        if column.iloc[rows].nunique() < 2:
            raise ValueError(
                f"The cells {where} are of {column.iloc[rows].nunique()} known type: nothing to tell apart."
            )
        if not _mudata.is_complete(mdata, names):
            _check_cells(mdata, names, rows, where, test_size)
    work = _mudata.working_copy(
        mdata, names, layers_of_run(mdata, key), arguments["batch_key"], round_counts=rounds_counts(mdata, key)
    )
    work.obs[_LABELS] = column.to_numpy()
    train, test = subset(work, train_rows), subset(work, test_rows)
    for part in (train, test):
        refit(mdata, part, key, random_state)
    if arguments["n_clusters"] is not None:
        arguments["n_clusters"] = min(arguments["n_clusters"], train.n_obs)
    model = scmag(
        train,
        random_state=random_state,
        accelerator=accelerator,
        progress_bar=progress_bar,
        return_model=True,
        write_layers="none",
        **arguments,
    )
    if not _mudata.is_complete(work, names):
        test = pp.complete_cells(test)
    for name in names:  # cells set aside are fitted by themselves on purpose, which the model would warn of
        test.mod[name].uns.pop(Keys.MANIFOLD, None)
    # those of the network: a rare feature may have no count among the cells set aside
    used = {name: list(train.mod[name].var_names[train.mod[name].var[Keys.MANIFOLD]]) for name in names}
    ranked = markers(train, groupby=_LABELS, modalities=names)
    known = set(test.obs[_LABELS].dropna().astype(str))
    chosen = {label: found for label, found in best_markers(ranked, n_markers, used).items() if label in known}
    try:
        table = _compare(cast("SCMAG", model), test, used, chosen)
    finally:
        cast("SCMAG", model).forget_data()
    params = {
        "labels": labels,
        "test_size": test_size,
        "n_markers": n_markers,
        "random_state": random_state,
        "n_test": n_test,
    }
    layers = {name: _values.counts_layer(mdata, key, name) for name in names}
    sources = made_from(mdata, obs=[labels, arguments["batch_key"]], counts=layers)
    contents = {"params": params, "table": table}
    mdata.uns[Keys.held_out(key)] = _mudata.make_record("held_out_markers", contents, made_from=sources, key=key)
    return table


def _check_cells(mdata: MuData, names: list[str], rows: np.ndarray, where: str, test_size: float) -> None:
    """Raise where a modality would have too few cells of a part to be fitted there."""
    needed = _mudata.FEWEST_CELLS
    for name in names:
        has = mdata.obs_names.isin(mdata.mod[name].obs_names)
        if has[rows].sum() >= needed:
            continue
        share = math.ceil(125 * needed / has.sum()) / 100  # a quarter more, since cells are drawn
        fits = 2 * share <= 1
        better = share if where == "set aside" else round(1 - share, 2)
        raise ValueError(
            f"Of the cells {where} {has[rows].sum()} have modality {name!r}, and {needed} are needed to fit them. "
            + (
                f"Set test_size={better}, it is {test_size}."
                if fits
                else f"The data hold {has.sum()} such cells, too few."
            )
        )


def _compare(
    model: SCMAG, test: MuData, used: dict[str, list[str]], chosen: dict[str, list[tuple[str, str]]]
) -> pd.DataFrame:
    tables = []
    present = test.obsm[_mudata.PRESENT] if _mudata.PRESENT in test.obsm else np.ones((test.n_obs, len(used)), bool)
    for name, measured in zip(used, present.T, strict=True):
        labels = test.obs[_LABELS][measured]
        known = set(labels.dropna().astype(str))
        wanted = {
            label: [feature for where, feature in found if where == name]
            for label, found in chosen.items()
            if label in known
        }
        if len(known) < 2:
            continue
        features = list(dict.fromkeys(feature for found in wanted.values() for feature in found))
        raw = _values.normalized_features(
            test, [_values.Feature(name, feature) for feature in features], key=Keys.SCMAG
        )
        with quiet():
            reconstruction = model.get_normalized_expression(test, modality=name)
        frames = {
            "raw": pd.DataFrame({feature.name: values for feature, values in raw.items()}, index=test.obs_names)[
                measured
            ],
            "reconstructed": reconstruction[features][measured],
        }
        scores = {state: marker_auroc(frame, labels, markers=wanted) for state, frame in frames.items()}
        table = scores["raw"].rename(columns={"auroc": "raw"})
        table["reconstructed"] = scores["reconstructed"]["auroc"]
        table.insert(1, "modality", name)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    table["gain"] = table["reconstructed"] - table["raw"]
    return table
