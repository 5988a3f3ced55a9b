"""How a prompt is trained: settings, the learning rate at each step, and where bfloat16 pays off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch

from speechprompt.augment import UnitAugmentation
from speechprompt.views import MAX_OFFSETS
from units.errors import InputError

SCHEDULES = ("constant", "cosine", "inverse_sqrt")
EPOCHS, LEAST_STEPS = 6, 400  # where `max_epochs` is not said


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training. The defaults suit the small LM of the stack `mini`; `PUBLISHED` holds SpeechPrompt's.

    lr, betas, clip: Adam's peak learning rate and moments; gradients are scaled to a norm of at most `clip`.
    schedule: "constant"; "cosine" down to 0 at the end of the last epoch; or "inverse_sqrt", falling with the square
        root of the step from the end of the warm-up on. Each begins with `warmup_steps` of linear rise.
    batch_tokens, batch_rows: a batch holds at most so many tokens, padding counted, and rows.
    max_epochs, patience: training ends after `max_epochs`, or `patience` epochs without a better validation
        accuracy (at equal accuracy: loss). None: after EPOCHS, or as many as make LEAST_STEPS where rows are few.
    average_epochs: what is validated, and kept, is the mean of the weights at the ends of the last so many epochs.
    label_smoothing: share of each target spread over all labels.
    unit_dropout, unit_replacement: probability that a unit of a training row is dropped, or becomes a random one.
    speed_perturbation: speed factors, (0.9, 1.0, 1.1) say, at which every training recording is also quantized;
        empty for the recordings as they are.
    offset_perturbation: at how many places of the frame grid, spread evenly over one frame, every training recording
        is quantized (at each speed); 1 for the recordings as they are.
    mixed_precision: "bf16", "no", or "auto": bf16 where `faster_in_bf16` holds.
    checkpoint_steps: a state to continue from is written at the end of every epoch and, above 0, also every so
        many steps.
    seed: of initial values, batch order, augmentation and dropout.

    Raises InputError where a value is outside its range.
    """

    lr: float = 2e-2
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    schedule: Literal["constant", "cosine", "inverse_sqrt"] = "cosine"
    warmup_steps: int = 0
    batch_tokens: int = 4096
    batch_rows: int = 16
    max_epochs: int | None = None
    patience: int = 12
    average_epochs: int = 2
    label_smoothing: float = 0.1
    unit_dropout: float = 0.15
    unit_replacement: float = 0.0
    speed_perturbation: tuple[float, ...] = (0.8, 0.9, 1.0, 1.12, 1.25)
    offset_perturbation: int = 1
    mixed_precision: Literal["auto", "bf16", "no"] = "auto"
    checkpoint_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        object.__setattr__(self, "speed_perturbation", tuple(self.speed_perturbation))
        wanted = {
            "lr": (self.lr > 0, "above 0"),
            "betas": (len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "two numbers in [0, 1)"),
            "clip": (self.clip > 0, "above 0"),
            "schedule": (self.schedule in SCHEDULES, " or ".join(SCHEDULES)),
            "warmup_steps": (self.warmup_steps >= 0, "at least 0"),
            "batch_tokens": (self.batch_tokens >= 1, "at least 1"),
            "batch_rows": (self.batch_rows >= 1, "at least 1"),
            "max_epochs": (self.max_epochs is None or self.max_epochs >= 1, "at least 1"),
            "patience": (self.patience >= 1, "at least 1"),
            "average_epochs": (self.average_epochs >= 1, "at least 1"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "in [0, 1)"),
            "unit_dropout": (0 <= self.unit_dropout < 1, "in [0, 1)"),
            "unit_replacement": (0 <= self.unit_replacement <= 1, "in [0, 1]"),
            "speed_perturbation": (
                all(0.5 <= f <= 2 for f in self.speed_perturbation)
                and len(set(self.speed_perturbation)) == len(self.speed_perturbation),
                "different factors in [0.5, 2]",
            ),
            "offset_perturbation": (1 <= self.offset_perturbation <= MAX_OFFSETS, f"1 to {MAX_OFFSETS}"),
            "mixed_precision": (self.mixed_precision in ("auto", "bf16", "no"), "auto, bf16 or no"),
            "checkpoint_steps": (self.checkpoint_steps >= 0, "at least 0"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for name, (holds, expected) in wanted.items():
            if not holds:
                raise InputError(
                    f"{name}: expected {expected}, got {getattr(self, name)}; correct the setting"
                )

    def to_dict(self) -> dict[str, Any]:
        """Give all fields as a plain dict, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainConfig:
        """Read what `to_dict` gave; unknown fields raise InputError."""
        unknown = sorted(set(content) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(
                f"training settings: expected known names, got {', '.join(unknown)}; remove them"
            )
        return cls(**content)

    @property
    def augmentation(self) -> UnitAugmentation | None:
        """How training rows are varied, None for not at all."""
        if self.unit_dropout or self.unit_replacement:
            return UnitAugmentation(self.unit_dropout, self.unit_replacement)
        return None

    def n_epochs(self, n_batches: int) -> int:
        """Epochs at most, of as many batches; LEAST_STEPS are steps of one process."""
        return self.max_epochs or max(EPOCHS, -(-LEAST_STEPS // max(1, n_batches)))

    def learning_rate(self, step: int, progress: float) -> float:
        """Learning rate of one optimizer step.

        step: steps done before it. progress: share of all epochs done before it, in [0, 1).
        """
        rate = self.lr * min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else self.lr
        if self.schedule == "inverse_sqrt":
            warmup = max(1, self.warmup_steps)
            return rate * math.sqrt(warmup / max(warmup, step + 1))
        return rate * (1 + math.cos(math.pi * progress)) / 2 if self.schedule == "cosine" else rate

    def uses_bf16(self, device: torch.device) -> bool:
        """Tell whether the forward pass runs in bfloat16 on `device`."""
        return self.mixed_precision == "bf16" or (self.mixed_precision == "auto" and faster_in_bf16(device))


# SpeechPrompt's settings for GSLM (v1's batches and patience); with the paper's verbalizer, `read="logits"`.
PUBLISHED = TrainConfig(
    lr=5e-3,
    schedule="constant",
    batch_rows=32,
    max_epochs=300,
    patience=5,
    average_epochs=1,
    label_smoothing=0.0,
    unit_dropout=0.0,
    speed_perturbation=(),
)


def faster_in_bf16(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 matrices in hardware of its own.

    CUDA from Ampere on; CPUs with AMX or AVX-512 BF16. On others autocast costs more in conversions than it saves.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
    return False
