"""What :func:`~scmag_muon.tl.scmag` refuses before any work."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from scmag_muon import _mudata
from scmag_muon._keys import check_key
from scmag_muon.model import SCMAG

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mudata import MuData

ABLATIONS: dict[str, dict[str, Any]] = {"two_stage": {"two_stage": False}, "gate": {"gate_bias": None}}


def check_further(
    ablate: Collection[str],
    model_kwargs: Mapping[str, Any] | None,
    plan_kwargs: Mapping[str, Any] | None,
    trainer_kwargs: Mapping[str, Any] | None,
) -> None:
    """Raise unless these are what their names say."""
    if isinstance(ablate, str) or not isinstance(ablate, Iterable):
        raise TypeError(f"`ablate` must be a list, for example ['gate'], got {ablate!r}.")
    further = {"model_kwargs": model_kwargs, "plan_kwargs": plan_kwargs, "trainer_kwargs": trainer_kwargs}
    for argument, given in further.items():
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"`{argument}` must map names to values, got {given!r}.")
    twice = sorted(set(trainer_kwargs or {}) & set(inspect.signature(SCMAG.train).parameters) - {"devices"})
    if twice:
        raise TypeError(f"`trainer_kwargs` must not hold {twice[0]!r}, which tl.scmag has or sets itself.")
    unknown = set(ablate) - set(ABLATIONS) - {"manifold"}
    if unknown:
        raise ValueError(f'`ablate` may hold "manifold", "two_stage" and "gate", got {sorted(unknown)}.')


def check_keys(
    mdata: MuData, names: Sequence[str], key_added: str, manifold_key: str, others: Mapping[str, Any]
) -> None:
    """Raise unless results may be written under these names."""
    check_key(key_added, argument="key_added")
    check_key(manifold_key, argument="manifold_key")
    _mudata.check_apart(key_added, manifold_key, others)
    _mudata.check_free_run(mdata, names, key_added)
    _mudata.check_free_fit(mdata, names, manifold_key, argument="manifold_key")


def check_paper(mdata: MuData, names: Sequence[str], *, complete: bool) -> None:
    """Raise unless the paper's settings serve for these modalities."""
    if len(names) != 2:
        raise ValueError(
            f'settings="paper" is for two modalities, got {list(names)}. Name two of them with modalities=, or take '
            'settings="default".'
        )
    if not complete:
        raise ValueError(
            'settings="paper" is for cells that have both modalities. Take settings="default", or keep the cells that have '
            f"both: {_mudata.read_first(mdata)}mdata = mdata[{' & '.join(f'(mdata.obsmap[{name!r}] > 0)' for name in names)}].copy()."
        )
