"""How a vocoder is trained: sizes of the steps, weights of the losses, and when what begins."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class VocoderTraining:
    """How to train. The schedule: spectral losses alone until `adversarial_from_step`, then all losses.

    Attributes:
        steps: generator updates in all.
        batch_size: segments per step.
        segment_frames: frames per segment.
        lr: peak learning rate of the generator (AdamW).
        discriminator_lr: peak learning rate of the discriminators.
        warmup_steps: linear warm-up of either, counted from its own first step.
        final_lr_ratio: learning rates fall along a cosine to this share of their peak at `steps`.
        betas: of AdamW.
        clip_norm: the generator's gradient is scaled down to at most this norm; inf for never.
        ema_decay: the saved generator is the running average of the weights with this decay; 0 for the last weights.
        adversarial_from_step: first step with discriminators; `steps` or more for none.
        discriminator_every: discriminators are updated every this many steps.
        periods: of the multi-period discriminator.
        n_scales: of the multi-scale discriminator.
        discriminator_width: multiplies the published channels.
        mel_weight, stft_weight, feature_weight, adversarial_weight, duration_weight, unit_weight: of the losses.
        mel_resolutions: (n_fft, hop_length, n_mels) of the mel loss.
        stft_resolutions: (n_fft, hop_length) of the STFT loss.
        duration_batch_size: whole utterances per step for the duration predictor.
        speaker_power: 1 draws speakers by their share of time, 0 uniformly (`SegmentSampler`).
        seed: of weights, draws and dropout.
        log_every, valid_every, checkpoint_every: steps between log rows, validations, checkpoints.
        max_seconds: stop (resumable) after so long; None for no limit.
        bf16: run generator and discriminators under bfloat16 autocast; the losses stay in float32.
    """

    steps: int = 400_000
    batch_size: int = 16
    segment_frames: int = 28
    lr: float = 2e-4
    discriminator_lr: float = 2e-4
    warmup_steps: int = 0
    final_lr_ratio: float = 0.1
    betas: tuple[float, float] = (0.8, 0.99)
    clip_norm: float = math.inf
    ema_decay: float = 0.0
    adversarial_from_step: int = 0
    discriminator_every: int = 1
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    n_scales: int = 3
    discriminator_width: float = 1.0
    mel_weight: float = 45.0
    stft_weight: float = 0.0
    feature_weight: float = 2.0
    adversarial_weight: float = 1.0
    duration_weight: float = 1.0
    unit_weight: float = 1.0
    mel_resolutions: tuple[tuple[int, int, int], ...] = ((1024, 256, 80),)
    stft_resolutions: tuple[tuple[int, int], ...] = ((512, 128), (1024, 256), (2048, 512))
    duration_batch_size: int = 16
    speaker_power: float = 1.0
    seed: int = 0
    log_every: int = 50
    valid_every: int = 1000
    checkpoint_every: int = 1000
    max_seconds: float | None = None
    bf16: bool = False

    def lr_ratio(self, step: int, first_step: int = 0) -> float:
        """Share of the peak learning rate at a step, for an optimizer that starts at `first_step`."""
        warmup = min(1.0, (step - first_step + 1) / max(1, self.warmup_steps))
        progress = min(1.0, step / max(1, self.steps))
        cosine = self.final_lr_ratio + (1 - self.final_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
        return warmup * cosine
