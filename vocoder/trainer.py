"""One training step of the unit HiFi-GAN: spectral losses first, discriminators from a chosen step on.

Source: Kong, Kim, Bae 2020 (HiFi-GAN), sections 2.4 and 3.2; duration predictor jointly, as Lee et al. 2022,
section 3.2.

Shape legend: B batch, S samples, T units or frames, F input frames of the generator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from vocoder.config import HiFiGANConfig
from vocoder.discriminators import WaveDiscriminator
from vocoder.hifigan import UnitHiFiGAN
from vocoder.initial import initial_state
from vocoder.losses import (
    MelLoss,
    StftLoss,
    adversarial_loss,
    discriminator_loss,
    duration_loss,
    feature_matching_loss,
)
from vocoder.schedule import VocoderTraining
from vocoder.segments import SegmentSampler
from vocoder.weights import add_weight_norm, folded_state_dict

UnitLoss = Callable[[Tensor, Tensor], Tensor]
"""(generated waves (B, S) float32, their frame-level units (B, T) int64) -> scalar loss."""


class VocoderTrainer:
    """Generator, discriminators, optimizers and averages; one `step` at a time.

    Args:
        config: generator's sizes.
        training: how to train.
        sampler: where batches come from.
        unit_loss: optional loss that holds the generated wave to its units.
        device: where to train.
        initial: generator (plain weights) whose weights to start from, see `vocoder.initial`; None for fresh ones.

    Raises:
        InputError: the initial generator has other sizes.
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
            self.generator.load_state_dict(initial_state(self.generator, initial))
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
        batch = self.sampler.segments(step, training.batch_size)
        wave_BS, units_BT = batch.waves_BS.to(self.device), batch.units_BT.to(self.device)
        speaker_B = batch.speakers_B.to(self.device) if self.config.multispkr else None
        f0_BF = None if batch.f0_BF is None else batch.f0_BF.to(self.device)
        with self._autocast():
            fake_BS = self.generator(units_BT, speaker_B, f0_BF)
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
