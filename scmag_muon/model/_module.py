"""The gated variational autoencoder (paper, eq. 13-28, 33)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import Tensor, nn

from scmag_muon.model._clustering import (
    SelectiveGate,
    clustering_loss,
    soft_assignment,
    squared_distances,
    total_variance,
    whitening,
    within_covariance,
)
from scmag_muon.model._components import CODE_WIDTH, CodePredictor, JointEncoder, Widths, ZINBDecoder, without_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scmag_muon.model._settings import Dispersion

_CELLS_AT_A_TIME = 2**16
PRESENT = "present"
"""Registry key of the modalities that each cell has; without it cells have all."""

_FEW_CELLS = 32


def counts_key(modality: int) -> str:
    """Registry key of a modality's counts."""
    return f"X_counts_{modality}"


def input_key(modality: int) -> str:
    """Registry key of what a modality's encoder sees."""
    return f"X_input_{modality}"


class SCMAGModule(BaseModuleClass):
    """Encoders, spaces Z1, Z2, Zr and Zc, gate and decoders for one modality or more.

    Each modality has a code of 16 numbers. All spaces hold these side by side, ``n_latent = 16 * n_modalities``.

    Parameters
    ----------
    n_inputs
        Features of each modality.
    widths
        Layer widths of each modality.
    n_clusters, n_batch
        Number of clusters and of batches.
    median_totals
        Median of the cells' total counts in each modality; a cell's size factor is its total over this.
    noise_scale
        k_R and k_A (eq. 13), one for each modality.
    residual_weight
        η, the share of Z1 in Zr (eq. 16).
    reduction
        Whether the likelihood is summed (``"sum"``) or averaged (``"mean"``) over the features of a modality.
    dispersion
        ``"gene"``: one dispersion for each feature; ``"gene-cell"``: a head of the decoder gives it for each cell (eq. 20).
    gate_bias
        Initial bias of the gate; ``None`` leaves the gate out, Zc = Z1.
    two_stage
        Cluster on Z1 and add it to Zr; otherwise the variational space serves for both.
    relative_distance
        Scale squared distances: in Q by the covariance of the cells around their centres, less twice the log of the
        cluster's share of the cells, so that Q depends neither on the scale nor on the directions of Zc and a cluster wins
        no cells from a larger one by lying in its tail; in the loss by the total variance of Zc, so that it can't be
        lowered by shrinking Zc.
    modality_dropout
        Share of the cells of a minibatch that lose the code of one modality while training. In its place stands what a linear
        predictor makes of the other codes, and so it does, also after training, where a cell lacks a modality. With 0 there is no
        predictor: the code of what a cell lacks is that of its input, as manifold fitting imputes it.
    """

    def __init__(
        self,
        n_inputs: Sequence[int],
        widths: Sequence[Widths],
        *,
        n_clusters: int,
        n_batch: int,
        median_totals: Sequence[float],
        noise_scale: Sequence[float],
        residual_weight: float,
        reduction: Literal["sum", "mean"],
        dispersion: Dispersion,
        gate_bias: float | None,
        two_stage: bool = True,
        relative_distance: bool,
        modality_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_inputs = tuple(n_inputs)
        self.residual_weight = residual_weight
        self.reduction = reduction
        self.relative_distance = relative_distance
        self.two_stage = two_stage
        self.n_latent = n_latent = CODE_WIDTH * len(self.n_inputs)
        self.encoder = JointEncoder(n_inputs, widths, noise_scale)
        self.posterior = nn.Linear(n_latent, 2 * n_latent)
        self.decoders = nn.ModuleList(
            ZINBDecoder(n_latent, n, w, n_batch, dispersion) for n, w in zip(n_inputs, widths, strict=True)
        )
        self.gate = None if gate_bias is None else SelectiveGate(n_latent, n_clusters, bias=gate_bias)
        self.modality_dropout = modality_dropout
        predicts = modality_dropout > 0 and len(self.n_inputs) > 1
        self.predictor = CodePredictor(len(self.n_inputs)) if predicts else None
        self.register_buffer("median_totals", torch.tensor(median_totals, dtype=torch.float32))
        self.register_buffer("centers", torch.zeros(n_clusters, n_latent))
        self.register_buffer("whitening", torch.eye(n_latent))
        self.register_buffer("offset", torch.zeros(n_clusters))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("fit_agreement", torch.ones(()))
        self.register_buffer("network_agreement", torch.ones(()))
        self.register_buffer("stage", torch.ones((), dtype=torch.long))
        self.register_buffer("stage_epochs", torch.zeros(3, dtype=torch.long))

    @property
    def _decoders(self) -> tuple[ZINBDecoder, ...]:
        return cast("tuple[ZINBDecoder, ...]", tuple(self.decoders))

    @property
    def clustering_started(self) -> bool:
        """Whether stage 3 has been reached, so that centres and gate mean something."""
        return int(self.stage) == 3

    @property
    def input_keys(self) -> list[str]:
        """Registry keys of what the encoders see."""
        return [input_key(i) for i in range(len(self.n_inputs))]

    def ungated_space(self, tensors: dict[str, Tensor]) -> Tensor:
        """The space that the gate selects from: Z1, or the mean of Z2 where there is one stage only."""
        z1 = self._fused_space(**self._get_inference_input(tensors))
        return z1 if self.two_stage else self.posterior(z1).chunk(2, dim=-1)[0]

    def _fused_space(self, inputs: Sequence[Tensor], present: Tensor | None) -> Tensor:
        z1 = self.encoder(inputs)
        if self.predictor is None or (present is None and not self.training):
            return z1
        if present is None:
            present = z1.new_ones(len(z1), len(inputs), dtype=torch.bool)
        if self.training:
            present = without_one(present, self.modality_dropout)
        return self.predictor(z1, present)

    def cluster_space(self, ungated: Tensor, *, clustering: bool | None = None) -> tuple[Tensor, Tensor]:
        """Zc and the values of the gate (eq. 17); the space as it is, and ones, before stage 3 and without a gate.

        ``clustering`` tells whether stage 3 has been reached, where that is known without asking the device.
        """
        if self.gate is None or not (self.clustering_started if clustering is None else clustering):
            return ungated, torch.ones_like(ungated)
        return self.gate(ungated, self.assign)

    def assign(self, zc: Tensor) -> Tensor:
        """Soft assignment Q of cells to the current centres (eq. 29-31), of some at a time."""
        return torch.cat([self._assign(part) for part in zc.split(_CELLS_AT_A_TIME)])

    def _assign(self, zc: Tensor) -> Tensor:
        with torch.autocast(zc.device.type, enabled=False):
            distances = squared_distances(zc @ self.whitening, self.centers @ self.whitening)
        return soft_assignment(distances + self.offset)

    def set_centers(self, zc: Tensor, q: Tensor) -> None:
        """Centres as weighted means of Zc, and the scale of the distances from the spread around them.

        A cluster without cells keeps its centre and, where distances are relative, stays without.
        """
        weight = q.sum(dim=0)
        sums = q.T @ zc
        means = sums / weight.clamp_min(1e-8).unsqueeze(1)
        used = weight > 1e-3
        self.centers.copy_(torch.where(used.unsqueeze(1), means, self.centers))
        if self.relative_distance:
            self.whitening.copy_(whitening(within_covariance(zc.T @ zc, len(zc), self.centers, weight, sums)))
            offset = -2 * (weight.clamp_min(1) / len(zc)).log()
            self.offset.copy_(torch.where(used, offset, torch.inf))
            self.spread.copy_(total_variance(zc))

    @torch.no_grad()
    def reorder_clusters(self, order: Tensor) -> None:
        """Number the clusters anew; the gate's weights for Q move along."""
        self.centers.copy_(self.centers[order])
        self.offset.copy_(self.offset[order])
        if self.gate is not None:
            weights = self.gate.linear.weight
            weights[:, self.n_latent :] = weights[:, self.n_latent :][:, order]

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: object) -> dict[str, Any]:
        return {"inputs": [tensors[key] for key in self.input_keys], "present": _present(tensors)}

    @auto_move_data
    def inference(
        self, inputs: Sequence[Tensor], present: Tensor | None = None, *, clustering: bool | None = None
    ) -> dict[str, Tensor]:
        """Z1, Z2 with its mean and log-variance, Zr, Zc and the gate (eq. 13-17), each ``(n_cells, n_latent)``.

        ``present``, ``(n_cells, n_modalities)``, is False where a cell lacks a modality; ``clustering`` as in :meth:`cluster_space`.
        """
        z1 = self._fused_space(inputs, present)
        mean, log_variance = self.posterior(z1).to(z1.dtype).chunk(2, dim=-1)
        log_variance = nn.functional.hardtanh(log_variance, -10, 10)  # a clamp whose derivative is one operation
        z2 = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        zc, gate = self.cluster_space(z1 if self.two_stage else mean, clustering=clustering)
        return {
            "z1": z1,
            "z2": z2,
            "mean": mean,
            "log_variance": log_variance,
            "zr": z2 + self.residual_weight * z1 if self.two_stage else z2,
            "zc": zc,
            "gate": gate,
        }

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Tensor], **_: object
    ) -> dict[str, Any]:
        return {
            "zr": inference_outputs["zr"],
            "totals": torch.stack([tensors[counts_key(i)].sum(dim=1) for i in range(len(self.n_inputs))], dim=1),
            "batch_index": tensors[REGISTRY_KEYS.BATCH_KEY],
            "present": _present(tensors),
        }

    @auto_move_data
    def generative(
        self, zr: Tensor, totals: Tensor, batch_index: Tensor, present: Tensor | None = None
    ) -> dict[str, Tensor | list[Tensor]]:
        """Last hidden layers of the decoders, and the log of the size factors, ``(n_cells, n_modalities)``.

        The size factor of a modality that a cell lacks is 1.
        """
        log_size = (totals / self.median_totals).clamp_min(1e-4).log()
        if present is not None:
            log_size = log_size.masked_fill(~present, 0)
        return {"hidden": [decoder.hidden(zr, batch_index) for decoder in self._decoders], "log_size": log_size}

    def log_mean(self, modality: int, hidden: list[Tensor], log_size: Tensor) -> Tensor:
        """Log mean of one modality, its size factors included."""
        return self._decoders[modality].log_mean(hidden[modality]) + log_size[:, modality : modality + 1]

    @auto_move_data
    def zinb_parameters(self, hidden: list[Tensor], log_size: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Log mean, log dispersion and dropout logit of each modality (eq. 19-21), size factors included in the mean."""
        zinb = []
        for i, decoder in enumerate(self._decoders):
            log_mean, log_dispersion, logits = decoder.zinb(hidden[i])
            zinb.append((log_mean + log_size[:, i : i + 1], log_dispersion, logits))
        return zinb

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Tensor],
        generative_outputs: dict[str, Any],
        *,
        kl_weight: float = 0.0,
        cluster_weight: float = 0.0,
    ) -> LossOutput:
        """Reconstruction + α KL + β clustering (eq. 33); the weights come from the stage.

        A modality that a cell lacks adds nothing to its reconstruction, and the others are not made up for it: what is left is
        the evidence lower bound of the counts that were measured, so that likelihood and KL stay in proportion in every cell.
        """
        reconstruction, present = {}, _present(tensors)
        hidden, log_size = generative_outputs["hidden"], generative_outputs["log_size"]
        for i, decoder in enumerate(self._decoders):
            nll = -decoder.log_likelihood(tensors[counts_key(i)], hidden[i], log_size[:, i : i + 1])
            if present is not None:
                nll = nll * present[:, i]
            reconstruction[f"modality_{i}"] = nll / self.n_inputs[i] if self.reduction == "mean" else nll
        mean, log_variance = inference_outputs["mean"], inference_outputs["log_variance"]
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)
        total = torch.stack(list(reconstruction.values())).sum(dim=0).mean() + kl_weight * kl.mean()
        cluster = torch.zeros((), device=kl.device)
        if cluster_weight:
            cluster = self._clustering_loss(inference_outputs["zc"])
            total = total + cluster_weight * cluster
        return LossOutput(
            loss=total,
            reconstruction_loss=reconstruction,
            kl_local={"kl": kl},
            extra_metrics={"cluster_loss": cluster.detach()},
            n_obs_minibatch=len(kl),
        )

    def _clustering_loss(self, zc: Tensor) -> Tensor:
        distances = squared_distances(zc, self.centers)
        q = self.assign(zc).detach()
        if self.relative_distance:
            # a few cells can't tell the variance: a last, small minibatch takes that of all cells
            spread = total_variance(zc) if len(zc) >= _FEW_CELLS else self.spread
            distances = distances * (self.n_latent / spread.clamp_min(1e-8))
        return clustering_loss(distances, q)

    def sample(self, *args: object, **kwargs: object) -> Tensor:
        """Not offered: use :meth:`SCMAG.get_normalized_expression`."""
        raise NotImplementedError


def _present(tensors: dict[str, Tensor]) -> Tensor | None:
    return tensors[PRESENT].bool() if PRESENT in tensors else None
