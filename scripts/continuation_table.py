r"""How continuations compare with real speech: perplexity under a held-out LM, auto-BLEU, self-BLEU, VERT.

    python -m scripts.continuation_table --stack mini --data speech/ --held-out other_lm --out tables/continuation

`--held-out` is a model folder of `speechprompt pretrain` on units of the same codebook, read as the stack's LM reads
them (`quantize --frames`, or without), best of recordings that the stack's LM never saw. Writes table.md, table.json.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.interval_cells import interval_cells
from scripts.table_files import write_table
from speechprompt.cli.boundary import guarded
from speechprompt.cli.options import JudgeName
from speechprompt.decode import SamplingConfig
from speechprompt.generate.continuation_evaluation import PLAIN, measure_continuations
from speechprompt.generate.continuation_run import load_continuation_run
from speechprompt.judge import load_judge
from speechprompt.lm import load_lm
from speechprompt.stack_folder import load_stack
from tasks.registry import get_task
from units.errors import InputError

COLUMNS = (
    ("perplexity", "perplexity", 1.0),
    ("auto_bleu", "auto-BLEU", 100.0),
    ("self_bleu", "self-BLEU", 100.0),
    ("vert", "VERT", 100.0),
    ("words_vert", "VERT of words", 100.0),
)


def markdown(measured: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The table, with 95% intervals. measured: by seed ratio, then by row."""
    lines = [
        f"| seed ratio | | {' | '.join(title for _, title, _ in COLUMNS)} |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for ratio, rows in measured.items():
        for name, measures in rows.items():
            cells = [ratio, name, *interval_cells(measures, COLUMNS)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(
    data: Annotated[Path, typer.Option(metavar="ROOT", help="A folder of recordings, or a CSV of path.")],
    held_out: Annotated[Path, typer.Option(metavar="DIR", help="Another language model of these units.")],
    stack: Annotated[str, typer.Option(metavar="NAME")] = "mini",
    run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Also continue by this prompt, trained for it on the stack."),
    ] = None,
    split: Annotated[str, typer.Option(help="Of the recordings: train, valid or test.")] = "test",
    seed_ratios: Annotated[str, typer.Option(metavar="R,R")] = "0.25,0.5,0.75",
    temperature: Annotated[float, typer.Option()] = 0.7,
    judge: JudgeName = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path("tables/continuation"),
) -> None:
    """Measure continuations of a split."""
    try:
        ratios = [float(part) for part in seed_ratios.split(",")]
    except ValueError:
        raise InputError(f"--seed-ratios: expected numbers, got {seed_ratios!r}; write 0.25,0.5") from None
    paths = [u.path for u in get_task("continuation", data).utterances(split) if u.path is not None]
    lm = load_lm(held_out).freeze()
    parts, listener = load_stack(stack), None if judge is None else load_judge(judge)
    prefixes = dict(PLAIN)
    if run is not None:
        prefixes["continuation, prompted"] = load_continuation_run(run, stack=parts).prompted.prefix()
    sampling = replace(SamplingConfig(seed=seed), temperature=temperature)
    measured = {
        str(ratio): measure_continuations(
            parts,
            paths,
            lm,
            seed_ratio=ratio,
            sampling=sampling,
            judge=listener,
            prefixes=prefixes,
            seed=seed,
            progress=True,
        )
        for ratio in ratios
    }
    about = {
        "stack": stack,
        "run": None if run is None else str(run),
        "data": str(data),
        "split": split,
        "held_out": str(held_out),
        "measures": measured,
    }
    table = markdown(measured)
    write_table(out, table, about)
    print(table, end="")


if __name__ == "__main__":
    sys.exit(guarded(lambda: typer.run(main)))
