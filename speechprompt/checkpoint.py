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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from speechprompt.batch import LabelledUnits
from speechprompt.run_record import (
    RECORD_FILE,
    RunError,
    RunExistsError,
    RunRecord,
    read_record,
    write_record,
)
from units.atomic import atomic_dir, atomic_path
from units.errors import InputError
from units.training_state import read_training_state

PROMPT_FILE, STATE_FILE = "prompt.safetensors", "resume/state.pt"
_METADATA_KEY = "speechprompt"


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
            about = json.loads((content.metadata() or {}).get(_METADATA_KEY, "{}"))
            made_for = str(about.get("lm_fingerprint", "none") if isinstance(about, dict) else "none")
            if made_for != lm_fingerprint:  # before anything else is read
                raise RunError(
                    f"{file}: expected a prompt for the language model {lm_fingerprint[:12]}, got one trained "
                    f"for {made_for[:12]}; use the stack it was trained with"
                )
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise RunError(f"{file}: expected a safetensors file, got {error}; train again") from error


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
