"""The weights of a vocoder that is there, for one in training to begin with: of the same sizes, or without F0 input.

Where the F0 input is new, the first convolution's channels that read it begin at zero: what is spoken at first is what
the initial vocoder speaks, whatever the F0, and the training adds what F0 tells.

Shape legend: C output channels, I input channels, K kernel size.
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from units.errors import InputError
from vocoder.config import HiFiGANConfig
from vocoder.hifigan import UnitHiFiGAN

_FIRST = "conv_pre.weight"


def _without_f0(config: HiFiGANConfig) -> HiFiGANConfig:
    """The same sizes without an F0 input."""
    return replace(config, f0=False, f0_quant_num_bin=0, f0_quantizer=None, model_in_dim=0)


def initial_state(generator: UnitHiFiGAN, initial: UnitHiFiGAN) -> dict[str, Tensor]:
    """Give the state dict that a generator begins with: all weights of another, unit and speaker tables by row.

    Args:
        generator: the one that is to begin, fresh, with plain weights. A table of F0 bins that the other lacks stays as
            it was drawn here.
        initial: the one whose weights to take, with plain weights: of the same sizes, or without F0 input and else of
            the same sizes.

    Returns:
        The tensors of `generator.state_dict()`.

    Raises:
        InputError: the sizes differ otherwise.
    """
    given = initial.config
    wanted = generator.config if given.f0 else _without_f0(generator.config)
    if wanted != given:
        names = [f.name for f in fields(wanted) if getattr(wanted, f.name) != getattr(given, f.name)]
        raise InputError(
            "vocoder training: expected an initial vocoder of the same sizes (an F0 input may be new), got another "
            f"{', '.join(names)}; use its config"
        )
    if generator.config == given:
        return dict(initial.state_dict())
    state = {**generator.state_dict(), **initial.state_dict()}
    # stacked for the first convolution: unit, F0, speaker
    before_CIK, after_CIK = state[_FIRST].tensor_split([given.embedding_dim], dim=1)
    n_new = generator.config.model_in_dim - given.model_in_dim
    zeros_CIK = before_CIK.new_zeros(len(before_CIK), n_new, before_CIK.shape[-1])
    state[_FIRST] = torch.cat([before_CIK, zeros_CIK, after_CIK], dim=1)
    return state
