"""Saving and loading of the model class, by scvi-tools' names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

import rich.pretty  # noqa: F401 - scvi-tools prints with it and does not import it
import torch
from mudata import MuData
from scvi.data import AnnDataManager
from scvi.model._utils import parse_device_args
from scvi.model.base import BaseModelClass

from scmag_muon._versions import versions_of
from scmag_muon.model._context import quiet
from scmag_muon.model._model_files import read_cells, read_model, write_model
from scmag_muon.model._new_cells import cells_of_model
from scmag_muon.model._reference import Reference

if TYPE_CHECKING:
    import os

    import pandas as pd

    from scmag_muon.model._module import SCMAGModule

_VERSIONS_OF = ("scmag-muon", "scvi-tools", "torch", "safetensors", "anndata", "mudata", "numpy", "pandas")
_ADDED = {"network_agreement": torch.ones(())}
"""What the network of a file may lack."""
_OWN_FOLDER = "A model has a folder of its own, so its files need no `prefix`: give the folder another name instead."


class SavingMixin(BaseModelClass):
    """Models in files that hold no code: tensors (safetensors) and JSON."""

    module: SCMAGModule
    reference: Any
    _reference: Reference | None

    def save(
        self,
        dir_path: str | os.PathLike[str],
        prefix: None = None,
        overwrite: bool = False,  # noqa: FBT001, FBT002 - scvi-tools' callbacks and users give it by position
        save_anndata: bool = False,  # noqa: FBT001, FBT002
        *,
        reference: bool = True,
        labels: pd.DataFrame | pd.Series | None = None,
        **arguments: Any,
    ) -> None:
        """Write the model to a folder: what it learnt, its history, the optimiser's state, and on request its cells.

        The folder holds ``model.safetensors`` (all arrays), ``model.json`` (all else, with the names of the features and a
        checksum) and, with ``save_anndata``, ``mdata.h5mu``. It is written aside and renamed: an interrupted call leaves what
        was there before. Training goes on after :meth:`load` as it would have without.

        Parameters
        ----------
        dir_path
            Folder to make.
        prefix
            Not offered: each model has its own folder.
        overwrite
            Replace the model that the folder holds. A folder with other files is not replaced.
        save_anndata
            Save the MuData too; :meth:`load` then needs no ``adata``.
        reference
            Save all that :func:`scmag_muon.tl.map_query` needs: the manifold fit, the raw counts of the features that took part,
            names of the cells, and columns of text about them. Without it the folder holds no counts.
        labels
            Columns about the model's cells that are to be transferred to other cells, for example ``mdata.obs[["cell_type"]]``,
            beside those of text that the model's own cells have.
        **arguments
            For :meth:`mudata.MuData.write_h5mu`, with ``save_anndata``.

        Raises
        ------
        FileExistsError
            Where the folder is there and must not be replaced, or its name is that of a file.
        ValueError
            Where there are no cells to save, or an argument is scvi-tools' and not offered.
        TypeError
            Where an argument is unknown.
        OSError
            Where the disk is full or the folder can't be written to.
        """
        if prefix:
            raise ValueError(_OWN_FOLDER)
        _refuse(arguments, _NOT_OFFERED_IN_SAVE)
        if arguments and not save_anndata:
            raise TypeError(f"save() has no arguments {sorted(arguments)}.")
        if save_anndata and self.adata is None:
            raise ValueError("The model was loaded without cells, so there are none to save: leave `save_anndata` out.")
        kept = self.reference if reference else None
        if labels is not None:
            if kept is None:
                raise ValueError(
                    "`labels` are saved with the reference, and this model has none: it is left out, or the fit is by each view's own "
                    "neighbours, which can't place other cells."
                )
            kept = kept.with_labels(labels)
        attributes = {name: value for name, value in vars(self).items() if name.endswith("_")}
        if kept is not None:
            attributes["reference"] = kept.to_dict()
        header = {
            "class": type(self).__name__,
            "summary": self._model_summary_string,
            "stage": int(self.module.stage),
            "versions": versions_of(*_VERSIONS_OF),
        }
        write_model(
            dir_path,
            header,
            {**attributes, "module": dict(self.module.state_dict())},
            overwrite=overwrite,
            cells=self.adata if save_anndata else None,
            **arguments,
        )

    def __getstate__(self) -> NoReturn:
        raise TypeError(
            "A model can't be pickled or copied, since its MuData can't. Write it with model.save(folder) and read it with "
            "SCMAG.load(folder, adata=mdata)."
        )

    @classmethod
    def load(
        cls,
        dir_path: str | os.PathLike[str],
        adata: MuData | Literal[False] | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        *,
        trust_pickle: bool = False,
        allowed_classes_names_list: list[str] | None = None,
        **arguments: Any,
    ) -> Self:
        """Make a model from the folder that :meth:`save` wrote.

        Parameters
        ----------
        dir_path
            The folder.
        adata
            The model's cells, or others with its features and layers: a MuData with more features, or in another order,
            does too, since features are found by name. ``None`` reads the cells saved with the model; ``False`` loads
            without any, and getters are then given theirs.
        accelerator, device
            As in Lightning.
        trust_pickle
            Read a ``model.pt`` of an earlier version. That is a pickle, and reading a pickle runs whatever program its maker
            put into it: only for files whose maker you trust.
        allowed_classes_names_list
            Names of other classes whose models may be loaded.
        **arguments
            Those of scvi-tools that are not offered are refused by name.

        Returns
        -------
        The model, in the state in which it was saved.

        Raises
        ------
        FileNotFoundError
            Where the folder, a file in it or the saved cells are missing.
        ValueError
            Where the files are damaged, of a newer format, of another class or a pickle, or the cells don't fit the model.
        KeyError
            Where the cells lack a modality, layer or column.
        TypeError
            Where ``adata`` is no MuData.
        """
        _refuse(arguments, _NOT_OFFERED_IN_LOAD)
        if arguments:
            raise TypeError(f"load() has no arguments {sorted(arguments)}.")
        if adata is not None and adata is not False and not isinstance(adata, MuData):
            raise TypeError(f"`adata` must be a MuData, None or False, got {type(adata).__name__}.")
        with quiet():
            _, _, torch_device = parse_device_args(
                accelerator, device, return_device="torch", validate_single_device=True
            )
        state = read_model(dir_path, (cls.__name__, *(allowed_classes_names_list or ())), trust_pickle=trust_pickle)
        registry, reference = state.pop("registry_"), state.pop("reference", None)
        cells = read_cells(dir_path) if adata is None else adata or None
        if cells is not None:
            cells = cells_of_model(cells, registry)
            with quiet():
                cls.setup_mudata(cells, source_registry=registry, **registry["setup_args"])
        try:
            model = cls._restored(cells, registry, state)
        except BaseException:
            if cells is not None:  # scvi-tools would hold them for as long as the process lives
                cls._setup_adata_manager_store.pop(cells.uns["_scvi_uuid"], None)
            raise
        model._reference = None if reference is None else Reference.from_dict(reference)
        model.to_device(torch_device)
        model.module.eval()
        return model

    @classmethod
    def _restored(cls, cells: MuData | None, registry: dict[str, Any], state: dict[str, Any]) -> Self:
        given = state.pop("init_params_")
        network = {name: value for group in given["kwargs"].values() for name, value in group.items()}
        own = {name: value for name, value in given["non_kwargs"].items() if name != "mdata"}
        model = cls(cells, registry=registry, **own, **network)
        try:
            model.module.load_state_dict({**_ADDED, **state.pop("module")})
        except RuntimeError as error:
            raise ValueError(f"The saved network is of another shape than this version makes: {error}") from error
        for name, value in state.items():
            setattr(model, name, value)
        return model

    @staticmethod
    def load_registry(dir_path: str | os.PathLike[str], prefix: None = None) -> dict[str, Any]:
        """Read how the data of a saved model were set up."""
        if prefix:
            raise ValueError(_OWN_FOLDER)
        return read_model(dir_path, None, trust_pickle=False)["registry_"]

    @staticmethod
    def view_setup_args(dir_path: str | os.PathLike[str], prefix: None = None) -> None:
        """Print how the data of a saved model were set up."""
        AnnDataManager.view_setup_method_args(SavingMixin.load_registry(dir_path, prefix))

    @classmethod
    def convert_legacy_save(cls, *args: Any, **kwargs: Any) -> None:
        """Not offered: load with ``trust_pickle=True`` and save again."""
        raise NotImplementedError(
            "To convert a model.pt of an earlier version: SCMAG.load(folder, adata=False, trust_pickle=True).save(new_folder)."
        )


_NOT_OFFERED_IN_SAVE = {
    "save_kwargs": "They are torch.save's, which pickles. Tensors are saved by safetensors, which takes none.",
    "legacy_mudata_format": "Features are saved by modality.",
    "datamodule": "The model is made from a MuData.",
}
_NOT_OFFERED_IN_LOAD = {
    "prefix": _OWN_FOLDER,
    "backup_url": "Models are not downloaded. Fetch the folder, then load it.",
    "datamodule": "The model is made from a MuData: give it as `adata`.",
}


def _refuse(arguments: dict[str, Any], reasons: dict[str, str]) -> None:
    """Drop scvi-tools' arguments that are left at their defaults; refuse the others."""
    for name, reason in reasons.items():
        if arguments.pop(name, None):
            raise ValueError(f"`{name}` is not offered. {reason}")
