"""What cost curves are made of: for every size on an axis, a call that does work of this size, on random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from scripts.bench.audio_units import noise_waves, our_quantizer, write_encoder
from scripts.bench.dims import Dims
from scripts.bench.prompt_work import N_LABELS, batch_of, labels_of, our_lm, step_of
from scripts.bench.works import random_lm
from speechprompt.lm.gslm import GSLM
from speechprompt.prompt_config import PromptConfig
from speechprompt.prompted import build_prompted
from speechprompt.run import Run
from speechprompt.run_record import RunRecord
from speechprompt.serve.runs import ServedRun
from speechprompt.serve.shared_pass import answer_rows
from speechprompt.stack import Stack
from units.audio import write_audio
from units.corpus import quantize_corpus
from units.manifest import CorpusEntry
from units.types import UnitSpec

N_ROWS, N_UNITS, N_PROMPT = 16, 50, 20  # of a batch, where the curve is not about them
CLIP_S = 3.6  # a thousandth of an hour
_CODEBOOK = 100

Work = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """What lies on the axes, ascending.

    units: of every row. prompt: positions. rows: of a batch. tasks: in a batch of as many rows as the most of them.
    hours: of a corpus.
    """

    units: tuple[int, ...] = (25, 50, 100, 200, 300, 400)
    prompt: tuple[int, ...] = (1, 10, 25, 50, 100, 200)
    rows: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    tasks: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    hours: tuple[float, ...] = (0.01, 0.025, 0.05, 0.075, 0.1)

    def __post_init__(self) -> None:
        """Raise ValueError where there are too few sizes for a line, or ones that do not ascend from above 0."""
        for field in fields(self):
            sizes = getattr(self, field.name)
            if len(sizes) < 2 or list(sizes) != sorted({size for size in sizes if size > 0}):
                raise ValueError(
                    f"{field.name}: expected two or more ascending numbers above 0, got "
                    f"{','.join(map(str, sizes))}; correct them"
                )


@dataclass(frozen=True)
class Curve:
    """Cost against one size.

    name: of the size. what: the axis, with what stays as it is. per: one of it. sizes: on the axis. series: by
    name, what gives a call that does work of a size.
    """

    name: str
    what: str
    per: str
    sizes: Sequence[float]
    series: Mapping[str, Callable[[float], Work]]


def curves(dims: Dims, sizes: Sizes, folder: Path) -> list[Curve]:
    """All curves.

    Args:
        dims: of the language model and the encoder.
        sizes: on their axes.
        folder: for the encoder and for what is quantized.
    Raises: ValueError for rows longer than the language model's longest.
    """
    lm = our_lm(random_lm(dims.lm))
    longest = max(*sizes.units, N_UNITS)
    if longest + 2 > lm.max_positions:
        raise ValueError(
            f"units: expected at most {lm.max_positions - 2}, as the language model reads, got {longest}; give fewer"
        )

    def prompted(size_of: str) -> Mapping[str, Callable[[float], Work]]:
        return {
            "training step": lambda size: training_step(lm, **{size_of: int(size)}),
            "labelling": lambda size: labels(lm, **{size_of: int(size)}),
        }

    runs = served_runs(lm, sizes.tasks[-1])
    return [
        Curve(
            "utterance length",
            f"units of each row; {N_ROWS} rows, prompt of {N_PROMPT}",
            "unit",
            sizes.units,
            prompted("n_units"),
        ),
        Curve(
            "prompt length",
            f"prompt positions; {N_ROWS} rows of {N_UNITS} units",
            "position",
            sizes.prompt,
            prompted("n_prompt"),
        ),
        Curve(
            "batch",
            f"rows of {N_UNITS} units, prompt of {N_PROMPT}",
            "row",
            sizes.rows,
            prompted("n_rows"),
        ),
        Curve(
            "tasks in one batch",
            f"tasks mixed in {len(runs)} rows of {N_UNITS} units",
            "task",
            sizes.tasks,
            {"labelling as served": lambda size: mixed(lm, runs, int(size))},
        ),
        Curve(
            "corpus",
            f"hours of clips of {CLIP_S:g} s",
            "hour",
            sizes.hours,
            {"quantize": quantizing(dims, folder)},
        ),
    ]


def training_step(lm: GSLM, n_rows: int = N_ROWS, n_units: int = N_UNITS, n_prompt: int = N_PROMPT) -> Work:
    """A prompt-training step, as `train` does it.

    Args:
        lm: the language model.
        n_rows: of the batch.
        n_units: of each row.
        n_prompt: prompt positions.
    """
    prompted = build_prompted(lm, N_LABELS, PromptConfig(length=n_prompt)).train()
    batch = batch_of(lm, n_rows, lengths=(n_units, n_units + 1))
    return step_of(prompted, prompted.trainable_parameters(), batch)


def labels(lm: GSLM, n_rows: int = N_ROWS, n_units: int = N_UNITS, n_prompt: int = N_PROMPT) -> Work:
    """The labelling of a batch behind one prompt; arguments as of `training_step`."""
    prompted = build_prompted(lm, N_LABELS, PromptConfig(length=n_prompt)).eval()
    return labels_of(prompted, batch_of(lm, n_rows, lengths=(n_units, n_units + 1)))


def served_runs(lm: GSLM, n_runs: int) -> list[ServedRun]:
    """Runs as a server holds them, never trained, each with a prompt of its own.

    Args:
        lm: the language model of all.
        n_runs: how many.
    """
    spec = UnitSpec("random", 1, lm.vocab.n_units, 50.0, "0" * 12)
    stack = Stack("random", Path(), spec, encoder=None, codebook=None, lm_part={}, vocoder_part=None)
    runs = []
    for number in range(n_runs):
        config = PromptConfig(length=N_PROMPT, seed=number)
        prompted = build_prompted(lm, N_LABELS, config).eval()
        record = RunRecord(
            task="csv_classification",
            data=None,
            labels=tuple(f"label {i}" for i in range(N_LABELS)),
            stack=stack.name,
            spec=spec,
            lm_fingerprint="",
            prompt=asdict(config),
            training={},
            trainable_parameters=prompted.n_trainable,
            frozen_parameters=prompted.n_frozen,
        )
        runs.append(ServedRun.of(f"task{number}", Run(Path(), record, stack, prompted)))
    return runs


def mixed(lm: GSLM, runs: Sequence[ServedRun], n_tasks: int) -> Work:
    """One batch of as many rows as there are runs, whose first `n_tasks` take turns.

    Args:
        lm: the language model.
        runs: of `served_runs`.
        n_tasks: whose rows are mixed.
    """
    draw = np.random.default_rng(0)
    rows = [(runs[i % n_tasks], [draw.integers(lm.vocab.n_units, size=N_UNITS)]) for i in range(len(runs))]
    return lambda: answer_rows(rows, batch_tokens=len(rows) * (N_UNITS + 2))


def quantizing(dims: Dims, folder: Path) -> Callable[[float], Work]:
    """The corpus job of `speechprompt quantize`, in this process: from hours to a call that writes a store.

    Args:
        dims: of the encoder.
        folder: for the encoder, the one clip of noise that the corpus repeats, and the stores, which do not stay.
    """
    write_encoder(folder / "encoder", dims.hubert)
    clip = folder / "clip.wav"
    write_audio(clip, noise_waves(1, CLIP_S * 4)[0])  # which gives a quarter of the longest
    make_quantizer = partial(our_quantizer, folder / "encoder", dims.layer, _CODEBOOK)

    def of_hours(hours: float) -> Work:
        entries = [CorpusEntry(str(i), clip) for i in range(max(1, round(hours * 3600 / CLIP_S)))]

        def work() -> object:
            with TemporaryDirectory(dir=folder) as out:
                return quantize_corpus(entries, make_quantizer, Path(out) / "units", progress=False)

        return work

    return of_hours
