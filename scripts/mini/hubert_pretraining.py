"""HuBERT pretraining on a packed corpus: predict the clusters of masked frames of perturbed speech.

Hsu et al., "HuBERT", 2021. Changed for a small model, little data and two CPU cores: a shorter
convolution stack with the official stride of 320, pre-norm layers, perturbed inputs (see
``perturbation``), and a loss on unmasked frames too, which perturbation makes worth learning.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional
from transformers import HubertConfig, HubertModel

from scripts.mini.corpus import SAMPLE_RATE, PackedCorpus
from scripts.mini.perturbation import change_speed, draw_speed, perturb
from units.atomic import atomic_dir, atomic_path

# B batch, T frames, S samples, D features, K clusters.

HOP = 320
RECEPTIVE_FIELD = 530  # samples, of the convolution stack below


@dataclass(frozen=True)
class HubertSettings:
    """What is tried out: size, duration, targets, inputs.

    n_targets: clusters to predict; perturbed: change voice and channel of the input; unmasked_weight:
    weight of the loss on frames that were not masked; mix: share of draws per source.
    """

    width: int = 256
    n_layers: int = 8
    n_targets: int = 100
    steps: int = 2500
    batch_s: float = 32.0
    learning_rate: float = 1e-3
    perturbed: bool = True
    unmasked_weight: float = 0.5
    mix: tuple[tuple[str, float], ...] = (
        ("spoken", 0.55),
        ("arabic_sc", 0.25),
        ("fsdd", 0.08),
        ("read_sentences", 0.09),
        ("librispeech_9", 0.03),
    )
    crops_s: tuple[float, ...] = (1.0, 2.0, 4.0)
    seed: int = 0


def hubert_config(settings: HubertSettings) -> HubertConfig:
    """The shape of the encoder, in the terms of an official HuBERT."""
    return HubertConfig(
        hidden_size=settings.width,
        num_hidden_layers=settings.n_layers,
        num_attention_heads=settings.width // 64,
        intermediate_size=4 * settings.width,
        conv_dim=(64, 128, 256, 256),
        conv_kernel=(20, 8, 8, 2),
        conv_stride=(10, 4, 4, 2),
        feat_extract_norm="group",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=64,
        num_conv_pos_embedding_groups=16,
        hidden_dropout=0.05,
        attention_dropout=0.05,
        activation_dropout=0.0,
        feat_proj_dropout=0.05,
        layerdrop=0.0,
        apply_spec_augment=True,
        mask_time_prob=0.5,
        mask_feature_prob=0.0,
    )


class Targets:
    """Cluster of every 20 ms of every clip, one flat array; -1 where a clip was not labelled."""

    def __init__(self, labels: np.ndarray, starts: np.ndarray) -> None:
        self.labels = labels
        self.starts = starts

    def known(self) -> np.ndarray:
        """(n_clips,) bool: which clips were labelled."""
        return self.labels[self.starts[:-1]] >= 0

    def of(self, clip: int) -> np.ndarray:
        """(n_frames,) int16 of one clip."""
        return self.labels[self.starts[clip] : self.starts[clip + 1]]


class CropSampler:
    """Random crops with their targets; short clips of one source are strung together."""

    def __init__(self, corpus: PackedCorpus, targets: Targets, settings: HubertSettings) -> None:
        self.corpus, self.targets, self.settings = corpus, targets, settings
        names = np.asarray(corpus.sources)
        known = targets.known()
        self.clips = {name: np.flatnonzero((names == name) & known) for name, _ in settings.mix}
        shares = np.asarray([share for name, share in settings.mix if len(self.clips[name])])
        self.names = [name for name, _ in settings.mix if len(self.clips[name])]
        self.shares = shares / shares.sum()

    def _string(self, source: str, n_samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(n_samples,) of one source and the target at every sample's frame, (ceil(n / 320),)."""
        waves: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        missing = n_samples
        while missing > 0:
            clip = int(rng.choice(self.clips[source]))
            wave, frames = self.corpus.wave(clip), self.targets.of(clip)
            spare_frames = max(0, (len(wave) - missing) // HOP)
            first = int(rng.integers(spare_frames + 1)) if not waves else 0
            n_whole = (len(wave) - first * HOP) // HOP  # whole frames, so that strung targets stay aligned
            waves.append(wave[first * HOP : (first + n_whole) * HOP])
            labels.append(frames[first : first + n_whole])
            missing -= n_whole * HOP
        return np.concatenate(waves)[:n_samples], np.concatenate(labels)

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Batch of ``step``: waves (B, S) float32 and targets (B, T) int64; the same at every call."""
        rng = np.random.default_rng((self.settings.seed, step))
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        crop_s = float(rng.choice(self.settings.crops_s))
        n_samples = int(crop_s * SAMPLE_RATE)
        n_frames = (n_samples - RECEPTIVE_FIELD) // HOP + 1
        centres = np.arange(n_frames) * HOP + RECEPTIVE_FIELD / 2
        waves, targets = [], []
        for _ in range(max(1, round(self.settings.batch_s / crop_s))):
            speed = draw_speed(generator) if self.settings.perturbed else 1.0
            source = str(rng.choice(self.names, p=self.shares))
            wave, labels = self._string(source, int(n_samples * speed), rng)
            waves.append(change_speed(torch.from_numpy(wave)[None], n_samples))
            targets.append(labels[np.minimum((centres * speed / HOP).astype(np.int64), len(labels) - 1)])
        wave_BS = torch.cat(waves)
        if self.settings.perturbed:
            wave_BS = perturb(wave_BS, generator)
        return wave_BS, torch.from_numpy(np.stack(targets).astype(np.int64))


def mask_spans(
    shape: tuple[int, ...], generator: torch.Generator, start: float = 0.08, span: int = 10
) -> Tensor:
    """(B, T) bool: spans of ``span`` frames begin at each frame with probability ``start``."""
    begins = torch.rand(shape, generator=generator) < start
    padded = functional.pad(begins.float(), (span - 1, 0))
    return functional.max_pool1d(padded[:, None], span, stride=1)[:, 0] > 0


class MaskedPrediction(nn.Module):
    """HuBERT with a linear map from its last layer to the clusters."""

    def __init__(self, settings: HubertSettings) -> None:
        super().__init__()
        torch.manual_seed(settings.seed)
        self.hubert = HubertModel(hubert_config(settings))
        self.head = nn.Linear(settings.width, settings.n_targets)
        self.unmasked_weight = settings.unmasked_weight

    def forward(self, wave_BS: Tensor, target_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and accuracy on the masked frames."""
        with torch.autocast("cpu", torch.bfloat16):
            hidden_BTD = self.hubert(wave_BS, mask_time_indices=mask_BT).last_hidden_state
            logits_BTK = self.head(hidden_BTD)
        losses_BT = functional.cross_entropy(logits_BTK.float().transpose(1, 2), target_BT, reduction="none")
        loss = losses_BT[mask_BT].mean() + self.unmasked_weight * losses_BT[~mask_BT].mean()
        right = (logits_BTK.argmax(-1) == target_BT)[mask_BT].float().mean()
        return loss, right


def learning_rate(step: int, settings: HubertSettings) -> float:
    """Linear warm-up over 8% of the steps, then linear decay to a twentieth."""
    warm_up = max(1, int(0.08 * settings.steps))
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    left = (settings.steps - step) / (settings.steps - warm_up)
    return settings.learning_rate * max(0.05, left)


def pretrain_hubert(
    corpus: PackedCorpus,
    targets: Targets,
    settings: HubertSettings,
    out: Path,
    start_from: Path | None = None,
) -> Path:
    """Train and save a transformers folder ``out/encoder``; continues from ``out/state.pt`` if there is one.

    corpus, targets: speech and what to predict. settings: how. out: folder. start_from: folder of an earlier iteration
    whose weights to begin with.
    """
    folder, state_path = out / "encoder", out / "state.pt"
    if folder.exists():
        return folder
    out.mkdir(parents=True, exist_ok=True)
    model = MaskedPrediction(settings)
    if start_from is not None:
        model.hubert.load_state_dict(HubertModel.from_pretrained(start_from).state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    first, spent = 0, 0.0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, spent = state["step"], state["seconds"]
    sampler = CropSampler(corpus, targets, settings)
    began = time.monotonic() - spent
    model.train()
    with Progress() as progress, (out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        bar = progress.add_task("pretraining", total=settings.steps, completed=first)
        recent: list[tuple[float, float]] = []
        for step in range(first, settings.steps):
            torch.manual_seed(settings.seed * 7_919 + step)  # dropout, so that a resumed run is the same run
            wave_BS, target_BT = sampler.draw(step)
            mask_BT = mask_spans(tuple(target_BT.shape), torch.Generator().manual_seed(step))
            loss, right = model(wave_BS, target_BT, mask_BT)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, settings)
            optimizer.step()
            recent.append((loss.item(), right.item()))
            progress.advance(bar)
            if (step + 1) % 50 == 0:
                mean_loss, mean_right = np.mean(recent, axis=0)
                log.writerow(
                    [step + 1, f"{mean_loss:.4f}", f"{mean_right:.4f}", f"{time.monotonic() - began:.0f}"]
                )
                file.flush()
                recent.clear()
            if (step + 1) % 250 == 0:
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "seconds": time.monotonic() - began,
                }
                with atomic_path(state_path) as temporary:
                    torch.save(state, temporary)
    with atomic_dir(folder) as temporary:
        model.hubert.save_pretrained(temporary)
    state_path.unlink(missing_ok=True)
    return folder
