r"""What fills gaps how well: damaged, nearest neighbour, plain model, prompt, fine-tuning, resynthesized original.

    python -m scripts.inpainting_table --run runs/inpainting --split test --out tables/inpainting --finetune

All methods see the same gaps. With --finetune a copy of the whole language model is trained as the prompt was, in
OUT/finetuned. Writes table.md and table.json after every method and, with --audio, every spoken recording, to listen to
and for a judge. Killed at any time, the same command continues: what was measured or trained is not done again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from scripts.interval_cells import interval_cells
from scripts.table_files import write_table
from speechprompt.cli.boundary import guarded
from speechprompt.cli.options import Candidates, CandidatesTemperature, GapBeam, JudgeName
from speechprompt.generate.filling import filling_by
from speechprompt.generate.inpainting_evaluation import FINETUNE, METHODS, compare
from speechprompt.generate.inpainting_run import load_inpainting_run
from speechprompt.generate.inpainting_training import FINETUNE_LR, finetune_as
from speechprompt.judge import load_judge
from speechprompt.suite.settings import split_names
from units.audio import write_audio

COLUMNS = (
    ("gap_unit_error_rate", "unit error rate in the gap", 100.0),
    ("unit_error_rate", "overall", 100.0),
    ("gap_mel_cepstral_distance", "mel-cepstral distance in the gap, dB", 1.0),
    ("mel_cepstral_distance", "overall", 1.0),
    ("gap_f0_error_cents", "F0 error in the gap, cents", 1.0),
    ("judge_wer", "word error rate", 100.0),
    ("judge_cer", "character error rate", 100.0),
)
NAMES = {
    "corrupted": "damaged, as it is",
    "nearest": "nearest neighbour",
    "plain": "plain language model",
    "masked": "plain language model, gap masked",
    "prompt": "prompt",
    FINETUNE: "fine-tuning of the whole model",
    "resynthesized": "clean units, resynthesized",
    "original": "the recording before the damage",
}


def markdown(measured: Mapping[str, Mapping[str, Any]], trained: Mapping[str, int]) -> str:
    """The table, with 95% intervals; `trained`: how many weights, by method."""
    lines = [
        f"| | trained | {' | '.join(title for _, title, _ in COLUMNS)} |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for name, measures in measured.items():
        cells = [NAMES.get(name, name), f"{trained.get(name, 0):,}", *interval_cells(measures, COLUMNS)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


class MeasuredTable:
    """What was measured so far, on disk after every method.

    folder: of table.json and table.md. trained: how many weights, by method. about: all that the measures depend on;
    what table.json holds is taken over where that is the same.
    """

    def __init__(self, folder: Path, trained: Mapping[str, int], about: Mapping[str, Any]) -> None:
        self.folder, self.trained, self.about = folder, trained, json.loads(json.dumps(about))
        file = folder / "table.json"
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        measures = found.pop("measures", {})
        self.measured: dict[str, Any] = measures if found == self.about else {}

    def add(self, name: str, measures: dict[str, Any]) -> None:
        """Take in a method's measures."""
        self.measured[name] = measures
        write_table(self.folder, self.markdown(), self.about | {"measures": self.measured})

    def markdown(self) -> str:
        """All rows, in the order of NAMES."""
        return markdown({name: self.measured[name] for name in NAMES if name in self.measured}, self.trained)


def main(
    run: Annotated[Path, typer.Option(metavar="RUN", help="A run of the task inpainting.")],
    out: Annotated[Path, typer.Option(metavar="DIR")] = Path("tables/inpainting"),
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    data: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="Where the recordings have moved.")
    ] = None,
    methods: Annotated[str, typer.Option(metavar="A,B")] = ",".join(METHODS),
    candidates: Candidates = None,
    temperature: CandidatesTemperature = None,
    beam: GapBeam = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Also train the whole model for it, in DIR/finetuned.")
    ] = False,
    finetune_lr: Annotated[float, typer.Option(help="Learning rate of that.")] = FINETUNE_LR,
    audio: Annotated[bool, typer.Option("--audio", help="Keep the spoken recordings.")] = False,
    judge: JudgeName = None,
) -> None:
    """Measure everything on the same gaps."""
    opened = load_inpainting_run(run)

    def keep(method: str, utterance: str, wave: np.ndarray, sample_rate: int) -> None:
        file = (out / "audio" / method / utterance).with_suffix(".flac")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_audio(file, wave, sample_rate)

    writing = filling_by(beam=beam, candidates=candidates, temperature=temperature)
    names = split_names("--methods", methods)
    trained, finetuned = {"prompt": opened.record.trainable_parameters}, None
    if finetune:
        finetuned = finetune_as(opened, out / "finetuned", data=data, lr=finetune_lr, progress=True)
        trained[FINETUNE] = finetuned.record.trainable_parameters
        names.append(FINETUNE)
    settings = opened.record.to_dict()
    settings.pop("metrics")  # they change when the run is evaluated
    table = MeasuredTable(
        out,
        trained,
        {
            "run": str(run),
            "split": split,
            "writing": asdict(writing),
            "settings": settings,
            "judge": judge,
            "audio": audio,
        },
    )
    missing = [name for name in names if name not in table.measured]
    if missing:
        compare(
            opened,
            split,
            missing,
            finetuned=finetuned,
            data=data,
            writing=writing,
            keep=keep if audio else None,
            judge=None if judge is None else load_judge(judge),
            measured_one=table.add,
            progress=True,
        )
    print(table.markdown(), end="")


if __name__ == "__main__":
    sys.exit(guarded(lambda: typer.run(main)))
