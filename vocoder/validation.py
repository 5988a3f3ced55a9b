"""How well a vocoder speaks held-out utterances.

Shape legend: B batch (of one), S samples, T units or frames, F input frames of the generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vocoder.hifigan import UnitHiFiGAN
from vocoder.losses import MelLoss
from vocoder.segments import VocoderExample, run_lengths

MAX_FRAMES = 500


@torch.no_grad()
def validate(
    generator: UnitHiFiGAN,
    examples: Sequence[VocoderExample],
    mel_loss: MelLoss,
    unit_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """Synthesize held-out utterances from their frame-level units, and their F0 where it is read, and compare.

    Args:
        generator: with plain weights, in evaluation mode.
        examples: held-out utterances; each is cut to its first `MAX_FRAMES` frames.
        mel_loss: the spectral distance.
        unit_loss: optional distance of a wave to its units.

    Returns:
        Means over utterances: `valid_mel`; `valid_duration_error` (mean absolute error in frames) where the generator
        predicts durations; `valid_unit` where a unit loss is given.
    """
    device = generator.conv_pre.weight.device
    per_unit = generator.config.frames_per_unit
    hop = generator.config.hop_length * per_unit
    figures: dict[str, list[float]] = {}
    for example in examples:
        units = np.asarray(example.units[:MAX_FRAMES], dtype=np.int64)
        units_BT = torch.from_numpy(units).unsqueeze(0).to(device)
        target_BS = torch.from_numpy(example.samples(0, len(units) * hop)).unsqueeze(0).to(device)
        speaker_B = torch.tensor([example.speaker], device=device) if generator.config.multispkr else None
        f0 = example.f0_of(0, len(units), per_unit)
        f0_BF = None if f0 is None else torch.from_numpy(f0).unsqueeze(0).to(device)
        wave_BS = generator(units_BT, speaker_B, f0_BF)
        figures.setdefault("valid_mel", []).append(mel_loss(wave_BS, target_BS).item())
        if generator.config.dur_predictor_params is not None:
            run_units, durations = run_lengths(units)
            predicted = (
                generator.predict_durations(torch.from_numpy(run_units).unsqueeze(0).to(device))[0]
                .cpu()
                .numpy()
            )
            figures.setdefault("valid_duration_error", []).append(float(np.abs(predicted - durations).mean()))
        if unit_loss is not None:
            figures.setdefault("valid_unit", []).append(unit_loss(wave_BS, units_BT).item())
    return {name: float(np.mean(values)) for name, values in figures.items()}
