"""Prompts trained with SpeechPrompt's own code (v1, v2) into run folders; `prompt_export` goes the other way.

Source: the tensors of `transformer_lm_big_prompt` (v1) and `GSLM_SpeechPrompt_v1` (v2), and their labels' table
`verbalizer.json`, label to unit. Shapes: L layers, P prompt positions, D model dimension, N labels, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from speechprompt.checkpoint import begin_run, finish_run, save_prompt
from speechprompt.convert.base import Converted
from speechprompt.convert.prompt_training import training_of
from speechprompt.fairseq import CheckpointError, FairseqCheckpoint, UsedTensors
from speechprompt.lm.base import UnitLM
from speechprompt.prompted import PromptConfig, PromptedLM, restore_prompted
from speechprompt.run_record import RunRecord
from speechprompt.stack import Stack
from speechprompt.vocab import SPECIALS, UnitVocab
from units.errors import InputError

PREFIX, INFIX = "decoder.prefix_embed_prompts.weight", "decoder.infix_embed_prompts.weight"
KEY, VALUE = "decoder.deep_key_embed_prompts", "decoder.deep_value_embed_prompts"
SEPARATOR, LINEAR = "decoder.sep_embed.weight", "decoder.prompt_linear_verbalizer.weight"
# Ours alone: SpeechPrompt's verbalizer reads logits, ours may read the hidden state.
N_OFFSETS = "n_offsets"  # in the task state of our exports
HIDDEN = "decoder.prompt_hidden_verbalizer.weight"
LABELS_FILE = "verbalizer.json"
PROMPT_PREFIXES = dict.fromkeys(
    ("decoder.prefix_", "decoder.infix_", "decoder.deep_", "decoder.sep_", "decoder.prompt_"),
    "the prompt, which is converted without the language model",
)
N_SPECIALS = len(SPECIALS)


@dataclass(frozen=True, eq=False)
class ImportedPrompt:
    """A prompt as its checkpoint holds it.

    config: what kind it is. state: tensors as `PromptedLM.trainable_state` names them. labels: in the order of the
    verbalizer's outputs. linear: the whole linear verbalizer (4 + N, V), special tokens first, or None.
    ignored: tensors that were left out, with the reason.
    """

    config: PromptConfig
    state: Mapping[str, Tensor]
    labels: tuple[str, ...]
    linear: Tensor | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)

    def prompted(self, lm: UnitLM) -> PromptedLM:
        """Put the prompt on a language model, in evaluation mode. Raises InputError: it does not fit."""
        return restore_prompted(lm, len(self.labels), self.config, self.state)


def is_prompt(checkpoint: FairseqCheckpoint) -> bool:
    """Whether a checkpoint holds a prompt; some hold the language model as well."""
    return SEPARATOR in checkpoint.model or PREFIX in checkpoint.model


def convert(
    checkpoint: FairseqCheckpoint,
    to: Path,
    *,
    stack: Stack,
    verbalizer: Path | None = None,
    task: str = "imported",
    data: str | None = None,
) -> Converted:
    """Write the run folder `to`, for the language model of `stack`, which must be the one it was trained on.

    verbalizer: the table of labels, None for verbalizer.json beside the checkpoint; without one every unit is a label.
    task, data: what evaluation will use, see `tasks.get_task`. The run's record gives those settings of its training
    that the checkpoint states, and no others.
    Raises InputError: a prompt that does not fit the stack's language model; CheckpointError: unknown tensors.
    """
    imported = read_prompt(checkpoint, stack.lm, verbalizer=verbalizer)
    prompted = imported.prompted(stack.lm)
    record = RunRecord(
        task=task,
        data=data,
        labels=imported.labels,
        stack=stack.source,
        spec=stack.spec,
        lm_fingerprint=stack.lm_fingerprint,
        prompt=imported.config.to_dict(),
        training=training_of(checkpoint.config),
        trainable_parameters=prompted.n_trainable,
        frozen_parameters=prompted.n_frozen,
    )
    begin_run(to, record)
    save_prompt(to, prompted.trainable_state(), record)
    finish_run(to, {})
    config = imported.config
    return Converted(
        kind="prompt",
        to=to,
        dimensions={
            "prompt": config.kind,
            "length": config.length,
            "infix_length": config.infix_length,
            "verbalizer": config.verbalizer,
            "n_labels": len(imported.labels),
            "d_model": stack.lm.d_model,
        },
        n_parameters=prompted.n_trainable,
        dictionary_size=len(stack.lm.vocab),
        spec=stack.spec,
        ignored=imported.ignored,
    )


def read_prompt(
    checkpoint: FairseqCheckpoint, lm: UnitLM, *, verbalizer: Path | None = None
) -> ImportedPrompt:
    """Read the prompt of a checkpoint for `lm`. Raises: as `convert`."""
    used = UsedTensors(checkpoint.model, checkpoint.path)
    for name in used.names("decoder."):
        if not name.startswith(tuple(PROMPT_PREFIXES)):
            used.ignored(name, "the language model, which the run takes from its stack")
    state = {"separator": _separator(used, lm)}
    length, infix_length = (used.shape(name)[0] if name in used else 0 for name in (PREFIX, INFIX))
    is_deep = bool(used.names(KEY))
    if is_deep:
        for side, root in (("key", KEY), ("value", VALUE)):
            rows = [
                used.take(f"{root}.{i}.weight", (length or infix_length, lm.d_model))
                for i in range(lm.n_layers)
            ]
            state[f"prompt.{side}"] = torch.stack(rows).float()
        if length and infix_length:
            raise CheckpointError(
                f"{checkpoint.path}: expected deep prompts before the row or before <s>, got both"
            )
        used.ignored(PREFIX, "input rows beside a deep prompt: no token attends to what comes of them")
        if infix_length:
            state["prompt.infix"] = used.take(INFIX, (infix_length, lm.d_model)).float()
        else:
            used.ignored(INFIX, "it has no rows")
    else:
        state["prompt.input"] = used.take(PREFIX, (length, lm.d_model)).float()
        if infix_length:
            state["prompt.infix"] = used.take(INFIX, (infix_length, lm.d_model)).float()
        else:
            used.ignored(INFIX, "it has no rows")
    symbols = _label_symbols(checkpoint, verbalizer)
    linear = used.take(LINEAR) if LINEAR in used else None
    kind, read = "given", "logits"
    labels: tuple[str, ...]
    extra: dict[str, str] = {}
    if HIDDEN in used:
        kind, read = "learnable", "hidden"
        weight = used.take(HIDDEN)
    elif linear is not None:
        kind = "learnable"
        if linear.shape[1] != len(lm.vocab) or len(linear) <= N_SPECIALS:
            raise CheckpointError(
                f"{checkpoint.path}: expected a verbalizer of {len(lm.vocab)} logits, got {tuple(linear.shape)}; "
                "use the language model it was trained on"
            )
        weight = linear[N_SPECIALS:]
        extra[f"{LINEAR}[:{N_SPECIALS}]"] = "scores of special tokens, which no decision between labels needs"
    if kind == "learnable":
        labels = _labels_of_rows(len(weight), symbols, lm.vocab, checkpoint.path)
        state["verbalizer.weight"] = weight.float()
    else:
        pairs = symbols if symbols is not None else {str(unit): str(unit) for unit in _units(lm.vocab)}
        labels = tuple(pairs)
        state["verbalizer.ids"] = torch.from_numpy(
            lm.vocab.encode([_unit(s, checkpoint.path) for s in pairs.values()])
        )
    ignored = {**used.finish(), **extra}
    config = PromptConfig(
        kind="deep" if is_deep else "input",
        length=length,
        infix_length=infix_length,
        verbalizer=kind,
        read=read,
        n_offsets=_n_offsets(checkpoint),
    )
    return ImportedPrompt(config, state, labels, linear, ignored)


def _n_offsets(checkpoint: FairseqCheckpoint) -> int:
    """1, as SpeechPrompt hears, where our own export says nothing else."""
    n_offsets = checkpoint.task_state.get(N_OFFSETS, 1)
    return n_offsets if type(n_offsets) is int else 1


def _separator(used: UsedTensors, lm: UnitLM) -> Tensor:
    if SEPARATOR in used:
        return used.take(SEPARATOR, (1, lm.d_model))[0].float()
    with torch.no_grad():  # trained without one: `<s>` keeps the language model's embedding
        return lm.token_embedding(torch.tensor(lm.vocab.bos, device=lm.device)).float().cpu()


def _label_symbols(checkpoint: FairseqCheckpoint, table: Path | None) -> dict[str, str] | None:
    """Labels and their unit symbols in the order of the table; None where there is no table."""
    file = checkpoint.path.parent / LABELS_FILE if table is None else table
    if table is None and not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{file}: expected a table of labels and units in JSON, got {error}") from error
    if not isinstance(content, dict) or not all(isinstance(value, str | int) for value in content.values()):
        raise InputError(f"{file}: expected one unit for every label, got another table")
    return {str(label): str(symbol) for label, symbol in content.items()}


def _labels_of_rows(
    n_rows: int, symbols: Mapping[str, str] | None, vocab: UnitVocab, path: Path
) -> tuple[str, ...]:
    """Labels of a linear verbalizer's rows: row i stands for the token of id i + 4."""
    labels: list[str | None] = [None] * n_rows
    for label, symbol in (symbols or {}).items():
        row = int(vocab.encode([_unit(symbol, path)])[0]) - N_SPECIALS
        if row >= n_rows or labels[row] is not None:
            raise CheckpointError(
                f"{path}: expected labels for {n_rows} classes, got {label!r} for class {row}, which is none or taken; "
                "use the verbalizer.json of this checkpoint"
            )
        labels[row] = label
    return tuple(f"class {row}" if label is None else label for row, label in enumerate(labels))


def _unit(symbol: str, path: Path) -> int:
    if not symbol.isdecimal():
        raise InputError(
            f"{path}: expected labels that stand for units, got {symbol!r}; check verbalizer.json"
        )
    return int(symbol)


def _units(vocab: UnitVocab) -> Sequence[int]:
    units: list[int] = vocab.decode(vocab.unit_ids).tolist()
    return units
