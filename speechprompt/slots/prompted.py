"""Prompted language models that classify slot by slot, with scores for every label of the task.

Shapes: B rows, T tokens, K slots, C values of all slots, N labels, P beginnings of labels, D model dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from speechprompt.batch import Batch
from speechprompt.lm.base import UnitLM
from speechprompt.prompt import Prompt
from speechprompt.prompt_config import PromptConfig
from speechprompt.prompted import PromptedLM, first_parts
from speechprompt.reading import reading, with_separators
from speechprompt.sequence.feedback import Feedback
from speechprompt.sequence.past import Past
from speechprompt.slots.values import SlotValues
from speechprompt.verbalizer import TokenVerbalizer, Verbalizer, make_verbalizer
from units.errors import InputError

_TOKENS_AT_ONCE = 16384  # positions that the past of all beginnings of the labels may fill


class PromptedSlots(PromptedLM):
    """What both ways share: a verbalizer of all slots' values, and labels as choices of one value for each slot.

    Args: see PromptedLM; `slots`: the task's values, which the verbalizer's classes follow.
    """

    choice_NK: Tensor

    def __init__(
        self,
        lm: UnitLM,
        prompt: Prompt,
        separator: Tensor,
        verbalizer: Verbalizer,
        slots: SlotValues,
        *,
        length_normalization: bool = False,
    ) -> None:
        super().__init__(lm, prompt, separator, verbalizer, length_normalization=length_normalization)
        self.slots = slots
        self.register_buffer("choice_NK", torch.from_numpy(slots.choice_NK), persistent=False)

    @property
    def n_labels(self) -> int:
        """Labels that are scored: the combinations of values that the task has."""
        return len(self.choice_NK)

    @property
    def max_tokens(self) -> int:
        """Most tokens of a batch's row, its one `<s>` included: the other slots need positions too."""
        return self.lm.max_positions - (self.slots.n_slots - 1)

    def value_log_probs(self, hidden: Tensor, slot: int) -> Tensor:
        """Hidden states (..., D) where slot `slot` is read to log probabilities of its own values (..., n) float32."""
        return self.class_logits(hidden).split(self.slots.sizes, dim=-1)[slot].log_softmax(-1)

    def hidden_at_slots(self, batch: Batch, separators: Tensor) -> Tensor:
        """Final hidden states (B, K, D) at a `<s>` for each slot, in one pass.

        separators: what stands there, (K, D), or (B, K, D) for vectors that differ from row to row.
        """
        n_slots = self.slots.n_slots
        ids_BT, slot_BT = with_separators(batch.ids_BT, batch.lengths_B, n_slots, self.lm.vocab)
        vector_BKD = separators.float().expand(len(ids_BT), n_slots, -1)
        vector_BTD = vector_BKD.gather(1, slot_BT[:, :, None].expand(-1, -1, vector_BKD.shape[2]))
        x_BSD, prefix, column_BT = self._inputs(ids_BT, vector_BTD, batch.prosody_BT2)
        read_BK, _ = reading("separator", column_BT, batch.lengths_B, n_slots)
        return self.lm(x_BSD, prefix=prefix, read_positions=read_BK)


class ParallelSlots(PromptedSlots):
    """Reads every slot at a separator of its own, `</s> units <s1> .. <sK>`, in one pass.

    No slot hears what the others say: a label's score is the sum of its values' log probabilities, and training sees
    these sums among the labels of the task only, so that impossible combinations cost nothing.

    Args: see PromptedSlots; separator: (K, D).
    """

    def label_logits(self, batch: Batch) -> Tensor:
        """Summed log probabilities of each label's values: (B, N) float32."""
        hidden_BKD = self.hidden_at_slots(batch, self.separator)
        score_BC = torch.cat(
            [self.value_log_probs(hidden_BKD[:, slot], slot) for slot in range(self.slots.n_slots)], dim=1
        )
        return score_BC[:, self.choice_NK].sum(2)


class SequentialSlots(PromptedSlots):
    """Says one value after the other, as published: each is read after the ones before it have been read back.

    In training the true values are read back. A label's score is the log probability of its values in a row.

    Source: SpeechPrompt's journal version (Chang et al. 2024), with decoding kept to the values of each slot.

    Args: see PromptedSlots; separator: (D,).
    """

    def __init__(
        self,
        lm: UnitLM,
        prompt: Prompt,
        separator: Tensor,
        verbalizer: Verbalizer,
        slots: SlotValues,
        *,
        length_normalization: bool = False,
    ) -> None:
        super().__init__(lm, prompt, separator, verbalizer, slots, length_normalization=length_normalization)
        self.feedback = Feedback(lm)

    def forward(self, batch: Batch) -> Tensor:
        """Log probabilities of each slot's values after the true ones before it: (B, C) float32, slot after slot."""
        vector_CD, n_slots = self.feedback(self.verbalizer, self.lm), self.slots.n_slots
        said_BK = self.choice_NK[batch.labels_B]
        separator_B1D = self.separator.expand(len(batch), 1, -1)
        hidden_BKD = self.hidden_at_slots(
            batch, torch.cat([separator_B1D, vector_CD[said_BK[:, :-1]]], dim=1)
        )
        return torch.cat([self.value_log_probs(hidden_BKD[:, slot], slot) for slot in range(n_slots)], dim=1)

    @torch.no_grad()
    def label_logits(self, batch: Batch) -> Tensor:
        """Log probability of every label: (B, N) float32; no gradients. Beginnings that labels share are read once."""
        widest = len(self.slots.beginnings(self.slots.n_slots - 1)[0])
        at_once = max(1, _TOKENS_AT_ONCE // (widest * (batch.ids_BT.shape[1] + self.slots.n_slots)))
        units = [
            self.lm.vocab.decode(ids_T[1 : length - 1])
            for ids_T, length in zip(batch.ids_BT.cpu().numpy(), batch.lengths_B.tolist(), strict=True)
        ]
        parts = [self._scores(units[start : start + at_once]) for start in range(0, len(units), at_once)]
        return torch.cat(parts)

    def _scores(self, units: Sequence[np.ndarray]) -> Tensor:
        vector_CD, n_rows = self.feedback(self.verbalizer, self.lm), len(units)
        device = vector_CD.device
        past = Past(self, units, self.separator, self.slots.n_slots - 1)
        first = np.cumsum([0, *self.slots.sizes])
        score_BN = torch.zeros(n_rows, self.n_labels, device=device)
        n_beginnings, beginning_N = 1, np.zeros(self.n_labels, dtype=np.int64)
        for slot in range(self.slots.n_slots):
            log_prob_BPn = self.value_log_probs(past.hidden_ND, slot).view(n_rows, n_beginnings, -1)
            value_N = self.slots.choice_NK[:, slot] - first[slot]
            score_BN += log_prob_BPn[:, torch.from_numpy(beginning_N), torch.from_numpy(value_N)]
            if slot + 1 < self.slots.n_slots:  # say the value, for every beginning that labels have in common
                longer, which_N = self.slots.beginnings(slot + 1)
                parent_P = np.zeros(len(longer), dtype=np.int64)
                parent_P[which_N] = beginning_N
                row_B1 = np.arange(n_rows)[:, None] * n_beginnings
                past.reorder(torch.from_numpy((row_B1 + parent_P).reshape(-1)).to(device))
                said_P = torch.from_numpy(longer[:, slot]).to(device)
                past.say(vector_CD[said_P].repeat(n_rows, 1))
                n_beginnings, beginning_N = len(longer), which_N
        return score_BN


def slots_of(lm: UnitLM, labels: Sequence[str], config: PromptConfig) -> SlotValues:
    """The slots that `config.slots` reads of labels.

    Raises: InputError for labels without slots, or, said one after the other, for a language model that reads prosody:
    its cached past holds units alone.
    """
    if config.slots == "sequential" and lm.reads_prosody:
        raise InputError(
            f"slots: expected joint or parallel for {lm.family}, which reads durations and F0, got sequential; choose "
            "one of these"
        )
    return SlotValues.from_labels(labels)


def build_slots(
    lm: UnitLM, labels: Sequence[str], config: PromptConfig, *, unit_counts: np.ndarray | None = None
) -> PromptedSlots:
    """A new classifier slot by slot before training, as `config.slots` says; freezes `lm`.

    Args: as `build_prompted`, with the task's labels, whose values take the verbalizer's classes in order.
    Raises: InputError for options that do not fit, or as `slots_of`.
    """
    slots = slots_of(lm, labels, config)
    verbalizer = make_verbalizer(
        config.verbalizer,
        slots.n_values,
        lm,
        read=config.read,
        dropout=config.verbalizer_dropout,
        seed=config.seed,
        unit_counts=unit_counts,
    )
    return _assemble(lm, config, verbalizer, slots, unit_counts)


def restore_slots(
    lm: UnitLM, labels: Sequence[str], config: PromptConfig, state: Mapping[str, Tensor]
) -> PromptedSlots:
    """A trained classifier from `trainable_state`, in evaluation mode; freezes `lm`. Raises: InputError."""
    slots = slots_of(lm, labels, config)
    if config.verbalizer != "learnable" and "verbalizer.ids" in state:
        verbalizer: Verbalizer = TokenVerbalizer(state["verbalizer.ids"])
    else:
        verbalizer = make_verbalizer(config.verbalizer, slots.n_values, lm, read=config.read)
    config = replace(config, init="units")  # any values: they are read next
    prompted = _assemble(lm, config, verbalizer, slots)
    prompted.load_trainable_state(state)
    prompted.eval()
    return prompted


def _assemble(
    lm: UnitLM,
    config: PromptConfig,
    verbalizer: Verbalizer,
    slots: SlotValues,
    unit_counts: np.ndarray | None = None,
) -> PromptedSlots:
    prompt, separator = first_parts(lm, config, unit_counts)
    kind: type[PromptedSlots] = SequentialSlots
    if config.slots == "parallel":
        kind = ParallelSlots
        ids = np.random.default_rng((config.seed, 2)).choice(lm.vocab.unit_ids, size=slots.n_slots - 1)
        with torch.no_grad():
            further_KD = lm.token_embedding(torch.from_numpy(ids).to(lm.device))
        separator = torch.cat([separator[None], further_KD])
    prompted = kind(
        lm, prompt, separator, verbalizer, slots, length_normalization=config.length_normalization
    )
    prompted.to(lm.device)
    return prompted
