"""How a generator's weights are kept: with weight norm in training, plain, or rounded to bfloat16.

Weights of the way from units to the wave, that is; a duration predictor and an F0 quantizer, which decide between whole
numbers, are left as they are, as they are published.

Source: Salimans and Kingma 2016 (weight normalization); Kong, Kim, Bae 2020 (HiFi-GAN).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

_NOT_WAVE = ("dur_predictor", "quantizer")


def wave_convolutions(generator: nn.Module) -> list[tuple[str, nn.Conv1d | nn.ConvTranspose1d]]:
    """The convolutions from units to the wave, with their names."""
    return [
        (name, module)
        for name, module in generator.named_modules()
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)) and not name.startswith(_NOT_WAVE)
    ]


def add_weight_norm(generator: nn.Module) -> None:
    """Reparametrize every convolution as magnitude times direction, in place; the function stays the same."""
    for _, convolution in wave_convolutions(generator):
        weight_norm(convolution)


def fold_weight_norm(generator: nn.Module) -> None:
    """Undo `add_weight_norm`, in place: plain weights again, the same function, faster."""
    for _, convolution in wave_convolutions(generator):
        if parametrize.is_parametrized(convolution, "weight"):
            parametrize.remove_parametrizations(convolution, "weight")


def round_weights(generator: nn.Module) -> None:
    """Round plain weights to bfloat16, in place; what runs between the convolutions is then bfloat16, too."""
    for _, convolution in wave_convolutions(generator):
        convolution.to(torch.bfloat16)


def folded_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn `weight_g`/`weight_v` pairs of a published state dict into plain weights.

    Args:
        state: a generator's state dict, with or without weight norm (torch's old or new key names).

    Returns:
        A state dict that `UnitHiFiGAN.load_state_dict` takes.
    """
    folded = dict(state)
    for suffix_g, suffix_v in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        for name in [name for name in folded if name.endswith(suffix_g)]:
            stem = name.removesuffix(suffix_g)
            if stem + suffix_v not in folded:  # half a pair: left for strict loading to name
                continue
            magnitude, direction = folded.pop(name), folded.pop(stem + suffix_v)
            norm = torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
            folded[stem + "weight"] = direction * (magnitude / norm)
    return folded
