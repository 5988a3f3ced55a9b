"""Guidance of a layer in training: phones by a linear map, and units that tell phones and clusters.

K-means on a layer finds the directions in which features vary most, speaker and channel among them. Here the
distances to K prototypes alone have to tell a frame's phone and cluster, so that the layer spends its variance
on what units should tell. A unit's predictions are two tables, mixed by the posterior of the units: a mixture
model trained by gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# B batch, T frames, D features, K units, P phones, C clusters, N frames of a batch.


class GuidedUnits(nn.Module):
    """K prototypes of a layer's features with tables of the phones and clusters that each stands for."""

    inventory_P: Tensor
    begun: Tensor

    def __init__(self, n_units: int, width: int, n_clusters: int, inventory_P: Tensor) -> None:
        super().__init__()
        self.prototype_KD = nn.Parameter(torch.randn(n_units, width))
        self.log_scale = nn.Parameter(torch.zeros(()))  # of squared distances
        self.cluster_KC = nn.Parameter(0.1 * torch.randn(n_units, n_clusters))
        self.phone_KP = nn.Parameter(0.1 * torch.randn(n_units, len(inventory_P)))
        self.phone = nn.Linear(width, len(inventory_P))
        self.register_buffer("inventory_P", inventory_P, persistent=False)
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def begin(self, feature_ND: Tensor) -> None:
        """Prototypes from features: as many frames drawn at random, and a scale that suits their distances."""
        chosen = feature_ND[torch.randperm(len(feature_ND))[: len(self.prototype_KD)]]
        self.prototype_KD.copy_(chosen)
        nearest_N = torch.cdist(feature_ND, chosen).square().kthvalue(2, dim=1).values
        self.log_scale.copy_(-torch.log(nearest_N.mean() / 8))
        self.begun.fill_(True)

    def forward(
        self, feature_BTD: Tensor, cluster_BT: Tensor, phone_BT: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss in nats a frame, and shares of frames whose cluster and phone are named rightly."""
        feature_ND, cluster_N, phone_N = (
            feature_BTD.flatten(0, 1).float(),
            cluster_BT.flatten(),
            phone_BT.flatten(),
        )
        if not self.begun:
            self.begin(feature_ND)
        near_NK = -torch.cdist(feature_ND, self.prototype_KD).square() * self.log_scale.exp()
        log_unit_NK = near_NK.log_softmax(-1)
        unit_NK = log_unit_NK.exp()

        labelled_N = cluster_N >= 0
        cluster_NC = unit_NK[labelled_N] @ self.cluster_KC.softmax(-1)
        cluster_N = cluster_N[labelled_N]
        loss = functional.nll_loss(cluster_NC.clamp_min(1e-7).log(), cluster_N)

        spoken_N = phone_N >= 0
        phone_N = phone_N[spoken_N]
        others_NP = self.inventory_P[None] != self.inventory_P[phone_N][:, None]
        table_KP = self._phone_table()
        phone_NP = (unit_NK[spoken_N] @ table_KP).masked_fill(others_NP, 0)
        loss = loss + functional.nll_loss(phone_NP.clamp_min(1e-7).log(), phone_N)
        normal_ND = functional.layer_norm(feature_ND[spoken_N], feature_ND.shape[-1:])
        linear_NP = self.phone(normal_ND).masked_fill(others_NP, -torch.inf)
        loss = loss + functional.cross_entropy(linear_NP, phone_N)

        usage_K = unit_NK.mean(0)
        entropy = -(usage_K * usage_K.clamp_min(1e-9).log()).sum()
        hard_NP = table_KP[unit_NK[spoken_N].argmax(-1)].masked_fill(others_NP, 0)
        figures = {
            "phone_accuracy": (linear_NP.argmax(-1) == phone_N).float().mean().item(),
            "unit_phone_accuracy": (hard_NP.argmax(-1) == phone_N).float().mean().item(),
            "unit_cluster_accuracy": (cluster_NC.argmax(-1) == cluster_N).float().mean().item(),
            "unit_perplexity": entropy.exp().item(),
            "posterior_entropy": -(unit_NK * log_unit_NK).sum(-1).mean().item(),
        }
        return loss - 0.2 * entropy, figures

    def _phone_table(self) -> Tensor:
        """(K, P): within each inventory the probabilities of a unit's phones sum to one."""
        table_KP = torch.zeros_like(self.phone_KP)
        for inventory in self.inventory_P.unique().tolist():
            members = self.inventory_P == inventory
            table_KP[:, members] = self.phone_KP[:, members].softmax(-1)
        return table_KP
