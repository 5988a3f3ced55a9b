"""Training of the unit HiFi-GAN from examples to a folder, with log, validation and exact resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from units.errors import InputError
from units.types import UnitSpec
from vocoder.base import UnitVocoder
from vocoder.config import HiFiGANConfig
from vocoder.schedule import VocoderTraining
from vocoder.segments import SegmentSampler, VocoderExample
from vocoder.trainer import UnitLoss, VocoderTrainer
from vocoder.training_state import TrainingLog, read_state, write_state
from vocoder.validation import validate

__all__ = ["VocoderTraining", "VocoderTrainingResult", "train_vocoder"]


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
        examples: training utterances; with F0 iff the config has an F0 input.
        out_dir: gets config.json and model.safetensors (a `UnitVocoder` folder), log.csv, and resume.pt (of no use
            once all steps are done).
        training: how to train.
        spec: inventory of the units.
        speakers: names of the speaker table's rows; empty for a single voice.
        valid_examples: held-out utterances, synthesized whole at each validation.
        unit_loss: optional loss of generated waves against their units, weighted by `training.unit_weight`
            (`vocoder.unit_loss`).
        initial: a vocoder of these sizes whose weights to start from, unit table included (to go on with other losses,
            say, or with new units from the old ones' table). It may lack the F0 input: then what is spoken at first
            is what it speaks, whatever the F0 (`vocoder.initial`).
        device: where to train.
        on_log: called with every row of the log.

    Returns:
        The vocoder and how far it came.

    Raises:
        InputError: examples, sizes, spec, speakers and initial vocoder do not fit together; the generator reads codes
            of an F0 quantizer, which is not trained here; or resume.pt comes from another setting.
    """
    began = time.monotonic()
    out_dir = Path(out_dir)
    if config.f0_quantizer is not None:
        raise InputError(
            "vocoder training: expected a generator that reads F0 values or bins, got f0_quantizer, whose codes cannot "
            "be trained here; leave f0_quantizer out"
        )
    for i, example in enumerate([*examples, *valid_examples]):
        _require_known_ids(i, example, config)
        _require_f0(i, example, config)
    sampler = SegmentSampler(
        examples,
        config.hop_length * config.frames_per_unit,
        training.segment_frames,
        training.speaker_power,
        training.seed,
        config.frames_per_unit,
    )
    start = None if initial is None else initial.generator
    trainer = VocoderTrainer(config, training, sampler, unit_loss, device, start)
    UnitVocoder(
        trainer.inference_generator(), spec, speakers
    )  # parts that do not fit are refused now, not at the end
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


def _require_known_ids(i: int, example: VocoderExample, config: HiFiGANConfig) -> None:
    """Raise InputError where a unit or the speaker lies outside its table."""
    if len(example.units) and not 0 <= example.units.min() <= example.units.max() < config.num_embeddings:
        raise InputError(
            f"vocoder example {i}: expected units in [0, {config.num_embeddings}), got {example.units.min()} to "
            f"{example.units.max()}; they belong to another codebook"
        )
    if config.multispkr and not 0 <= example.speaker < config.num_speakers:
        raise InputError(
            f"vocoder example {i}: expected a speaker in [0, {config.num_speakers}), got {example.speaker}; "
            "raise num_speakers"
        )


def _require_f0(i: int, example: VocoderExample, config: HiFiGANConfig) -> None:
    """Raise InputError where F0 is missing, or is not what the generator reads."""
    f0, n_frames, n_bins = example.f0, len(example.units), config.f0_quant_num_bin
    wanted = "int64 F0 bins" if n_bins else "float32 F0 values"
    if (f0 is not None) != config.f0:
        raise InputError(
            f"vocoder example {i}: expected {wanted if config.f0 else 'no F0'}, as the config's f0 is {config.f0}, "
            f"got {'none' if f0 is None else 'some'}; {'measure F0' if config.f0 else 'leave f0 out'} or change the "
            "config"
        )
    if f0 is None:
        return
    if not np.issubdtype(f0.dtype, np.integer if n_bins else np.floating):
        raise InputError(
            f"vocoder example {i}: expected {wanted} (f0_quant_num_bin is {n_bins}), got {f0.dtype}; "
            "give what the generator reads or change f0_quant_num_bin"
        )
    finest = config.frames_per_unit
    lengths = [n_frames * k for k in range(1, finest + 1) if finest % k == 0]
    if f0.ndim != 1 or len(f0) not in lengths:
        raise InputError(
            f"vocoder example {i}: expected {' or '.join(map(str, lengths))} F0 values for {n_frames} frames, "
            f"got shape {f0.shape}; bring F0 to the frames of the units"
        )
    if n_bins and n_frames and not 0 <= f0.min() <= f0.max() < n_bins:
        raise InputError(
            f"vocoder example {i}: expected F0 bins in [0, {n_bins}), got {f0.min()} to {f0.max()}; "
            "raise f0_quant_num_bin or draw other borders"
        )
    if not n_bins and not np.isfinite(f0).all():
        raise InputError(
            f"vocoder example {i}: expected finite F0 values, got {np.count_nonzero(~np.isfinite(f0))} that are not; "
            "interpolate unvoiced frames or set them to a value of their own"
        )
