"""Rows of many tasks in one forward pass, each behind its own run's prompt.

Shapes: B rows of a batch, T tokens, N separators, D model dimension, C labels of a run, V views of a recording.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from speechprompt.batch import BucketedBatches, LabelledUnits, bucket, collate
from speechprompt.evaluation import top_labels, top_texts
from speechprompt.label_logits import label_logits
from speechprompt.lm.row_prefixes import row_prefixes
from speechprompt.read_rows import unit_numbers
from speechprompt.reading import reading, with_separators
from speechprompt.serve.runs import ServedRun
from speechprompt.views import mean_over_views

Top = tuple[tuple[str, float], ...]
# Whose prompt, and for every view of the recording a row as the language model reads it, see `read_rows`.
Row = tuple[ServedRun, Sequence[np.ndarray]]
_Reading = tuple[ServedRun, np.ndarray]  # a row in one view, cut to what the run reads


def most_units(served: ServedRun) -> int:
    """Units of a row that a run reads; what comes after them is cut off, as `predict` does."""
    return served.run.prompted.max_tokens - 2


def answer_rows(rows: Sequence[Row], *, batch_tokens: int) -> list[Top]:
    """What each run says about its row: labels (or one text) with probabilities, likeliest first, as `predict` says it.

    Rows of different runs share passes of at most `batch_tokens` tokens, padding counted. Runs that pool over all
    tokens, put vectors between them, or decode, have passes of their own.
    Raises: InputError for a row without units, or with ones that the language model does not know.
    """
    said = [i for i, (served, _) in enumerate(rows) if served.run.record.symbols]
    tops: dict[int, Top] = {i: top_texts(rows[i][0].run, [unit_numbers(rows[i][1][0])])[0] for i in said}
    labelled = [i for i in range(len(rows)) if i not in tops]
    readings: list[_Reading] = [
        (rows[i][0], units[: most_units(rows[i][0])]) for i in labelled for units in rows[i][1]
    ]
    logits = iter(_logits(readings, batch_tokens))
    for i in labelled:
        served, views = rows[i]
        logits_VC = torch.stack([next(logits) for _ in views])
        [log_p_C] = mean_over_views(logits_VC, len(views))
        tops[i] = top_labels(served.run.record.labels, log_p_C.exp().numpy())
    return [tops[i] for i in range(len(rows))]


def _logits(readings: Sequence[_Reading], batch_tokens: int) -> list[Tensor]:
    """Label scores (C,) float32 of every reading, on the CPU."""
    logits: list[Tensor] = [torch.empty(0)] * len(readings)
    groups: dict[ServedRun | int, list[int]] = {}  # a run of its own, or those with so many separators
    for place, (served, _) in enumerate(readings):
        groups.setdefault(len(served.separators_ND) if served.shares else served, []).append(place)
    for key, places in groups.items():
        lengths = np.array([len(readings[i][1]) + 1 for i in places], dtype=np.int64)
        lengths += key if isinstance(key, int) else 1
        order = np.argsort(lengths, kind="stable")
        parts = [np.array(places)[order[part]].tolist() for part in bucket(lengths[order], batch_tokens)]
        for part in parts:
            batch = [readings[i] for i in part]
            for i, logits_C in zip(
                part, _shared_logits(batch) if isinstance(key, int) else _own_logits(batch), strict=True
            ):
                logits[i] = logits_C
    return logits


def _own_logits(readings: Sequence[_Reading]) -> Sequence[Tensor]:
    prompted = readings[0][0].run.prompted
    rows = [LabelledUnits(units) for _, units in readings]
    longest = prompted.max_tokens
    return list(
        label_logits(
            prompted, BucketedBatches(rows, prompted.lm.vocab, batch_tokens=longest, max_positions=longest)
        )
    )


@torch.no_grad()
def _shared_logits(readings: Sequence[_Reading]) -> list[Tensor]:
    """One forward pass of the language model; then every run's own verbalizer."""
    lm = readings[0][0].run.prompted.lm
    batch = collate([LabelledUnits(units) for _, units in readings], np.arange(len(readings)), lm.vocab)
    batch = batch.to(lm.device)
    n_separators = len(readings[0][0].separators_ND)
    ids_BT, place_BT = with_separators(batch.ids_BT, batch.lengths_B, n_separators, lm.vocab)
    x_BTD = lm.embed_rows(ids_BT, batch.prosody_BT2, separator=_separators(readings, place_BT))
    column_BT = torch.arange(ids_BT.shape[1], device=lm.device).expand(len(readings), -1)
    read_BR, weight_BR = reading("separator", column_BT, batch.lengths_B, n_separators)
    prefix = row_prefixes([served.prefix for served, _ in readings])
    hidden_BRD = lm(x_BTD, prefix=prefix, read_positions=read_BR)
    read_BD = (hidden_BRD.float() * weight_BR[:, :, None]).sum(1)
    places_of: dict[ServedRun, list[int]] = {}
    for place, (served, _) in enumerate(readings):
        places_of.setdefault(served, []).append(place)
    scores = [
        served.run.prompted.class_logits(read_BD[places]).float().flatten()
        for served, places in places_of.items()
    ]
    flat = torch.cat(scores).cpu()  # one transfer, however many runs
    logits: list[Tensor] = [torch.empty(0)] * len(readings)
    for served, places in places_of.items():
        mine, flat = flat.split([n := len(places) * len(served.run.record.labels), len(flat) - n])
        for place, logits_C in zip(places, mine.unflatten(0, (len(places), -1)), strict=True):
            logits[place] = logits_C
    return logits


def _separators(readings: Sequence[_Reading], place_BT: Tensor) -> Tensor:
    """What stands at each row's `<s>`: (D,) where all rows are of one run with one of them, else (B, T, D)."""
    first = readings[0][0]
    if len(first.separators_ND) == 1 and all(served is first for served, _ in readings):
        return first.separators_ND[0]
    separators_BND = torch.stack([served.separators_ND for served, _ in readings])
    if separators_BND.shape[1] == 1:
        return separators_BND.expand(-1, place_BT.shape[1], -1)
    return separators_BND.gather(1, place_BT[:, :, None].expand(-1, -1, separators_BND.shape[-1]))
