"""The run folder: what a training leaves behind, written so that a kill at any moment leaves it usable.

    RUN/prompt.safetensors   prompt, separator, verbalizer of the best epoch: nothing else
    RUN/run.json             RunRecord: settings, task, labels, UnitSpec, LM fingerprint, metrics, versions
    RUN/log.csv              one row per epoch
    RUN/tensorboard/         the same for TensorBoard
    RUN/resume/state.pt      while unfinished: everything needed to continue as if never interrupted; beside it the
                             lock of whoever trains (speechprompt.run_lock)

Every file is replaced in one step. `run.json` says "unfinished" until the last epoch's results are in place.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from speechprompt.batch import LabelledUnits
from speechprompt.versions import library_versions
from units.atomic import atomic_dir, atomic_path
from units.errors import InputError
from units.training_state import read_training_state
from units.types import UnitSpec

PROMPT_FILE, RECORD_FILE, STATE_FILE = "prompt.safetensors", "run.json", "resume/state.pt"
_METADATA_KEY = "speechprompt"
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


def require_free(folder: str | Path) -> None:
    """Raise RunExistsError unless a run may be begun or continued in `folder`: cheap, before any work is done."""
    folder = Path(folder)
    if (folder / RECORD_FILE).is_file():
        if _tidied_record(folder).status == "finished":
            raise RunExistsError(
                f"{folder}: expected no run there, got a finished one; choose another --out or delete it"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunExistsError(
            f"{folder}: expected no such folder or an unfinished run, got something else; choose another --out"
        )


def _tidied_record(folder: Path) -> RunRecord:
    """The run's record; what a training that was killed at its very end left in a finished run goes."""
    record = read_record(folder)
    if record.status == "finished":
        remove_state(folder)
    return record


def begin_run(folder: str | Path, record: RunRecord, *, finished: bool = False) -> None:
    """Make the run folder with its record, or find the same run unfinished there; also a finished one if `finished`.

    Raises: RunExistsError where the folder holds another finished run, a run of other settings, or other files.
    """
    folder = Path(folder)
    exists = (folder / RECORD_FILE).is_file()
    if not (exists and finished):
        require_free(folder)
    if exists:
        differing = _tidied_record(folder).differences(record)
        if differing:
            raise RunExistsError(
                f"{folder}: expected an unfinished run of the same settings, got one that differs in "
                f"{', '.join(differing)}; choose another --out, or repeat the command that began it"
            )
    elif folder.exists():
        write_record(folder, record)
    else:
        with atomic_dir(folder) as temporary:
            write_record(temporary, record)


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


def save_prompt(folder: str | Path, tensors: Mapping[str, Tensor], record: RunRecord) -> None:
    """Write the trained tensors, alone, with the UnitSpec and the LM's fingerprint in the file's metadata."""
    about = {"spec": record.spec.to_dict(), "lm_fingerprint": record.lm_fingerprint}
    metadata = {
        _METADATA_KEY: json.dumps(about)
    }  # one key: safetensors writes several in an order that changes
    # Serialised in memory first: safetensors' own writer would report a full disk as something else than OSError.
    content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata)
    with atomic_path(Path(folder) / PROMPT_FILE) as temporary:
        temporary.write_bytes(content)


def load_prompt(folder: str | Path, lm_fingerprint: str) -> dict[str, Tensor]:
    """Read the trained tensors. Raises RunError: none there, unreadable, or trained for another language model."""
    file = Path(folder) / PROMPT_FILE
    if not file.is_file():
        raise RunError(f"{file}: expected a trained prompt, got none; let the training end its first epoch")
    try:
        with safe_open(file, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a dict)
            about = json.loads((content.metadata() or {}).get(_METADATA_KEY, "{}"))
    except (SafetensorError, ValueError) as error:
        raise RunError(f"{file}: expected a safetensors file, got {error}; train again") from error
    made_for = str(about.get("lm_fingerprint", "none") if isinstance(about, dict) else "none")
    if made_for != lm_fingerprint:
        raise RunError(
            f"{file}: expected a prompt for the language model {lm_fingerprint[:12]}, got one trained for "
            f"{made_for[:12]}; use the stack it was trained with"
        )
    return tensors


def save_state(folder: str | Path, state: Mapping[str, Any]) -> None:
    """Write what a continued training needs: tensors and plain values only."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)  # in memory first, so that a full disk is an OSError
    with atomic_path(Path(folder) / STATE_FILE) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(folder: str | Path) -> dict[str, Any] | None:
    """Read the latest state to the CPU, or None where training has not saved one yet. Raises RunError: unreadable."""
    file = Path(folder) / STATE_FILE
    if not file.is_file():
        return None
    try:
        return read_training_state(file, "delete the run and train again")
    except InputError as error:
        raise RunError(str(error)) from error


def finish_run(folder: str | Path, metrics: Mapping[str, Any]) -> RunRecord:
    """Mark the run finished, with its validation metrics, and remove the state that only continuing needs."""
    record = read_record(folder)
    record = replace(record, status="finished", metrics={**record.metrics, "valid": dict(metrics)})
    write_record(folder, record)
    remove_state(folder)
    return record


def remove_state(folder: str | Path) -> None:
    """Remove what only continuing needs."""
    shutil.rmtree((Path(folder) / STATE_FILE).parent, ignore_errors=True)


def rows_fingerprint(rows: Sequence[LabelledUnits]) -> str:
    """Sha256 over rows and labels, in order: which data a training state belongs to."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.label} {len(row.units)};".encode())
        kind = "<i8" if row.units.ndim == 1 else "<f8"  # units alone, or with their prosody
        digest.update(np.ascontiguousarray(row.units, dtype=kind).tobytes())
    return digest.hexdigest()
