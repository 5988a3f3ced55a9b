"""The verb that trains a language model from unit stores: pretrain."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import Device, Json, Seed

if TYPE_CHECKING:
    from speechprompt.pretraining.config import PretrainResult


class Family(str, Enum):
    """What kind of language model is trained."""

    GSLM = "gslm"
    UNIT_MBART = "unit-mbart"
    PGSLM = "pgslm"


class Prosody(str, Enum):
    """How pGSLM takes durations and F0."""

    DISCRETE = "discrete"
    CONTINUOUS = "continuous"


class Optimizer(str, Enum):
    """What trains the weights."""

    ADAMW = "adamw"
    MUON = "muon"


def pretrain(
    lm: Annotated[
        Family, typer.Option(help="Next unit; restoring damaged rows; units with durations and F0.")
    ],
    units: Annotated[
        list[Path], typer.Option(metavar="DIR", help="Unit store of `quantize`; may be given several times.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the model to make.")],
    layers: Annotated[int, typer.Option(min=1, help="Layers; of unit-mbart, on each side.")] = 6,
    width: Annotated[int, typer.Option(min=2, help="Width of the residual stream.")] = 256,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads; divides the width.")] = 4,
    ffn: Annotated[int, typer.Option(min=1, help="Inner width of the feed-forward parts.")] = 1024,
    max_positions: Annotated[int, typer.Option(min=8, help="Most tokens of a row.")] = 1024,
    dropout: Annotated[float, typer.Option(min=0, max=0.99, help="In training.")] = 0.1,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 10_000,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens in a batch, padding counted.")] = 8_192,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    warmup_steps: Annotated[int, typer.Option(min=0, help="Steps up to it.")] = 500,
    optimizer: Annotated[
        Optimizer, typer.Option(help="AdamW on all, or Muon on the layers' matrices and AdamW on the rest.")
    ] = Optimizer.ADAMW,
    check_every: Annotated[
        int, typer.Option(min=1, help="Steps between checks on the valid rows; a kill loses no more.")
    ] = 500,
    max_minutes: Annotated[
        float | None,
        typer.Option(help="Stop after this time; then runs no longer repeat.", show_default=False),
    ] = None,
    valid_split: Annotated[
        str, typer.Option(help="Split to check on; where there is none, 1 row in 50 is held out.")
    ] = "valid",
    frames: Annotated[
        bool, typer.Option("--frames", help="One unit per frame, runs included; not for pgslm.")
    ] = False,
    language: Annotated[str, typer.Option(help="unit-mbart: tag of the rows' language.")] = "und",
    sentences: Annotated[int, typer.Option(min=1, help="unit-mbart: most utterances in a row.")] = 3,
    masked: Annotated[float, typer.Option(min=0, max=1, help="unit-mbart: share of masked tokens.")] = 0.35,
    mean_span: Annotated[float, typer.Option(min=0.1, help="unit-mbart: mean tokens of a span.")] = 3.5,
    mask_each: Annotated[
        bool,
        typer.Option("--mask-each", help="unit-mbart: a mask for every token of a span, not one for all."),
    ] = False,
    shaken: Annotated[
        float,
        typer.Option(min=0, max=1, help="unit-mbart, --mask-each: share by which masks are more or fewer."),
    ] = 0.0,
    prosody: Annotated[Prosody, typer.Option(help="pgslm: classes, or numbers.")] = Prosody.DISCRETE,
    delays: Annotated[
        tuple[int, int], typer.Option(metavar="N N", help="pgslm: by which durations and F0 follow units.")
    ] = (1, 1),
    half: Annotated[bool, typer.Option("--half", help="Store float16 weights.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train a unit language model from nothing, on the units of any speech.

    The same command continues a training that was stopped. FOLDER gets config.json, model.safetensors (the best
    weights so far), log.csv and pretraining.json.

    Example: speechprompt pretrain --lm gslm --units units --out my_lm --steps 2000
    """
    from dataclasses import asdict, replace

    from speechprompt import __version__
    from speechprompt.lm.denoising import DenoisingConfig
    from speechprompt.pretraining.config import PretrainConfig
    from speechprompt.pretraining.corpus import read_corpus
    from speechprompt.pretraining.families import PROSODY, ModelSize, objective_of
    from speechprompt.pretraining.loop import pretrain as pretrain_objective
    from units.atomic import atomic_path

    corpus = read_corpus(units, valid_split=valid_split, deduplicate=not frames)
    size = ModelSize(layers, width, heads, ffn, dropout, max_positions)
    config = PretrainConfig(
        steps=steps,
        batch_tokens=batch_tokens,
        lr=lr,
        warmup_steps=warmup_steps,
        optimizer=optimizer.value,
        seed=seed,
        max_seconds=None if max_minutes is None else 60 * max_minutes,
        check_every=check_every,
        bf16=bf16,
        device=device,
    )
    objective = objective_of(
        lm.value,
        corpus,
        size,
        config,
        language=language,
        noise=DenoisingConfig(masked=masked, mean_span=mean_span, mask_each=mask_each, shaken=shaken),
        n_sentences=sentences,
        prosody=replace(PROSODY[prosody.value], duration_delay=delays[0], f0_delay=delays[1]),
    )
    result = pretrain_objective(objective, out, config, half=half, progress=True)
    record = {
        "out": str(out),
        "lm": lm.value,
        "units": [str(folder) for folder in units],
        "spec": corpus.spec.to_dict(),
        "n_train": len(corpus.train),
        "n_valid": len(corpus.valid),
        "held_out": corpus.held_out,
        "deduplicate": not frames,
        "size": asdict(size),
        "settings": asdict(config),
        "result": _plain(result),
        "version": __version__,
    }
    with atomic_path(out / "pretraining.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    emit(record, _summary(out, result), as_json=as_json)


def _plain(result: PretrainResult) -> dict[str, object]:
    """The result for JSON, which has no NaN: null stands for what could not be measured."""
    numbers = {
        "perplexity": result.perplexity,
        "unigram_perplexity": result.unigram_perplexity,
        **result.measures,
    }
    return {
        "steps": result.steps,
        "seconds": result.seconds,
        **{name: None if value != value else value for name, value in numbers.items()},
        "flat_from": result.flat_from,
    }


def _summary(out: Path, result: PretrainResult) -> str:
    measured = (
        f"valid perplexity {result.perplexity:.2f} (units' frequencies alone: {result.unigram_perplexity:.2f})"
        if result.perplexity == result.perplexity
        else "no valid rows"
    )
    flat = (
        ""
        if result.flat_from is None
        else f"; flat from step {result.flat_from:,}, gained less than 1% since"
    )
    return f"{out}: {measured} after {result.steps:,} steps in {result.seconds:.0f} s{flat}"
