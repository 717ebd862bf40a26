"""A model in a folder: tensors, JSON and, on request, its cells. Nothing that is read can run code."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scmag_muon._files import written_aside
from scmag_muon._mudata import no_pull_on_update, nullable_strings
from scmag_muon.model._codec import pack, unpack

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from scmag_muon._assays import ModalityKind

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
TENSORS, STATE, CELLS, PICKLED = "model.safetensors", "model.json", "mdata.h5mu", "model.pt"


def write_model(
    folder: str | os.PathLike[str],
    header: Mapping[str, Any],
    state: Mapping[str, Any],
    *,
    overwrite: bool,
    cells: MuData | None = None,
    **write_arguments: Any,
) -> None:
    """Write a model to a folder of its own, aside first, so that it is there wholly or not at all."""
    target = Path(folder).expanduser()
    check_target(target, overwrite=overwrite)
    tensors: dict[str, torch.Tensor] = {}
    content = pack(dict(state), "model", tensors)
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(target) as draft:
        draft.mkdir()
        try:
            save_file(tensors, draft / TENSORS)
        except SafetensorError as error:  # a full disk, among others
            raise OSError(
                f"The model could not be written to {str(target)!r}: {error}. What was there is unchanged."
            ) from error
        sums = {TENSORS: _sum_of_file(draft / TENSORS), "state": _sum_of_state(content)}
        text = json.dumps({"format_version": FORMAT_VERSION, **header, "sha256": sums, "state": content}, indent=1)
        (draft / STATE).write_text(text, encoding="utf-8")
        if cells is not None:
            with no_pull_on_update(), nullable_strings():
                cells.write_h5mu(draft / CELLS, **write_arguments)


def read_model(
    folder: str | os.PathLike[str], class_names: Sequence[str] | None, *, trust_pickle: bool
) -> dict[str, Any]:
    """State of a saved model, as :func:`write_model` got it, on the CPU; of any class where no names are given."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {str(folder)!r} to load a model from.")
    if not (folder / STATE).exists():
        if not (folder / PICKLED).exists():
            raise FileNotFoundError(
                f"{str(folder)!r} holds no model: {STATE} is missing. Give the folder that model.save() wrote."
            )
        return _read_pickled(folder / PICKLED, class_names, trust_pickle=trust_pickle)
    header = _read_header(folder, class_names)
    path = folder / TENSORS
    if not path.exists():
        raise FileNotFoundError(
            f"{TENSORS} is missing in {str(folder)!r}. Copy the whole folder, or save the model again."
        )
    try:
        sums, content = header["sha256"], header["state"]
        if sums[TENSORS] != _sum_of_file(path):
            raise ValueError(_damaged(folder, f"{TENSORS} is not the file that was saved with {STATE}"))
        if sums["state"] != _sum_of_state(content):
            raise ValueError(_damaged(folder, f"{STATE} was changed after it was saved"))
        state = unpack(content, load_file(path))
        return {**state, **{name: dict(state[name]) for name in ("registry_", "init_params_", "module")}}
    except (AttributeError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(_damaged(folder, f"it lacks parts of a model ({error})")) from error


def read_cells(folder: str | os.PathLike[str]) -> MuData:
    """The MuData that was saved with the model."""
    path = Path(folder).expanduser() / CELLS
    if not path.exists():
        raise FileNotFoundError(
            f"No cells were saved with the model ({CELLS} is missing). Give them, adata=mdata, or load without: adata=False."
        )
    with no_pull_on_update():
        try:
            return mudata.read_h5mu(path)
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} can't be read ({error}). Give the cells, adata=mdata, or load without: adata=False."
            ) from error


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise unless a model may be written there: to a folder that is not there, or over a model alone."""
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{str(target)!r} is a file. Name a folder for the model.")
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{str(target)!r} is there already. Name another folder, or save with overwrite=True.")
    others = sorted(path.name for path in target.iterdir() if path.name not in (TENSORS, STATE, CELLS, PICKLED))
    if others:
        raise FileExistsError(
            f"{str(target)!r} holds {len(others)} files that are no part of a model, among them {others[0]!r}, "
            "and overwriting replaces the whole folder. Name a folder for the model alone."
        )


def _read_header(folder: Path, class_names: Sequence[str] | None) -> dict[str, Any]:
    try:
        header = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(_damaged(folder, f"{STATE} is not whole ({error})")) from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if not isinstance(version, int):
        raise ValueError(_damaged(folder, f"{STATE} does not say in which format it is"))
    if version > FORMAT_VERSION:
        saved_by = (header.get("versions") or {}).get("scmag-muon")
        raise ValueError(
            f"The model in {str(folder)!r} has format {version}, written by scmag-muon {saved_by}. This version reads formats "
            f"up to {FORMAT_VERSION}: pip install --upgrade scmag-muon."
        )
    if class_names is not None and header.get("class") not in class_names:
        raise ValueError(
            f"The model in {str(folder)!r} is a {header.get('class')!r}, not a {class_names[0]}. Load it with its own class."
        )
    return header


def _damaged(folder: Path, how: str) -> str:
    return f"The model in {str(folder)!r} is damaged: {how}. Copy it again from where it came, or save the model again."


def _sum_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_of_state(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_pickled(path: Path, class_names: Sequence[str] | None, *, trust_pickle: bool) -> dict[str, Any]:
    if not trust_pickle:
        raise ValueError(
            f"{str(path)!r} is a pickle, the format of earlier versions. Reading a pickle runs whatever program its maker put "
            "into it, with your rights. If you made the file yourself or trust who did: SCMAG.load(..., trust_pickle=True), "
            "and save the model again. The present format can't hold a program."
        )
    saved = torch.load(path, map_location="cpu", weights_only=False)
    state = dict(saved["attr_dict"])
    name = state["registry_"].get("model_name")
    if class_names is not None and name not in class_names:
        raise ValueError(
            f"The model in {str(path)!r} is a {name!r}, not a {class_names[0]}. Load it with its own class."
        )
    setup = state["registry_"]["setup_args"]
    if (preset := setup.pop("preset", None)) is not None:
        second: ModalityKind = "protein" if preset == "rna_protein" else "atac"
        setup["kinds"] = dict(zip(setup["modalities"], ("rna", second), strict=True))
    state["module"] = {key: value for key, value in saved["model_state_dict"].items() if key != "pyro_param_store"}
    return state
