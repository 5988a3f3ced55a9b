"""The verb evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import Beam, Device, Json, JudgeName, LengthFactor, MaxLength, RunFolder


def evaluate(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    data: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="The task's data, where it has moved since training.")
    ] = None,
    beam: Beam = 1,
    max_length: MaxLength = None,
    length_factor: LengthFactor = None,
    judge: JudgeName = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Measure a run on a split of its task.

    Example: speechprompt evaluate runs/my_words --split test --json
    """
    from speechprompt.evaluation import evaluate as evaluate_run
    from speechprompt.run_record import read_record
    from speechprompt.sequence.decoding import DecodingConfig

    record = read_record(run)
    if record.task == "translation":
        from speechprompt.cli.translate_verb import evaluate_translation

        evaluate_translation(run, split, data, beam=beam, judge=judge, device=device, as_json=as_json)
        return
    if record.task == "continuation":
        from speechprompt.cli.continue_verb import evaluate_continuation

        _refuse_judge(judge, run)
        evaluate_continuation(run, split, data, device=device, as_json=as_json)
        return
    if record.generation:
        from speechprompt.cli.inpaint_verb import evaluate_inpainting

        evaluate_inpainting(run, split, data, beam=beam, judge=judge, device=device, as_json=as_json)
        return
    _refuse_judge(judge, run)
    decoding = DecodingConfig(beam, max_length, length_factor)
    report = evaluate_run(run, split, data=data, decoding=decoding, device=device, progress=True)
    emit(
        report,
        f"{run}, {split}: {', '.join(_measured(report))}, {report['n']:,} recordings",
        as_json=as_json,
    )


def _refuse_judge(judge: str | None, run: Path) -> None:
    from units.errors import InputError

    if judge is not None:
        raise InputError(f"--judge: expected a run that inpaints or translates, got {run}; leave it out")


def _measured(report: Mapping[str, Any]) -> list[str]:
    """The metrics of a report with their intervals, in words; a classifier's accuracy first."""
    words = []
    if "interval_95" in report:
        low, high = (100 * bound for bound in report["interval_95"])
        words.append(f"accuracy {100 * report['accuracy']:.1f}% (95% interval {low:.1f} to {high:.1f})")
        words.append(f"macro F1 {report['macro_f1']:.3f}")
    for name in report:
        if f"{name}_interval_95" in report and name not in ("accuracy", "macro_f1"):
            low, high = (100 * bound for bound in report[f"{name}_interval_95"])
            words.append(
                f"{name.replace('_', ' ')} {100 * report[name]:.1f}% (95% interval {low:.1f} to {high:.1f})"
            )
    return words
