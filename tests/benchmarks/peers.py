"""The pipelines that ``quality.py`` compares: other methods as MuData -> embedding or graph, ours as MuData -> labels.

Every function takes raw counts of the modalities that are known and leaves its MuData as it was; peers run with their documented defaults.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import muon
import numpy as np
import scanpy as sc
import scipy.sparse as sp
import torch
from anndata import AnnData
from sklearn.cluster import KMeans
from sklearn.manifold import SpectralEmbedding

import scmag_muon as smm
from scmag_muon._keys import Keys
from scmag_muon._mudata import make_mudata, modality_kind, modality_names
from scmag_muon.model._clustering import join_communities
from scmag_muon.tl._graph_clusters import fine_communities, typical_communities
from scmag_muon.tl._start import communities_to_join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mudata import MuData

N_COMPONENTS = 30
N_GENES = 4000
_N_NEIGHBORS = 15
_BISECTIONS = 14
_RESOLUTIONS = (0.005, 20.0)


@dataclass(frozen=True)
class Options:
    """What a run is told besides its data; ``max_epochs`` is for trying things out."""

    seed: int
    batch_key: str | None = None
    max_epochs: int | None = None


def rna_pca(mdata: MuData, options: Options) -> np.ndarray:
    rna = _log_rna(mdata)
    sc.pp.scale(rna, max_value=10)
    sc.pp.pca(rna, n_comps=min(N_COMPONENTS, min(rna.shape) - 1), random_state=options.seed)
    return rna.obsm["X_pca"]


def second(mdata: MuData, options: Options) -> np.ndarray:
    return _other_block(mdata, modality_names(mdata)[1], options)


def _other_block(mdata: MuData, name: str, options: Options) -> np.ndarray:
    """Components of a modality that is not the first."""
    adata = _normalised_other(mdata, name)
    if modality_kind(name, adata) == "atac":
        muon.atac.tl.lsi(adata, n_comps=N_COMPONENTS + 1)
        return adata.obsm["X_lsi"][:, 1:]
    sc.pp.scale(adata)
    if adata.n_vars <= N_COMPONENTS:
        return np.asarray(adata.X)
    sc.pp.pca(adata, n_comps=N_COMPONENTS, random_state=options.seed)
    return adata.obsm["X_pca"]


def concat(mdata: MuData, options: Options) -> np.ndarray:
    return np.hstack([_unit_variance(block) for block in _blocks(mdata, options).values()])


def _blocks(mdata: MuData, options: Options) -> dict[str, np.ndarray]:
    first, *others = modality_names(mdata)
    return {first: rna_pca(mdata, options), **{name: _other_block(mdata, name, options) for name in others}}


def wnn(mdata: MuData, options: Options) -> sp.csr_matrix:
    mods = {}
    for name, block in _blocks(mdata, options).items():
        mods[name] = AnnData(mdata.mod[name].X.astype(np.float32), obs=mdata.mod[name].obs[[]].copy())
        mods[name].obsm["X_block"] = block
        sc.pp.neighbors(mods[name], n_neighbors=_N_NEIGHBORS, use_rep="X_block", random_state=options.seed)
    joint = make_mudata(mods)
    # muon aborts the interpreter where n_multineighbors is not below the number of cells
    n_multineighbors = min(200, mdata.n_obs - 1)
    muon.pp.neighbors(joint, n_multineighbors=n_multineighbors, key_added="wnn", random_state=options.seed)
    return sp.csr_matrix(joint.obsp["wnn_connectivities"])


def mofa(mdata: MuData, options: Options) -> np.ndarray:
    first, *others = modality_names(mdata)
    normalised = {first: _log_rna(mdata), **{name: _normalised_other(mdata, name) for name in others}}
    return mofa_factors(make_mudata(normalised), options)


def mofa_factors(joint: MuData, options: Options, **arguments: Any) -> np.ndarray:
    """MOFA+'s factors of normalised values."""
    if options.max_epochs is not None:
        arguments["n_iterations"] = options.max_epochs
    with tempfile.TemporaryDirectory() as folder:
        outfile = str(Path(folder) / "mofa.hdf5")
        muon.tl.mofa(joint, use_var=None, seed=options.seed, outfile=outfile, save_data=False, **arguments)
    return joint.obsm["X_mofa"]


def totalvi(mdata: MuData, options: Options) -> np.ndarray:
    return trained_peer(mdata, options).get_latent_representation()


def multivi(mdata: MuData, options: Options) -> np.ndarray:
    return trained_peer(mdata, options).get_latent_representation()


def peer_model(mdata: MuData, batch_key: str | None) -> Any:
    """totalVI for RNA and proteins, MultiVI where there is chromatin, not trained."""
    import scvi

    rna, *others = modality_names(mdata)
    of_kind = {modality_kind(name, mdata.mod[name]): name for name in others}
    names = {"rna_layer": rna} | {f"{kind}_layer": of_kind[kind] for kind in ("atac", "protein") if kind in of_kind}
    joint = in_order(_variable_counts(mdata), names.values())
    if "protein" in of_kind:
        joint.mod[of_kind["protein"]].X = joint.mod[of_kind["protein"]].X.toarray()
    if "atac" not in of_kind:
        scvi.model.TOTALVI.setup_mudata(joint, batch_key=batch_key, modalities=names)
        return scvi.model.TOTALVI(joint)
    scvi.model.MULTIVI.setup_mudata(joint, batch_key=batch_key, modalities=names)
    n_regions = joint.mod[of_kind["atac"]].n_vars
    return scvi.model.MULTIVI(joint, n_genes=joint.mod[rna].n_vars, n_regions=n_regions)


def in_order(mdata: MuData, names: Iterable[str]) -> MuData:
    """These modalities in this order: MultiVI wants RNA, chromatin, proteins, and fails where it has to reorder them."""
    return make_mudata({name: mdata.mod[name] for name in names}, mdata.obs)


PEERS: dict[str, Callable[[MuData, Options], np.ndarray | sp.csr_matrix]] = {
    f.__name__: f for f in (rna_pca, second, concat, wnn, mofa, totalvi, multivi)
}


def scmag(mdata: MuData, n_clusters: int | None, options: Options, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels and embedding. The fitted layers stay in ``mdata``, so that another K does not fit again."""
    if options.max_epochs is not None:
        settings |= {"max_epochs_pretrain": options.max_epochs, "max_epochs": options.max_epochs}
    smm.tl.scmag(
        mdata,
        n_clusters=n_clusters,
        batch_key=options.batch_key,
        random_state=options.seed,
        progress_bar=False,
        **settings,
    )
    return mdata.obs["scmag"].astype(int).to_numpy(), mdata.obsm["X_scmag"]


def cuts(mdata: MuData, ns_clusters: Iterable[int]) -> dict[int, np.ndarray]:
    """Labels of the run at other levels of its tree, without training; a level that the tree does not have is left out."""
    found = {}
    for n_clusters in ns_clusters:
        try:
            smm.tl.cut(mdata, n_clusters=n_clusters, key_added="cut")
        except ValueError:
            continue
        found[n_clusters] = mdata.obs["cut"].astype(int).to_numpy()
    return found


def scmag_paper(mdata: MuData, n_clusters: int | None, options: Options) -> tuple[np.ndarray, np.ndarray]:
    return scmag(mdata, n_clusters, options, settings="paper")


def joined_communities(embedding: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Clusters of a space without the network: its fine communities, joined in that space."""
    fine = torch.as_tensor(fine_communities(embedding, n_clusters, random_state=seed))
    return join_communities(torch.as_tensor(embedding), fine, n_clusters).numpy()


def no_network_fitted(mdata: MuData, n_clusters: int | None, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Communities of the joint space after fitting, joined by that space and by expression."""
    return _no_network(mdata, n_clusters, options, Keys.fitted_embedding(Keys.MANIFOLD))


def no_network_unfitted(mdata: MuData, n_clusters: int | None, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """The same before fitting; where K is not given, the communities from which the network would start."""
    return _no_network(mdata, n_clusters, options, Keys.joint_embedding(Keys.MANIFOLD))


def _no_network(mdata: MuData, n_clusters: int | None, options: Options, space: str) -> tuple[np.ndarray, np.ndarray]:
    unfitted = Keys.joint_embedding(Keys.MANIFOLD)
    if space not in mdata.obsm:
        smm.pp.manifold_fit(mdata, batch_key=options.batch_key, random_state=options.seed)
    if n_clusters is None:
        labels = typical_communities(mdata.obsm[unfitted], random_state=options.seed)
        if space == unfitted:
            return labels, mdata.obsm[space]
        n_clusters = int(labels.max()) + 1
    start = communities_to_join(mdata, [space], n_clusters, Keys.MANIFOLD, options.batch_key, options.seed)
    z, divisions = torch.as_tensor(mdata.obsm[space]), torch.as_tensor(start.labels)
    joined = join_communities(z, divisions, n_clusters, start.profiles, start.profile_weight)
    return joined.numpy(), mdata.obsm[space]


OURS: dict[str, Callable[[MuData, int | None, Options], tuple[np.ndarray, np.ndarray]]] = {
    f.__name__: f for f in (scmag, scmag_paper, no_network_fitted, no_network_unfitted)
}


class Clusterings:
    """K-means and Leiden clusters of an embedding, or of a graph by way of its spectral embedding."""

    def __init__(self, found: np.ndarray | sp.csr_matrix, largest_k: int, seed: int):
        self.seed = seed
        self._at: dict[float, np.ndarray] = {}
        if sp.issparse(found):
            self.graph = found
            spectral = SpectralEmbedding(n_components=largest_k, affinity="precomputed", random_state=seed)
            self.embedding = spectral.fit_transform(found)
        else:
            scratch = AnnData(obsm={"X_found": np.asarray(found)})
            sc.pp.neighbors(scratch, n_neighbors=_N_NEIGHBORS, use_rep="X_found", random_state=seed)
            self.graph, self.embedding = scratch.obsp["connectivities"], np.asarray(found)
        self._is_spectral = sp.issparse(found)

    def kmeans(self, n_clusters: int) -> np.ndarray:
        # a graph's first K eigenvectors are the spectral embedding for K
        points = self.embedding[:, :n_clusters] if self._is_spectral else self.embedding
        return KMeans(n_clusters, n_init=10, random_state=self.seed).fit_predict(points)

    def leiden(self, n_clusters: int | None) -> np.ndarray:
        """As many communities as asked, or the nearest number that the search meets; resolution 1 where K is unknown."""
        if n_clusters is None:
            return self._leiden(1.0)
        low, high = _RESOLUTIONS
        for _ in range(_BISECTIONS):
            middle = float(np.sqrt(low * high))
            reached = self._leiden(middle).max() + 1
            if reached == n_clusters:
                break
            low, high = (middle, high) if reached < n_clusters else (low, middle)
        return min(self._at.values(), key=lambda labels: (abs(labels.max() + 1 - n_clusters), labels.max()))

    def _leiden(self, resolution: float) -> np.ndarray:
        if resolution not in self._at:
            scratch = AnnData(obs={"cell": np.arange(self.graph.shape[0]).astype(str)})
            sc.tl.leiden(
                scratch,
                adjacency=self.graph,
                resolution=resolution,
                flavor="igraph",
                n_iterations=2,
                directed=False,
                random_state=self.seed,
            )
            self._at[resolution] = scratch.obs["leiden"].astype(int).to_numpy()
        return self._at[resolution]


def _log_rna(mdata: MuData) -> AnnData:
    rna = _bare(mdata, modality_names(mdata)[0])
    sc.pp.normalize_total(rna)
    sc.pp.log1p(rna)
    if rna.n_vars > N_GENES:
        sc.pp.highly_variable_genes(rna, n_top_genes=N_GENES, flavor="seurat")
        rna = rna[:, rna.var["highly_variable"]].copy()
    return rna


def _normalised_other(mdata: MuData, name: str) -> AnnData:
    adata = _bare(mdata, name)
    if modality_kind(name, adata) == "atac":
        muon.atac.pp.tfidf(adata)
    else:
        adata.X = sp.csc_matrix(adata.X)
        muon.prot.pp.clr(adata)
        adata.X = adata.X.toarray()
    return adata


def _bare(mdata: MuData, name: str) -> AnnData:
    adata = mdata.mod[name]
    return AnnData(sp.csr_matrix(adata.X, dtype=np.float32, copy=True), obs=adata.obs[[]].copy(), var=adata.var.copy())


def _unit_variance(block: np.ndarray) -> np.ndarray:
    return block / np.sqrt(block.var(axis=0).sum())


def _variable_counts(mdata: MuData) -> MuData:
    rna, *others = modality_names(mdata)
    mods = {name: _bare(mdata, name) for name in (rna, *others)}
    if mods[rna].n_vars > N_GENES:
        try:
            sc.pp.highly_variable_genes(mods[rna], n_top_genes=N_GENES, flavor="seurat_v3")
        except ImportError:  # scikit-misc is not there
            mods[rna].var["highly_variable"] = mods[rna].var_names.isin(_log_rna(mdata).var_names)
        mods[rna] = mods[rna][:, mods[rna].var["highly_variable"]].copy()
    return make_mudata(mods, mdata.obs)


def trained_peer(mdata: MuData, options: Options) -> Any:
    """totalVI or MultiVI, trained as its documentation has it."""
    model = peer_model(mdata, options.batch_key)
    epochs = {} if options.max_epochs is None else {"max_epochs": options.max_epochs}
    model.train(enable_progress_bar=False, **epochs)
    return model
