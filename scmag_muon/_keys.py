"""Every slot name that the package reads or writes in a MuData."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 150  # file systems take 255 bytes, and names are made longer


def check_key(key: object, *, argument: str) -> None:
    """Raise unless ``key`` is a name under which results can be written, saved and read again."""
    if not isinstance(key, str):
        raise TypeError(f"`{argument}` must be a string, got {key!r}.")
    fault = None
    if not key.strip():
        fault = "must not be empty"
    elif "/" in key or not key.isprintable():
        fault = "must hold no slash and no control character, which files can't store"
    elif key.startswith(("_", "X_", ".")):
        fault = 'must not begin with "_", "X_" or ".", which stand for other slots'
    elif key != key.strip():
        fault = "must not begin or end with a space"
    elif len(key.encode(errors="replace")) > _LONGEST:
        fault = f"must be shorter than {_LONGEST} bytes"
    if fault:
        shown = key if len(key) <= 2 * _LONGEST else f"{key[:_LONGEST]}…"
        raise ValueError(f"`{argument}` {fault}, got {shown!r}. Give another name, for example {argument}='run_1'.")


class Keys:
    """Slot names derived from the two ``key_added`` arguments.

    ``manifold`` is the key of :func:`scmag_muon.pp.manifold_fit`, ``scmag`` that of :func:`scmag_muon.tl.scmag`.
    """

    MANIFOLD = "manifold"
    SCMAG = "scmag"

    @staticmethod
    def joint_embedding(manifold: str) -> str:
        """``mdata.obsm``: weighted principal components of all modalities, before fitting."""
        return f"X_{manifold}_unfitted"

    @staticmethod
    def fitted_embedding(manifold: str) -> str:
        """``mdata.obsm``: the same components after fitting."""
        return f"X_{manifold}"

    @staticmethod
    def view_layer(manifold: str, view: str) -> str:
        """``mod.layers``: one fitted view, kept on request."""
        return f"{manifold}_{view}"

    @staticmethod
    def fit(manifold: str) -> str:
        """``mdata.uns``: numbers of the stored fit."""
        return f"{manifold}_fit"

    @staticmethod
    def loadings(manifold: str) -> str:
        """``mod.varm``: loadings of the principal components."""
        return f"{manifold}_loadings"

    @staticmethod
    def neighbor_lists(manifold: str, kernel: str) -> str:
        """``mdata.obsp``: 1 for the nearest neighbours of each cell under a kernel."""
        return f"{manifold}_{kernel}_neighbors"

    @staticmethod
    def operator(manifold: str, kernel: str, modality: str | None = None) -> str:
        """``mdata.obsp``: fitting under a kernel, rows sum to 1; of a modality where some cells lack it, else of all."""
        return f"{manifold}_{kernel}" if modality is None else f"{manifold}_{kernel}_{modality}"

    @staticmethod
    def latent(scmag: str) -> str:
        """``mdata.obsm``: clustering space Zc."""
        return f"X_{scmag}"

    @staticmethod
    def reconstruction_latent(scmag: str) -> str:
        """``mdata.obsm``: reconstruction space Zr."""
        return f"X_{scmag}_recon"

    @staticmethod
    def confidence(scmag: str) -> str:
        """``mdata.obs``: how likely the cell is in the right cluster, by the vote of its nearest cells."""
        return f"{scmag}_confidence"

    @staticmethod
    def q(scmag: str) -> str:
        """``mdata.obs``: soft assignment to the cell's own cluster (eq. 31)."""
        return f"{scmag}_q"

    @staticmethod
    def measured(scmag: str) -> str:
        """``mdata.obs``: modalities that were measured in the cell, where some cells lack some."""
        return f"{scmag}_measured"

    @staticmethod
    def imputed(scmag: str, modality: str) -> str:
        """``mdata.obsm``: denoised counts of all cells, also where the modality was not measured."""
        return f"{scmag}_imputed_{modality}"

    @staticmethod
    def transferred(scmag: str, column: str) -> str:
        """``mdata.obs``: labels of a reference, transferred."""
        return f"{scmag}_{column}"

    @staticmethod
    def transferred_probability(scmag: str, column: str) -> str:
        """``mdata.obs``: probability of the transferred label."""
        return f"{scmag}_{column}_probability"

    @staticmethod
    def transferred_unlikeness(scmag: str, column: str) -> str:
        """``mdata.obs``: how unlike the labelled cells a cell is."""
        return f"{scmag}_{column}_unlikeness"

    @staticmethod
    def transferred_probabilities(scmag: str, column: str) -> str:
        """``mdata.obsm``: probabilities of all labels."""
        return f"{scmag}_{column}_probabilities"

    @staticmethod
    def projected(scmag: str, basis: str) -> str:
        """``mdata.obsm``: cells of a query on a map of their reference."""
        return f"X_{scmag}_{basis.removeprefix('X_')}"

    @staticmethod
    def unlikeness(scmag: str) -> str:
        """``mdata.obs``: how unlike its reference a cell is."""
        return f"{scmag}_unlikeness"

    @staticmethod
    def imputation(scmag: str, score: str) -> str:
        """``mod.var``: how well counts are imputed that were held out."""
        return f"{scmag}_imputation_{score}"

    @staticmethod
    def entropy(scmag: str) -> str:
        """``mdata.obs``: entropy of the soft assignment."""
        return f"{scmag}_entropy"

    @staticmethod
    def leaf(scmag: str) -> str:
        """``mdata.obs``: leaf of the tree of clusters that holds the cell."""
        return f"{scmag}_leaf"

    @staticmethod
    def level(scmag: str, n_clusters: int) -> str:
        """``mdata.obs``: clusters at another level of the tree."""
        return f"{scmag}_{n_clusters}"

    @staticmethod
    def cluster_tree(scmag: str) -> str:
        """``mdata.uns``: features that tell the two sides of each split of the tree apart."""
        return f"{scmag}_cluster_tree"

    @staticmethod
    def cluster_qc(scmag: str) -> str:
        """``mdata.uns``: health of each cluster."""
        return f"{scmag}_cluster_qc"

    @staticmethod
    def doublet_score(scmag: str) -> str:
        """``mdata.obs``: how much the cell looks like two."""
        return f"{scmag}_doublet_score"

    @staticmethod
    def cell_type(scmag: str) -> str:
        """``mdata.obs``: name of the cell's cluster by known markers; ``mdata.uns``: the scores."""
        return f"{scmag}_type"

    @staticmethod
    def markers(scmag: str) -> str:
        """``mdata.uns``: features ranked for each cluster and modality."""
        return f"{scmag}_markers"

    @staticmethod
    def colors(column: str) -> str:
        """Colours of a column's categories, as scanpy stores them (uns)."""
        return f"{column}_colors"

    @staticmethod
    def pair(scmag: str, group: str, reference: str) -> str:
        """``mdata.uns``: features of one group ranked against one other."""
        return f"{scmag}_markers_{group}_vs_{reference}".replace("/", "-")

    @staticmethod
    def pseudobulk(scmag: str) -> str:
        """Tests with samples as replicates (uns)."""
        return f"{scmag}_pseudobulk"

    @staticmethod
    def enrichment(scmag: str) -> str:
        """``mdata.uns``: gene sets enriched in each cluster's markers."""
        return f"{scmag}_enrichment"

    @staticmethod
    def trajectory(scmag: str) -> str:
        """``mdata.uns``: PAGA graph and root of the pseudotime."""
        return f"{scmag}_trajectory"

    @staticmethod
    def pseudotime(scmag: str) -> str:
        """``mdata.obs``: diffusion pseudotime."""
        return f"{scmag}_pseudotime"

    @staticmethod
    def batch_mixing(scmag: str) -> str:
        """``mdata.uns``: mixing of the batches before and after; also ``obsm`` slots, with ``X_`` in front."""
        return f"{scmag}_batch_mixing"

    @staticmethod
    def stability(scmag: str) -> str:
        """``mdata.uns``: how well each cluster comes back with other seeds."""
        return f"{scmag}_stability"

    @staticmethod
    def held_out(scmag: str) -> str:
        """``mdata.uns``: how well markers tell held-out cells apart, raw and reconstructed."""
        return f"{scmag}_held_out"

    @staticmethod
    def fit_slots(manifold: str) -> set[tuple[str, str]]:
        """All that :func:`scmag_muon.pp.manifold_fit` writes, as ``(where, name)``."""
        return {
            ("layers", manifold),
            ("var", manifold),
            ("mod.uns", manifold),
            ("obsm", Keys.joint_embedding(manifold)),
            ("obsm", Keys.fitted_embedding(manifold)),
            ("varm", Keys.loadings(manifold)),
            ("uns", Keys.fit(manifold)),
        }

    @staticmethod
    def query_slots(scmag: str, columns: Iterable[str]) -> set[tuple[str, str]]:
        """What :func:`scmag_muon.tl.map_query` writes beside :meth:`run_slots`, as ``(where, name)``."""
        slots = {("obs", Keys.unlikeness(scmag))}
        for column in columns:
            of_column = (Keys.transferred, Keys.transferred_probability, Keys.transferred_unlikeness)
            slots |= {("obs", slot(scmag, column)) for slot in of_column}
            slots.add(("obsm", Keys.transferred_probabilities(scmag, column)))
        return slots

    @staticmethod
    def run_slots(scmag: str) -> set[tuple[str, str]]:
        """All that :func:`scmag_muon.tl.scmag` writes, as ``(where, name)``."""
        return {
            ("obs", scmag),
            ("obs", Keys.confidence(scmag)),
            ("obs", Keys.q(scmag)),
            ("obs", Keys.entropy(scmag)),
            ("obs", Keys.leaf(scmag)),
            ("obsm", Keys.latent(scmag)),
            ("obsm", Keys.reconstruction_latent(scmag)),
            ("layers", scmag),
            ("mod.uns", scmag),
            ("uns", scmag),
        }
