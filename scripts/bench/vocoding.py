"""Units to a wave: ours, and the plain network with weight norm on and torch's own convolutions."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from scripts.bench.alternating import CPU, Ways
from scripts.bench.machine import uses_bf16
from units.types import UnitSequence, UnitSpec
from vocoder.base import UnitVocoder
from vocoder.config import HiFiGANConfig
from vocoder.convolution import Conv1d, ConvTranspose1d
from vocoder.hifigan import UnitHiFiGAN
from vocoder.weights import add_weight_norm, round_weights

_PLAIN: dict[type, type] = {Conv1d: nn.Conv1d, ConvTranspose1d: nn.ConvTranspose1d}


def as_plain(generator: UnitHiFiGAN) -> UnitHiFiGAN:
    """Make a copy as it is trained: weights normalised in every call, convolutions as torch has them.

    Args:
        generator: with plain weights.
    """
    plain = copy.deepcopy(generator)
    for module in plain.modules():
        module.__class__ = _PLAIN.get(type(module), type(module))
    add_weight_norm(plain)
    return plain.eval()


def plain_wave(plain: UnitHiFiGAN, units: UnitSequence) -> Tensor:
    """Speak units that last one frame each, all at once, in the first voice: (n_samples,).

    Args:
        plain: of `as_plain`.
        units: one per frame.
    """
    device = next(plain.parameters()).device
    speaker_B = torch.zeros(1, dtype=torch.long, device=device) if plain.config.multispkr else None
    with torch.no_grad():
        wave: Tensor = plain(torch.from_numpy(units.units)[None].to(device), speaker_B)[0]
    return wave.reshape(-1)


def vocoding(config: HiFiGANConfig, n_frames: int, device: torch.device = CPU) -> Ways:
    """The vocoder on random weights; ours as `resynthesize --precision bf16` speaks, where the processor has bfloat16.

    Args:
        config: dimensions.
        n_frames: of the sequence.
        device: that computes.
    """
    spec = UnitSpec("random", 1, config.num_embeddings, 50.0, "0" * 12)
    generator = UnitHiFiGAN(config).to(device)
    plain = as_plain(generator)
    if uses_bf16(device):
        round_weights(generator)
    draw = np.random.default_rng(0).integers(spec.n_units, size=n_frames)
    units = UnitSequence(draw, spec)
    speakers = [f"voice {row}" for row in range(config.num_speakers)] if config.multispkr else []
    ours = UnitVocoder(generator, spec, speakers, device=device)
    return {
        "ours": lambda: ours(units, predict_durations=False),
        "plain port": lambda: plain_wave(plain, units),
    }
