"""The model class: scMAG's network on scvi-tools."""

from __future__ import annotations

import contextlib
import logging
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data.fields import MuDataLayerField, MuDataObsmField

from scmag_muon import _mudata
from scmag_muon._checks import check_random_state
from scmag_muon._keys import Keys
from scmag_muon.model._components import PANEL, WIDE
from scmag_muon.model._context import quiet, seeded
from scmag_muon.model._counts import BatchField, CountsManager, FittedField
from scmag_muon.model._module import PRESENT, SCMAGModule, counts_key, input_key
from scmag_muon.model._new_cells import cells_signature, check_present, check_rows, fit_signature
from scmag_muon.model._outputs import OutputsMixin
from scmag_muon.model._query_data import QueryMixin
from scmag_muon.model._saving import SavingMixin
from scmag_muon.model._settings import Settings, network_settings, of_each_modality
from scmag_muon.model._train import TrainMixin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scmag_muon._assays import ModalityKind

logger = logging.getLogger(__name__)


class SCMAG(QueryMixin, TrainMixin, SavingMixin, OutputsMixin):
    """Gated variational autoencoder of one modality or more with cluster-guided training (scMAG, sections 2.3-2.5).

    Parameters
    ----------
    mdata
        MuData set up with :meth:`setup_mudata`. It must hold the manifold-fitted layers of
        :func:`scmag_muon.pp.manifold_fit`.
    n_clusters
        Number of clusters K.
    settings
        ``"default"``: what measured best; ``"paper"``: the paper's numbers, for two modalities.
    random_state
        Seed of the network's first weights; the global random state is put back afterwards. ``None`` draws one, which is
        kept with the model.
    registry
        Registry of a saved model; given by :meth:`load`, not by users.
    **network
        Single numbers that replace those of ``settings``: ``n_hidden``, ``noise_scale``, ``residual_weight``,
        ``reduction``, ``dispersion``, ``gate_bias``, ``two_stage``, ``relative_distance``, ``kl_weight``,
        ``cluster_weight``, ``modality_dropout``.

    Notes
    -----
    Methods return arrays and never write into the MuData; :func:`scmag_muon.tl.scmag` does that.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=120, n_vars=60, n_prot=10, n_clusters=3)
    >>> smm.pp.manifold_fit(mdata)
    >>> smm.model.SCMAG.setup_mudata(mdata)
    >>> model = smm.model.SCMAG(mdata, n_clusters=3)
    >>> model.train(max_epochs_pretrain=2, max_epochs=2, progress_bar=False)
    >>> model.get_latent_representation(kind="clustering").shape
    (120, 32)
    >>> model.get_cluster_assignments(soft=True).sum(axis=1).round(3).min()
    np.float32(1.0)
    >>> model.get_normalized_expression(modality="prot").shape
    (120, 10)
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> model.save(folder, overwrite=True)
    >>> model = smm.model.SCMAG.load(folder, adata=mdata, accelerator="cpu")
    """

    _module_cls = SCMAGModule

    def __init__(
        self,
        mdata: MuData | None = None,
        n_clusters: int = 8,
        *,
        settings: Settings = "default",
        random_state: int | None = 0,
        registry: dict[str, Any] | None = None,
        **network: Any,
    ) -> None:
        random_state = check_random_state(random_state)
        numbers = dict(vars(network_settings(settings, network)))
        if registry is None:
            self._check_set_up(mdata)
        if mdata is not None:
            _mudata.check_n_clusters(n_clusters, mdata.n_obs)
        super().__init__(mdata, registry)
        setup = self.registry_["setup_args"]
        self.kl_weight_ = numbers.pop("kl_weight")
        self.cluster_weight_ = numbers.pop("cluster_weight")
        self.modalities_ = tuple(setup["modalities"])
        self.fit_ = None if mdata is None else fit_signature(mdata, setup)
        self.cells_ = None if mdata is None else cells_signature(mdata)
        if settings == "paper" and len(self.modalities_) != 2:
            raise ValueError(
                f'settings="paper" is for the two modalities of the paper, got {list(self.modalities_)}. '
                'Take settings="default", or name two modalities in setup_mudata.'
            )
        with seeded(random_state):
            self.module = self._make_module(numbers, n_clusters, n_batch=self.summary_stats.n_batch)
        self._model_summary_string = (
            f"scMAG of {', '.join(self.modalities_)}: {n_clusters} clusters, settings {settings}"
        )
        self.optimizer_state_: dict[str, Any] | None = None
        self.converged_ = False
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def _check_set_up(cls, mdata: object) -> None:
        if not isinstance(mdata, MuData):
            raise TypeError(
                f"SCMAG needs a MuData set up with SCMAG.setup_mudata(mdata), got {type(mdata).__name__}. "
                'Join two AnnData of the same cells with mudata.MuData({"rna": adata, "prot": adata_of_proteins}).'
            )
        manager = cls._setup_adata_manager_store.get(mdata.uns.get("_scvi_uuid"))
        if manager is None or manager.adata is not mdata:
            raise ValueError(
                "This MuData has not been set up, or is a copy of one that was. Call SCMAG.setup_mudata(mdata) first."
            )

    def _make_module(self, numbers: dict[str, Any], n_clusters: int, *, n_batch: int) -> SCMAGModule:
        kinds = [self.registry_["setup_args"]["kinds"][name] for name in self.modalities_]
        wide = WIDE.beginning_with(numbers.pop("n_hidden"))
        noise_scale = of_each_modality(numbers.pop("noise_scale"), kinds, argument="noise_scale")
        return self._module_cls(
            [self.summary_stats[f"n_{input_key(i)}"] for i in range(len(kinds))],
            [wide if _mudata.ASSAYS[kind].widths == "wide" else PANEL for kind in kinds],
            n_clusters=n_clusters,
            n_batch=n_batch,
            median_totals=[1.0] * len(kinds) if self.adata is None else self._median_totals(),
            noise_scale=noise_scale,
            **numbers,
        )

    def _median_totals(self) -> list[float]:
        totals = []
        registered = PRESENT in self.adata_manager.data_registry
        present = np.asarray(self.adata_manager.get_from_registry(PRESENT)) if registered else None
        for i in range(len(self.modalities_)):
            counts = self.adata_manager.get_from_registry(counts_key(i))
            sums = np.asarray(counts.sum(axis=1)).ravel()
            if present is not None:
                sums = sums[present[:, i]]
            totals.append(float(np.median(sums[sums > 0])))
        return totals

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        modalities: Sequence[str] | None = None,
        kinds: Mapping[str, ModalityKind] | None = None,
        layer: str | Mapping[str, str | None] | None = None,
        round_counts: bool = False,
        input_layer: str = Keys.MANIFOLD,
        batch_key: str | None = None,
        present_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register counts and manifold-fitted layers of the modalities.

        Parameters
        ----------
        mdata
            Cells with all modalities, in the same order; where some lack some, what :func:`scmag_muon.pp.complete_cells` returns.
        modalities
            Names of the modalities; by default all that are RNA, proteins or ATAC, in this order.
        kinds
            What modalities measure, for example ``{"mod2": "atac"}``; by default what the fit took them for, else recognised.
            Widths of layers (section 2.4) and the paper's noise follow from it.
        layer
            Layer of the raw counts, for all or by modality; ``None`` is ``.X``.
        round_counts
            Round counts with decimals, as ambient correction (SoupX, CellBender) and EM (alevin, kallisto) leave them.
        input_layer
            Layer that the encoders see: the ``key_added`` of :func:`scmag_muon.pp.manifold_fit`. Where the layers are not there, their
            rows are computed from the counts by the stored fit of these cells, minibatch by minibatch.
        batch_key
            Column of the cells' batches in ``mdata.obs`` or in a modality's ``obs``. The decoders are conditioned on it.
        present_key
            Entry of ``mdata.obsm`` that says which modalities each cell has, an array of True and False of shape
            ``(n_obs, n_modalities)``; ``None``: all of them. Where a cell lacks a modality, its row of the counts holds zeros, and
            its row of ``input_layer`` what manifold fitting imputes.
        **kwargs
            Used by scvi-tools when a saved model is set up again.

        Raises
        ------
        ValueError
            Where cells are not paired, counts are no counts or the batch is missing for some cells.
        KeyError
            Where a modality, layer or column is not there.
        """
        modalities = _mudata.modality_names(mdata, modalities, kinds)
        _mudata.check_complete(mdata, modalities, input_layer, layer)
        others = [name for name in mdata.mod if name not in modalities and mdata.mod[name].n_obs < mdata.n_obs]
        if others:
            raise ValueError(
                f"Modality {others[0]!r} lacks some of the cells, which scvi-tools does not take, also where it is not used. "
                f"Take it out of the MuData: del mdata.mod[{others[0]!r}]; mdata.update()"
            )
        _mudata.check_layer(mdata, layer, modalities)
        for name in modalities:
            _mudata.get_counts(
                mdata.mod[name], modality=name, layer=_mudata.layer_of(layer, name), round_counts=round_counts
            )
        _mudata.get_batches(mdata, batch_key)
        if present_key is not None:
            check_present(mdata, present_key, modalities)
            for name, measured in zip(modalities, mdata.obsm[present_key].T, strict=True):
                if not measured.any():
                    raise ValueError(f"No cell has modality {name!r}. Leave it out of `modalities`.")
        check_rows(mdata, modalities, input_layer, present_key)
        found = _mudata.kinds_of(mdata, modalities, kinds, recorded_under=input_layer)
        arguments = cls._get_setup_method_args(
            cls=cls,
            mdata=mdata,
            modalities=modalities,
            layer=layer if layer is None or isinstance(layer, str) else dict(layer),
            round_counts=round_counts,
            input_layer=input_layer,
            batch_key=batch_key,
            present_key=present_key,
            kinds=found,
        )
        fields = [BatchField(REGISTRY_KEYS.BATCH_KEY, batch_key)]
        for i, name in enumerate(modalities):
            for key, of_key in ((counts_key(i), _mudata.layer_of(layer, name)), (input_key(i), input_layer)):
                of_type = FittedField if key == input_key(i) else MuDataLayerField
                field = of_type(
                    key, of_key, mod_key=name, is_count_data=False, correct_data_format=False, mod_required=True
                )
                fields.append(field)
        if present_key is not None:
            fields.append(MuDataObsmField(PRESENT, present_key, mod_key=None, is_count_data=False))
        manager = CountsManager(fields=fields, setup_method_args=arguments)
        with quiet():
            manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def setup_anndata(cls, adata: Any, **kwargs: Any) -> None:
        """Not offered: use :meth:`setup_mudata`."""
        raise NotImplementedError("scMAG joins modalities: use SCMAG.setup_mudata with a MuData.")

    @classmethod
    @contextlib.contextmanager
    def lent(cls, mdata: MuData) -> Iterator[None]:
        """Let go of ``mdata`` where what is done with it fails; scvi-tools would hold it for as long as the process lives."""
        try:
            yield
        except BaseException:
            uuid = mdata.uns.get("_scvi_uuid")
            cls._setup_adata_manager_store.pop(uuid, None)
            stores = cls._per_instance_manager_store
            for instance in [instance for instance, managers in list(stores.items()) if uuid in managers]:
                stores.pop(instance, None)
            raise

    def forget_data(self) -> None:
        """Let go of the MuData, which scvi-tools would hold for as long as the process lives. Nothing can be asked afterwards."""
        if self.adata is None:
            return
        if self._query is not None:  # its cells were never registered
            self._adata = None
            return
        self.adata_manager.forget_fitted_rows()
        for store, key in self._held():
            store.pop(key, None)
        self.trainer: Any = None  # it holds the data too, in a circle with the network

    def take_data_along(self) -> None:
        """When the model is gone let go of the MuData too, where nobody else needs it: scvi-tools would hold it."""
        for store, key in self._held():
            weakref.finalize(self, store.pop, key, None)

    def _held(self) -> tuple[tuple[dict[str, Any], str], ...]:
        """Where scvi-tools holds the cells, and under which key."""
        return (
            (self._setup_adata_manager_store, self.adata_manager.adata_uuid),
            (self._per_instance_manager_store, self.id),
        )

    def __repr__(self) -> str:
        return f"{self._model_summary_string}\nTraining status: {'trained' if self.is_trained_ else 'not trained'}"

    @property
    def adata(self) -> Any:
        """The cells that the model was made or loaded with; ``None`` where it was loaded without."""
        return self._adata

    @adata.setter
    def adata(self, mdata: MuData) -> None:
        raise AttributeError(
            "A model keeps the cells that it was made with. Give others to its getters, or load it with them: "
            "SCMAG.load(folder, adata=mdata)."
        )

    def view_registry(self, hide_state_registries: bool = False) -> None:  # noqa: FBT001, FBT002
        """Print how the data were set up; without cells, the arguments alone."""
        if self.adata is None:
            self.view_setup_method_args()
        else:
            self.view_anndata_setup(hide_state_registries=hide_state_registries)

    def deregister_manager(self, adata: MuData | None = None) -> None:
        """Let scvi-tools forget the data of other models of this class, or those of one MuData."""
        if self.adata is not None:
            super().deregister_manager(adata)

    def transfer_fields(self, adata: MuData, **kwargs: Any) -> None:
        """Not offered: getters take cells as they are."""
        raise NotImplementedError("Cells need no setup to be asked about: give them to the getters as `mdata`.")
