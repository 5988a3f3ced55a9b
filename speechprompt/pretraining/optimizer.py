"""What trains a language model: Muon for the matrices of its layers, AdamW for all other weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speechprompt.lm.transformer import DecoderLayer
from speechprompt.pretraining.config import PretrainConfig
from units.errors import InputError

# Muon's rate as a multiple of AdamW's, both scaled to updates of equal size. Of 1, 2 and 5 the highest was the best
# after 200 steps of a GSLM of 4.8 M weights at 2e-3 (docs/performance.md); 4 is what was tried in a whole training.
MUON_RATE = 4.0
MUON_MOMENTUM = 0.95
OPTIMIZERS = ("adamw", "muon")


class LMOptimizer:
    """One or two optimizers that step together at one learning rate.

    Muon makes each step of a matrix orthogonal, which suits maps between hidden states; embeddings, output projections
    and vectors stay AdamW's. A model without layers of ours, or `config.optimizer` "adamw", has AdamW alone.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; sizes of steps as in Liu et
    al. 2025, "Muon is scalable for LLM training".

    Args:
        model: on its device.
        config: of the training; `weight_decay` acts on matrices alone.
    Raises: InputError for an unknown optimizer.
    """

    def __init__(self, model: nn.Module, config: PretrainConfig) -> None:
        if config.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer: expected {' or '.join(OPTIMIZERS)}, got {config.optimizer!r}")
        hidden = layer_matrices(model) if config.optimizer == "muon" else []
        inside = {id(p) for p in hidden}
        others = [p for p in model.parameters() if id(p) not in inside]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)
        self.muon = (
            torch.optim.Muon(
                hidden,
                lr=MUON_RATE * config.lr,
                weight_decay=config.weight_decay,
                momentum=MUON_MOMENTUM,
                adjust_lr_fn="match_rms_adamw",
            )
            if hidden
            else None
        )

    def step(self, lr: float) -> None:
        """Update all weights by their gradients at AdamW's rate `lr`."""
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        if self.muon is not None:
            for group in self.muon.param_groups:
                group["lr"] = MUON_RATE * lr
            self.muon.step()

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors, for `load_state_dict`."""
        return {name: optimizer.state_dict() for name, optimizer in self._named()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Read what `state_dict` gave."""
        for name, optimizer in self._named():
            optimizer.load_state_dict(state[name])

    def _named(self) -> Sequence[tuple[str, torch.optim.Optimizer]]:
        both = (("adamw", self.adamw), ("muon", self.muon))
        return [(name, optimizer) for name, optimizer in both if optimizer is not None]


def layer_matrices(model: nn.Module) -> list[Tensor]:
    """The matrices of all transformer layers, in the model's order."""
    return [
        weight
        for layer in model.modules()
        if isinstance(layer, DecoderLayer)
        for weight in layer.parameters()
        if weight.ndim == 2
    ]
