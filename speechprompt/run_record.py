"""What `run.json` says about a run: read, compared and written in one step.

Of the run folder, this file alone says whether the run is finished (see `speechprompt.checkpoint`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from speechprompt.versions import library_versions
from units.atomic import atomic_path
from units.errors import InputError
from units.types import UnitSpec

RECORD_FILE = "run.json"
# Fields that do not decide whether two runs are the same: they follow from the others.
_OUTCOMES = ("status", "metrics", "versions", "trainable_parameters", "frozen_parameters")


class RunExistsError(InputError):
    """The run folder exists already and is not an unfinished run of the same settings, or another process trains it."""


class RunError(InputError):
    """A folder that is not a run, or a run that does not fit the language model or data it is joined with."""


@dataclass(frozen=True)
class RunRecord:
    """What `run.json` says about a run.

    task, data: name and root that `tasks.get_task` needs; data None for a task without a folder.
    labels: in the order of the verbalizer's outputs. stack: what `load_stack` needs.
    symbols, tokens, longest_target: of a sequence task, whose outputs are symbols and the end: the symbols in order,
    what they are (see SymbolInventory), and how many the longest training text has. Empty where targets are labels.
    generation: of a task that generates speech: its settings, of inpainting the fields of InpaintingConfig.
    method: one of speechprompt.methods that trains. prompt: the fields of PromptConfig, and the method's own settings.
    training: the fields of TrainConfig; of an imported prompt those alone that its checkpoint states.
    metrics: per split, what evaluation gave.
    """

    task: str
    data: str | None
    labels: tuple[str, ...]
    stack: str
    spec: UnitSpec
    lm_fingerprint: str
    prompt: Mapping[str, Any]
    training: Mapping[str, Any]
    trainable_parameters: int
    frozen_parameters: int
    status: Literal["unfinished", "finished"] = "unfinished"
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=library_versions)
    method: str = "prompt"
    symbols: tuple[str, ...] = ()
    tokens: Literal["characters", "words"] = "characters"
    longest_target: int = 0
    generation: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, as JSON would read them back."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunRecord:
        """Read what `to_dict` gave. Raises TypeError on missing or unknown fields."""
        record = cls(**content)
        return replace(
            record,
            labels=tuple(record.labels),
            symbols=tuple(record.symbols),
            spec=UnitSpec.from_dict(content["spec"]),
        )

    def differences(self, other: RunRecord) -> list[str]:
        """Names of the settings in which two runs differ; outcomes do not count."""
        mine, theirs = self.to_dict(), other.to_dict()
        names = [name for name in mine if name not in _OUTCOMES and mine[name] != theirs[name]]
        for group in ("prompt", "training", "generation"):
            if group in names:
                place = names.index(group)
                keys = {**mine[group], **theirs[group]}
                names[place : place + 1] = [k for k in keys if mine[group].get(k) != theirs[group].get(k)]
        return list(dict.fromkeys(names))


def write_record(folder: str | Path, record: RunRecord) -> None:
    """Write `run.json` in one step."""
    with atomic_path(Path(folder) / RECORD_FILE) as temporary:
        temporary.write_text(
            json.dumps(record.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def read_record(folder: str | Path) -> RunRecord:
    """Read `run.json`. Raises RunError: no such folder, not a run, or unreadable."""
    file = Path(folder) / RECORD_FILE
    if not file.is_file():
        raise RunError(
            f"{folder}: expected a run folder with {RECORD_FILE}, got none; give the --out of a training"
        )
    try:
        return RunRecord.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise RunError(f"{file}: expected the record of a run, got {error}; train again") from error


def is_finished(folder: str | Path) -> bool:
    """Whether a folder holds a finished run. Raises RunError as `read_record`, where it holds an unreadable one."""
    return (Path(folder) / RECORD_FILE).is_file() and read_record(folder).status == "finished"


def record_metrics(folder: str | Path, split: str, metrics: Mapping[str, Any]) -> RunRecord:
    """Add the metrics of a split to `run.json`, replacing earlier ones of that split; returns the new record."""
    record = read_record(folder)
    record = replace(record, metrics={**record.metrics, split: dict(metrics)})
    write_record(folder, record)
    return record
