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

from scripts.mini.corpus import PackedCorpus
from scripts.mini.crops import Batch, CropSampler
from scripts.mini.guided_units import GuidedUnits
from scripts.mini.phones import Phones
from scripts.mini.targets import Targets
from units.atomic import atomic_dir, atomic_path
from units.training_state import read_training_state

# B batch, T frames, S samples, D features, K clusters.


@dataclass(frozen=True)
class HubertSettings:
    """What is tried out: size, duration, targets, inputs.

    n_targets: clusters to predict; mask_start: share of frames at which a masked span of ten begins; perturbed: change
    voice and channel of the input; unmasked_weight: weight of the loss on frames that were not masked; n_units,
    unit_layer: number and layer of guided units, where phones are given; convolutions_frozen: leave them as an earlier
    iteration trained them; mix: share of draws per source; crops_s: lengths of the crops, seconds.
    """

    width: int = 256
    n_layers: int = 8
    n_targets: int = 100
    steps: int = 2500
    batch_s: float = 32.0
    learning_rate: float = 1e-3
    perturbed: bool = True
    unmasked_weight: float = 0.5
    n_units: int = 100
    unit_layer: int = 5
    mask_start: float = 0.08
    dropout: float = 0.05
    convolutions_frozen: bool = False
    mix: tuple[tuple[str, float], ...] = (
        ("spoken", 0.45),
        ("syllables", 0.1),
        ("arabic_sc", 0.25),
        ("fsdd", 0.1),
        ("read_sentences", 0.07),
        ("librispeech_9", 0.03),
    )
    crops_s: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
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
        hidden_dropout=settings.dropout,
        attention_dropout=settings.dropout,
        activation_dropout=0.0,
        feat_proj_dropout=settings.dropout,
        layerdrop=0.0,
        apply_spec_augment=True,
        mask_time_prob=0.5,
        mask_feature_prob=0.0,
    )


def mask_spans(
    shape: tuple[int, ...], generator: torch.Generator, start: float = 0.08, span: int = 10
) -> Tensor:
    """(B, T) bool: spans of ``span`` frames begin at each frame with probability ``start``."""
    begins = torch.rand(shape, generator=generator) < start
    padded = functional.pad(begins.float(), (span - 1, 0))
    return functional.max_pool1d(padded[:, None], span, stride=1)[:, 0] > 0


class MaskedPrediction(nn.Module):
    """HuBERT with linear maps from its last layer to the clusters and to the synthesizers' phones."""

    def __init__(self, settings: HubertSettings, inventory_P: np.ndarray | None = None) -> None:
        super().__init__()
        torch.manual_seed(settings.seed)
        self.hubert = HubertModel(hubert_config(settings))
        self.head = nn.Linear(settings.width, settings.n_targets)
        self.settings = settings
        if settings.convolutions_frozen:
            self.hubert.feature_extractor.requires_grad_(False)
        if inventory_P is not None:
            self.units = GuidedUnits(
                settings.n_units, settings.width, settings.n_targets, torch.from_numpy(inventory_P)
            )

    def forward(self, batch: Batch, mask_BT: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Loss, and the figures worth logging: shares of frames whose cluster, and whose phone, is right."""
        with torch.autocast("cpu", torch.bfloat16):
            output = self.hubert(batch.wave_BS, mask_time_indices=mask_BT, output_hidden_states=True)
            logits_BTK = self.head(output.last_hidden_state)
        losses_BT = functional.cross_entropy(
            logits_BTK.float().transpose(1, 2), batch.cluster_BT, reduction="none", ignore_index=-1
        )
        known_BT = batch.cluster_BT >= 0
        hidden_BT, seen_BT = mask_BT & known_BT, ~mask_BT & known_BT
        loss = losses_BT[hidden_BT].mean() + self.settings.unmasked_weight * losses_BT[seen_BT].mean()
        right = (logits_BTK.argmax(-1) == batch.cluster_BT)[hidden_BT].float().mean().item()
        figures = {"loss": loss.item(), "masked_cluster_accuracy": right}
        if batch.phone_BT is not None:
            guidance, more = self.units(
                output.hidden_states[self.settings.unit_layer], batch.cluster_BT, batch.phone_BT
            )
            loss = loss + guidance
            figures |= more
        return loss, figures


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
    phones: Phones | None = None,
) -> Path:
    """Train and save a transformers folder ``out/encoder``; continues from ``out/state.pt`` if there is one.

    corpus, targets: speech and what to predict. settings: how. out: folder. start_from: folder of an earlier iteration,
    of which the first layers are taken to begin with. phones: what the synthesizers spoke, to be named too.
    """
    folder, state_path = out / "encoder", out / "state.pt"
    if folder.exists():
        return folder
    out.mkdir(parents=True, exist_ok=True)
    model = MaskedPrediction(settings, None if phones is None else phones.inventory_P)
    if start_from is not None:
        earlier = HubertModel.from_pretrained(start_from)
        earlier.encoder.layers = earlier.encoder.layers[: settings.n_layers]
        model.hubert.load_state_dict(earlier.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    first, spent = 0, 0.0
    if state_path.exists():
        state = read_training_state(state_path, "delete it and train again")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, spent = state["step"], state["seconds"]
    sampler = CropSampler(
        corpus,
        targets,
        settings.mix,
        settings.crops_s,
        settings.batch_s,
        settings.perturbed,
        settings.seed,
        phones,
    )
    began = time.monotonic() - spent
    model.train()
    with Progress() as progress, (out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        bar = progress.add_task("pretraining", total=settings.steps, completed=first)
        recent: list[list[float]] = []
        for step in range(first, settings.steps):
            torch.manual_seed(settings.seed * 7_919 + step)  # dropout, so that a resumed run is the same run
            batch = sampler.draw(step)
            mask_BT = mask_spans(
                tuple(batch.cluster_BT.shape), torch.Generator().manual_seed(step), settings.mask_start
            )
            loss, figures = model(batch, mask_BT)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, settings)
            optimizer.step()
            recent.append(list(figures.values()))
            progress.advance(bar)
            if (step + 1) % 50 == 0:
                means = [f"{mean:.4f}" for mean in np.mean(recent, axis=0)]
                log.writerow([step + 1, *means, f"{time.monotonic() - began:.0f}"])
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
