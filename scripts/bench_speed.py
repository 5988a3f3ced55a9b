"""Measures what a user waits for: the real time factor of each verb, and prompt training's speed.

python scripts/bench_speed.py --stack mini --threads 2 --json

Models are loaded before; what a command takes to start does not count. `inpaint` is measured where the stack has an
encoder-decoder, without a prompt.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from speechprompt.batch import Batch, BucketedBatches
from speechprompt.evaluation import predict
from speechprompt.generate.continuation import continue_speech
from speechprompt.generate.inpainter import InpaintingConfig
from speechprompt.generate.inpainting import inpaint_speech
from speechprompt.generate.inpainting_run import plain_inpainter
from speechprompt.prompt_config import PromptConfig
from speechprompt.prompted import PromptedLM, build_prompted
from speechprompt.run import Run
from speechprompt.run_record import RunRecord
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from speechprompt.steered import rounded_lm, steering
from speechprompt.task_units import labelled_units
from speechprompt.train_config import TrainConfig
from tasks import get_task
from tasks.spoken_digits import READ_SENTENCE
from units.audio import read_audio

LEAST_REPEATS = 5
N_LABELS, CONTINUED_S = 10, 4.0
N_SENTENCES = 8  # as many copies of one read sentence are quantized in one call


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Median wall-clock seconds of `repeats` calls after one that does not count.

    Args:
        work: what is measured.
        repeats: calls that count.
    """
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def quantizing_rtf(stack: Stack, repeats: int) -> float:
    """Seconds of computing per second of audio, from waves to units.

    Args:
        stack: whose quantizer is measured.
        repeats: calls that count.
    """
    quantizer = stack.quantizer
    wave = read_audio(READ_SENTENCE, quantizer.sample_rate)
    audio_s = N_SENTENCES * len(wave) / quantizer.sample_rate
    return median_s(lambda: quantizer([wave] * N_SENTENCES), repeats) / audio_s


def vocoder_rtf(stack: Stack, repeats: int) -> float:
    """Seconds of computing per second of audio, from units with durations to a wave.

    Args:
        stack: whose vocoder is measured.
        repeats: calls that count.
    """
    (units,) = stack.quantize(READ_SENTENCE)
    return median_s(lambda: stack.vocoder(units), repeats) / units.duration_s


def predicting_rtf(stack: Stack, repeats: int) -> float:
    """Seconds of computing per second of audio, from a wave to one of ten labels, by a prompt that was never trained.

    Args:
        stack: whose language model is prompted.
        repeats: calls that count.
    """
    prompt = PromptConfig()
    prompted = build_prompted(stack.lm, N_LABELS, prompt).eval()
    record = RunRecord(
        task="csv_classification",
        data=None,
        labels=tuple(map(str, range(N_LABELS))),
        stack=stack.source,
        spec=stack.spec,
        lm_fingerprint="",
        prompt=prompt.to_dict(),
        training={},
        trainable_parameters=prompted.n_trainable,
        frozen_parameters=prompted.n_frozen,
    )
    run, wave = Run(Path(), record, stack, prompted), stack.read(READ_SENTENCE)
    return median_s(lambda: predict(run, wave), repeats) / (len(wave) / stack.quantizer.sample_rate)


def continuing_rtf(stack: Stack, repeats: int) -> float:
    """Seconds of computing per second of new speech, after two that are heard.

    Args:
        stack: whose language model goes on.
        repeats: calls that count.
    """
    seconds = median_s(lambda: continue_speech(stack, READ_SENTENCE, length_s=CONTINUED_S), repeats)
    return seconds / CONTINUED_S


def resynthesizing_rtf(stack: Stack, repeats: int) -> float:
    """Seconds of computing per second of audio, from a wave to the same spoken again.

    Args:
        stack: whose encoder and vocoder are measured.
        repeats: calls that count.
    """
    wave, f0 = stack.read(READ_SENTENCE), stack.voice.needs_f0

    def work() -> object:
        [units] = stack.quantize([wave], f0=f0)
        return stack.voice.speak(units)

    return median_s(work, repeats) / (len(wave) / stack.quantizer.sample_rate)


def inpainting_rtf(stack: Stack, repeats: int) -> float:
    """Seconds of computing per second of audio, of which 0.6 s are filled.

    Args:
        stack: whose encoder-decoder fills.
        repeats: calls that count.
    """
    wave = stack.read(READ_SENTENCE)
    inpainter = plain_inpainter(stack, InpaintingConfig(masked=True))
    seconds = median_s(lambda: inpaint_speech(stack, inpainter, wave, [(1.0, 1.6)]), repeats)
    return seconds / (len(wave) / stack.quantizer.sample_rate)


def training_tokens_per_s(stack: Stack, repeats: int) -> float:
    """Unit tokens (without padding) per second of whole optimizer steps of a deep prompt of length 5.

    The batches are the first ones of an epoch of the bundled spoken digits, at the default budget. Evaluation, logging
    and checkpoints, which a training also does, do not count.

    Args:
        stack: whose language model is prompted.
        repeats: passes over the batches that count.
    """
    config = TrainConfig()
    task = get_task("spoken_digits")
    batches = BucketedBatches(
        labelled_units(task, "train", stack),
        stack.lm.vocab,
        batch_tokens=config.batch_tokens,
        max_rows=config.batch_rows,
        max_positions=stack.lm.max_positions,
    )
    first = [batch for batch, _ in zip(batches.epoch(0), range(8), strict=False)]
    prompted = build_prompted(stack.lm, len(task.labels), PromptConfig()).train()
    optimizer = torch.optim.Adam(prompted.trainable_parameters(), lr=config.lr, betas=config.betas)
    rounded = rounded_lm(prompted, "") if config.uses_bf16(prompted.separator.device) else None
    with steering(prompted, rounded):
        seconds = median_s(lambda: _train(prompted, optimizer, first, config), repeats)
    return sum(batch.n_tokens for batch in first) / seconds


def _train(
    prompted: PromptedLM, optimizer: torch.optim.Optimizer, batches: list[Batch], config: TrainConfig
) -> None:
    bf16 = config.uses_bf16(prompted.separator.device)
    for batch in batches:
        optimizer.zero_grad()
        with torch.autocast(prompted.separator.device.type, torch.bfloat16, enabled=bf16):
            loss = prompted.loss(batch.to(prompted.separator.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prompted.trainable_parameters(), config.clip)
        optimizer.step()


RTFS: dict[str, Callable[[Stack, int], float]] = {
    "quantizing": quantizing_rtf,
    "vocoder": vocoder_rtf,
    "resynthesizing": resynthesizing_rtf,
    "predicting": predicting_rtf,
    "continuing": continuing_rtf,
    "inpainting": inpainting_rtf,
}


def measure(stack: Stack, repeats: int) -> dict[str, Any]:
    """All figures of one stack, with what they were measured on.

    Args:
        stack: what is measured.
        repeats: runs that count; each figure is their median.
    """
    factors = RTFS if stack.seq2seq_part is not None else {n: f for n, f in RTFS.items() if n != "inpainting"}
    return {
        "stack": stack.name,
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        **{f"{name}_rtf": factor(stack, repeats) for name, factor in factors.items()},
        "training_tokens_per_s": training_tokens_per_s(stack, repeats),
    }


def main(
    stack: Annotated[str, typer.Option(help="Name of a bundled stack, or a stack's folder.")] = "mini",
    repeats: Annotated[int, typer.Option(min=LEAST_REPEATS, help="Runs; medians are printed.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = min(2, os.cpu_count() or 1),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure real time factors (computing seconds per second of audio) and training speed."""
    torch.set_num_threads(threads)
    figures = measure(load_stack(stack), repeats)
    if as_json:
        print(json.dumps(figures))
        return
    print(f"stack {figures['stack']}, {threads} threads, medians of {repeats}")
    for name in RTFS:
        if f"{name}_rtf" in figures:
            print(f"{name:<18}{figures[f'{name}_rtf']:8.4f} seconds per second of audio")
    print(f"{'prompt training':<18}{figures['training_tokens_per_s']:8.0f} tokens per second")


if __name__ == "__main__":
    typer.run(main)
