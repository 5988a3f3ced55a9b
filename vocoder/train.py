"""Training of the unit HiFi-GAN: spectral losses first, discriminators from a chosen step on.

Source: Kong, Kim, Bae 2020 (HiFi-GAN), sections 2.4 and 3.2; duration predictor jointly, as Lee et al. 2022,
section 3.2.

Shape legend: B batch, S samples, T units or frames.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from units.errors import InputError
from units.types import UnitSpec
from vocoder.base import UnitVocoder
from vocoder.config import HiFiGANConfig
from vocoder.discriminators import WaveDiscriminator
from vocoder.hifigan import UnitHiFiGAN, add_weight_norm, folded_state_dict
from vocoder.losses import (
    MelLoss,
    StftLoss,
    adversarial_loss,
    discriminator_loss,
    duration_loss,
    feature_matching_loss,
)
from vocoder.segments import SegmentSampler, VocoderExample
from vocoder.training_state import TrainingLog, read_state, write_state
from vocoder.validation import validate

UnitLoss = Callable[[Tensor, Tensor], Tensor]
"""(generated waves (B, S) float32, their frame-level units (B, T) int64) -> scalar loss."""


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


@dataclass(frozen=True)
class VocoderTrainingResult:
    """What a call of `train_vocoder` reached.

    Attributes:
        vocoder: the trained vocoder, also saved in the output folder.
        step: generator updates done in all calls so far.
        finished: whether that is all of them (False: `max_seconds` ran out; call again to go on).
        seconds: time of this call.
        validation: last validation's figures; empty without held-out examples.
    """

    vocoder: UnitVocoder
    step: int
    finished: bool
    seconds: float
    validation: dict[str, float]


class VocoderTrainer:
    """Generator, discriminators, optimizers and averages; one `step` at a time.

    Args:
        config: generator's sizes.
        training: how to train.
        sampler: where batches come from.
        unit_loss: optional loss that holds the generated wave to its units.
        device: where to train.
        initial: generator (plain weights, same sizes) whose weights to start from; None for fresh ones.
    """

    def __init__(
        self,
        config: HiFiGANConfig,
        training: VocoderTraining,
        sampler: SegmentSampler,
        unit_loss: UnitLoss | None = None,
        device: str | torch.device = "cpu",
        initial: UnitHiFiGAN | None = None,
    ) -> None:
        torch.manual_seed(training.seed)
        self.config, self.training, self.sampler, self.unit_loss = config, training, sampler, unit_loss
        self.device = torch.device(device)
        self.generator = UnitHiFiGAN(config).to(self.device)
        if initial is not None:
            self.generator.load_state_dict(initial.state_dict())
        add_weight_norm(self.generator)
        self.discriminator = WaveDiscriminator(
            training.periods, training.n_scales, training.discriminator_width
        )
        self.discriminator.to(self.device)
        self.optimizer = torch.optim.AdamW(self.generator.parameters(), training.lr, training.betas)
        self.discriminator_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), training.discriminator_lr, training.betas
        )
        self.mel_loss = MelLoss(config.sampling_rate, training.mel_resolutions).to(self.device)
        self.stft_loss = StftLoss(training.stft_resolutions).to(self.device)
        self.average = {name: tensor.detach().clone() for name, tensor in self.generator.state_dict().items()}

    def step(self, step: int) -> dict[str, Tensor]:
        """Do one generator update (and, when due, one discriminator update).

        Returns:
            The losses, unweighted, as detached scalars.
        """
        training = self.training
        wave_BS, units_BT, speaker_B = (
            t.to(self.device) for t in self.sampler.segments(step, training.batch_size)
        )
        with self._autocast():
            fake_BS = self.generator(units_BT, speaker_B if self.config.multispkr else None)
        losses: dict[str, Tensor] = {}
        adversarial = step >= training.adversarial_from_step
        if adversarial and (step - training.adversarial_from_step) % training.discriminator_every == 0:
            losses["discriminator"] = self._update_discriminator(step, wave_BS, fake_BS.detach())

        weighted = [training.mel_weight * losses.setdefault("mel", self.mel_loss(fake_BS, wave_BS))]
        if training.stft_weight:
            weighted.append(
                training.stft_weight * losses.setdefault("stft", self.stft_loss(fake_BS, wave_BS))
            )
        if adversarial:
            self.discriminator.requires_grad_(False)
            with self._autocast():
                (_, real_features), (fake_scores, fake_features) = self.discriminator.judge_pair(
                    wave_BS, fake_BS
                )
            self.discriminator.requires_grad_(True)
            losses["adversarial"] = adversarial_loss([score.float() for score in fake_scores])
            losses["feature"] = feature_matching_loss(real_features, fake_features).float()
            weighted.append(training.adversarial_weight * losses["adversarial"])
            weighted.append(training.feature_weight * losses["feature"])
        if self.config.dur_predictor_params is not None:
            runs = self.sampler.runs(step, training.duration_batch_size)
            run_units_BT, duration_BT, mask_BT = (t.to(self.device) for t in runs)
            log_duration_BT = self.generator.log_durations(run_units_BT, mask_BT)
            losses["duration"] = duration_loss(log_duration_BT, duration_BT, mask_BT)
            weighted.append(training.duration_weight * losses["duration"])
        if self.unit_loss is not None and training.unit_weight:
            losses["unit"] = self.unit_loss(fake_BS, units_BT)
            weighted.append(training.unit_weight * losses["unit"])

        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(weighted).sum().backward()
        losses["gradient_norm"] = clip_grad_norm_(self.generator.parameters(), training.clip_norm)
        _set_lr(self.optimizer, training.lr * training.lr_ratio(step))
        self.optimizer.step()
        self._update_average(step)
        return {name: loss.detach() for name, loss in losses.items()}

    def inference_generator(self) -> UnitHiFiGAN:
        """Give the averaged generator with plain weights, in evaluation mode, apart from the one in training."""
        with torch.random.fork_rng(devices=[]):  # when one looks at the model must not change what it becomes
            generator = UnitHiFiGAN(self.config)
        generator.load_state_dict(folded_state_dict(self.average))
        return generator.to(self.device).eval()

    def state_dict(self) -> dict[str, object]:
        """Everything that `load_state_dict` needs to continue exactly, random state included."""
        return {
            "generator": self.generator.state_dict(),
            "average": self.average,
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from what `state_dict` gave."""
        parts: tuple[tuple[str, nn.Module | torch.optim.Optimizer], ...] = (
            ("generator", self.generator),
            ("discriminator", self.discriminator),
            ("optimizer", self.optimizer),
            ("discriminator_optimizer", self.discriminator_optimizer),
        )
        for name, part in parts:
            part.load_state_dict(state[name])  # type: ignore[arg-type]
        self.average = state["average"]  # type: ignore[assignment]
        torch.set_rng_state(state["torch_rng"])  # type: ignore[arg-type]

    def _update_discriminator(self, step: int, wave_BS: Tensor, fake_BS: Tensor) -> Tensor:
        training = self.training
        with self._autocast():
            (real_scores, _), (fake_scores, _) = self.discriminator.judge_pair(wave_BS, fake_BS)
        loss = discriminator_loss([s.float() for s in real_scores], [s.float() for s in fake_scores])
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        ratio = training.lr_ratio(step, training.adversarial_from_step)
        _set_lr(self.discriminator_optimizer, training.discriminator_lr * ratio)
        self.discriminator_optimizer.step()
        return loss

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        decay = min(
            self.training.ema_decay, (step + 1) / (step + 10)
        )  # a young average forgets its random start fast
        current = self.generator.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [current[name] for name in self.average], 1 - decay)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.training.bf16)


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def train_vocoder(
    config: HiFiGANConfig,
    examples: Sequence[VocoderExample],
    out_dir: str | Path,
    training: VocoderTraining,
    *,
    spec: UnitSpec,
    speakers: Sequence[str] = (),
    valid_examples: Sequence[VocoderExample] = (),
    unit_loss: UnitLoss | None = None,
    initial: UnitVocoder | None = None,
    device: str | torch.device = "cpu",
    on_log: Callable[[dict[str, float]], None] | None = None,
) -> VocoderTrainingResult:
    """Train a vocoder, or go on where an earlier call in the same folder stopped.

    A run continued after a stop gives the weights of an undisturbed one (on one thread, where sums have one order).

    Args:
        config: the generator's sizes.
        examples: training utterances.
        out_dir: gets config.json and model.safetensors (a `UnitVocoder` folder), log.csv, and resume.pt (of no use
            once all steps are done).
        training: how to train.
        spec: inventory of the units.
        speakers: names of the speaker table's rows; empty for a single voice.
        valid_examples: held-out utterances, synthesized whole at each validation.
        unit_loss: optional loss of generated waves against their units, weighted by `training.unit_weight`
            (`vocoder.unit_loss`).
        initial: a vocoder of these sizes whose weights to start from (to go on with other losses, say).
        device: where to train.
        on_log: called with every row of the log.

    Returns:
        The vocoder and how far it came.

    Raises:
        InputError: examples, sizes, spec and speakers do not fit together; or resume.pt comes from another setting.
    """
    began = time.monotonic()
    out_dir = Path(out_dir)
    sampler = SegmentSampler(
        examples, config.hop_length, training.segment_frames, training.speaker_power, training.seed
    )
    if initial is not None and initial.generator.config != config:
        raise InputError(
            "vocoder training: expected an initial vocoder of the same sizes, got another; use its config"
        )
    start = None if initial is None else initial.generator
    trainer = VocoderTrainer(config, training, sampler, unit_loss, device, start)
    vocoder = UnitVocoder(trainer.inference_generator(), spec, speakers, device=device)
    setting = {"config": config, "training": training, "spec": spec}
    step, resumed = read_state(out_dir, setting)
    if resumed is not None:
        trainer.load_state_dict(resumed)
    validation: dict[str, float] = {}

    with TrainingLog(out_dir / "log.csv", from_step=step) as log:
        while step < training.steps:
            losses = trainer.step(step)
            step += 1
            seconds = time.monotonic() - began
            out_of_time = training.max_seconds is not None and seconds >= training.max_seconds
            last = step == training.steps or out_of_time
            row: dict[str, float] = {}
            if step % training.log_every == 0 or last:
                row |= {name: loss.item() for name, loss in losses.items()}
                row |= {"lr": training.lr * training.lr_ratio(step - 1), "seconds": seconds}
            if valid_examples and (step % training.valid_every == 0 or last):
                generator = trainer.inference_generator()
                validation = validate(generator, valid_examples, trainer.mel_loss, unit_loss)
                row |= validation
            if row:
                log.write(step, row)
                if on_log is not None:
                    on_log({"step": step} | row)
            if step % training.checkpoint_every == 0 or last:
                write_state(out_dir, setting, step, trainer.state_dict())
            if out_of_time:
                break

    vocoder = UnitVocoder(trainer.inference_generator(), spec, speakers, device=device)
    vocoder.save(out_dir)
    return VocoderTrainingResult(vocoder, step, step >= training.steps, time.monotonic() - began, validation)
