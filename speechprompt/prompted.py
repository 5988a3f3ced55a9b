"""A unit language model with a prompt, separators and a verbalizer: the classifier that is trained.

Shapes: B rows, T tokens, R positions read, P prompt positions, D model dimension, N labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.batch import Batch
from speechprompt.infix import infix_visible, insert_rows, tokens_before_separator
from speechprompt.lm.base import UnitLM
from speechprompt.lm.cache import Prefix
from speechprompt.prompt import Prompt, make_prompt
from speechprompt.prompt_config import PromptConfig
from speechprompt.reading import reading, with_separators
from speechprompt.steered import Steered
from speechprompt.verbalizer import TokenVerbalizer, Verbalizer, make_verbalizer


class PromptedLM(Steered):
    """Classifies rows `</s> u1 .. un <s>` by what the prompted language model predicts at `<s>`.

    The language model is frozen here (no gradients) and stays in evaluation mode whatever `train()` says, unless the
    caller lets some of its weights train afterwards (LoRA, fine-tuning), which must then be a copy of its own. Its
    prefix is computed from the prompt in every call and kept nowhere.

    Args:
        lm: the language model, shared and never changed in value.
        prompt: see speechprompt.prompt.
        separator: (D,) first value of the trained embedding of `<s>`.
        verbalizer: see speechprompt.verbalizer.
        further_separators: (R - 1, D) first values of the embeddings of further `<s>` behind the first; None for none.
        pool, length_normalization: see PromptConfig.
    """

    lm: UnitLM

    def __init__(
        self,
        lm: UnitLM,
        prompt: Prompt,
        separator: Tensor,
        verbalizer: Verbalizer,
        *,
        further_separators: Tensor | None = None,
        pool: str = "separator",
        length_normalization: bool = False,
    ) -> None:
        super().__init__()
        self.lm = lm.freeze()
        self.prompt = prompt
        self.separator = nn.Parameter(separator.detach().float().clone())
        self.further_separators: nn.Parameter | None = None
        if further_separators is not None:
            self.further_separators = nn.Parameter(further_separators.detach().float().clone())
        self.verbalizer = verbalizer
        self.pool, self.length_normalization = pool, length_normalization

    @property
    def n_labels(self) -> int:
        """Labels that `label_logits` scores."""
        return self.verbalizer.n_labels

    @property
    def n_separators(self) -> int:
        """How many `<s>` end a row."""
        return 1 if self.further_separators is None else 1 + len(self.further_separators)

    @property
    def separators(self) -> Tensor:
        """What stands at each `<s>`: (n_separators, D)."""
        first_1D = self.separator[None]
        return first_1D if self.further_separators is None else torch.cat([first_1D, self.further_separators])

    @property
    def max_tokens(self) -> int:
        """Most tokens of a batch's row, its one `<s>` included."""
        return self.lm.max_positions - (self.n_separators - 1)

    def label_logits(self, batch: Batch) -> Tensor:
        """One score per label: (B, N) float32. The last layer and the output run where labels are read only."""
        ids_BT, separator, n = batch.ids_BT, None, self.n_separators
        if self.further_separators is not None:
            ids_BT, place_BT = with_separators(ids_BT, batch.lengths_B, n, self.lm.vocab)
            separator = self.separators[place_BT]
        x_BSD, prefix, column_BT = self._inputs(ids_BT, separator, batch.prosody_BT2)
        read_BR, weight_BR = reading(self.pool, column_BT, batch.lengths_B, n)
        hidden_BRD = self.lm(x_BSD, prefix=prefix, read_positions=read_BR)
        return self.class_logits((hidden_BRD.float() * weight_BR[:, :, None]).sum(1))

    def class_logits(self, read: Tensor) -> Tensor:
        """What is read of the final hidden states (..., D) to the verbalizer's scores (..., N), float32."""
        # The last step decides between classes: bfloat16 would tie close ones.
        with torch.autocast(read.device.type, enabled=False):
            read = read.float()
            if self.length_normalization:
                read = F.normalize(read, dim=-1) * read.shape[-1] ** 0.5
            logits: Tensor = self.verbalizer(read, self.lm)
        return logits

    def hidden(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Final hidden states (B, S, D) of all positions, prompt rows included, and the column (B, T) of each token.

        ids_BT: rows, int64, padded on the right. Beside a row without `<s>` an infix prompt stays unseen.
        """
        x_BSD, prefix, column_BT = self._inputs(ids_BT)
        return self.lm(x_BSD, prefix=prefix), column_BT

    def _inputs(
        self, ids_BT: Tensor, separator: Tensor | None = None, prosody_BT2: Tensor | None = None
    ) -> tuple[Tensor, Prefix | None, Tensor]:
        """Embedded rows with the prompt's rows put in, the prompt's prefix, and where each token then stands.

        separator: what stands at `<s>`, (D,) or one vector for each token (B, T, D); None for the trained one.
        prosody_BT2: see Batch.
        """
        separator = self.separator if separator is None else separator
        x_BSD = self.lm.embed_rows(ids_BT, prosody_BT2, separator=separator)
        column_BT = torch.arange(ids_BT.shape[1], device=x_BSD.device).expand(len(x_BSD), -1)
        prefix, rows_PD, infix_PD = self.prompt.prefix(self.lm), self.prompt.rows(), self.prompt.infix_rows()
        if infix_PD is not None:
            before_B = tokens_before_separator(ids_BT, self.lm.vocab.bos)
            x_BSD = insert_rows(x_BSD, infix_PD.to(x_BSD.dtype), before_B)
            column_BT = column_BT + len(infix_PD) * (column_BT >= before_B[:, None])
            if prefix is not None:
                prefix = replace(prefix, visible_BTS=infix_visible(before_B, len(infix_PD), x_BSD.shape[1]))
        if rows_PD is not None:
            x_BSD = torch.cat([rows_PD.to(x_BSD.dtype).expand(len(x_BSD), -1, -1), x_BSD], dim=1)
            column_BT = column_BT + len(rows_PD)
        return x_BSD, prefix, column_BT

    def forward(self, batch: Batch) -> Tensor:
        """The same as `label_logits`, under the name that wrappers for several devices know."""
        return self.label_logits(batch)

    def loss(self, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross entropy of the batch's labels, in nats."""
        return F.cross_entropy(self(batch), batch.labels_B, label_smoothing=label_smoothing)


def build_prompted(
    lm: UnitLM, n_labels: int, config: PromptConfig, *, unit_counts: np.ndarray | None = None
) -> PromptedLM:
    """A new classifier before training; freezes `lm`.

    The separator starts as the embedding of a random unit.

    Args:
        lm: the language model.
        n_labels: number of classes.
        config: what to train.
        unit_counts: how often each unit number occurs in training, (n_units,), for verbalizer "frequency" and init
            "frequent".
    Raises: InputError for options that do not fit.
    """
    verbalizer = make_verbalizer(
        config.verbalizer,
        n_labels,
        lm,
        read=config.read,
        dropout=config.verbalizer_dropout,
        seed=config.seed,
        unit_counts=unit_counts,
    )
    return _assemble(lm, config, verbalizer, unit_counts)


def restore_prompted(
    lm: UnitLM, n_labels: int, config: PromptConfig, state: Mapping[str, Tensor]
) -> PromptedLM:
    """A trained classifier from `trainable_state`, in evaluation mode; freezes `lm`. Raises: InputError."""
    if config.verbalizer != "learnable" and "verbalizer.ids" in state:
        verbalizer: Verbalizer = TokenVerbalizer(state["verbalizer.ids"])
    else:
        verbalizer = make_verbalizer(config.verbalizer, n_labels, lm, read=config.read)
    prompted = _assemble(lm, replace(config, init="units"), verbalizer)  # any values: they are read next
    prompted.load_trainable_state(state)
    return prompted.eval()


def _assemble(
    lm: UnitLM, config: PromptConfig, verbalizer: Verbalizer, unit_counts: np.ndarray | None = None
) -> PromptedLM:
    prompt, separator = first_parts(lm, config, unit_counts)
    ids = np.random.default_rng((config.seed, 2)).choice(lm.vocab.unit_ids, size=config.n_separators - 1)
    with torch.no_grad():
        further_separators = lm.token_embedding(torch.from_numpy(ids).to(lm.device))
    return PromptedLM(
        lm,
        prompt,
        separator,
        verbalizer,
        further_separators=further_separators if len(ids) else None,
        pool=config.pool,
        length_normalization=config.length_normalization,
    ).to(lm.device)


def first_parts(
    lm: UnitLM, config: PromptConfig, unit_counts: np.ndarray | None = None
) -> tuple[Prompt, Tensor]:
    """A new prompt, and the first value (D,) of the separator: the embedding of a random unit."""
    prompt = make_prompt(
        config.kind,
        config.length,
        lm,
        infix_length=config.infix_length,
        seed=config.seed,
        dropout=config.dropout,
        init=config.init,
        unit_counts=unit_counts,
    )
    unit_id = np.random.default_rng((config.seed, 1)).choice(lm.vocab.unit_ids)
    with torch.no_grad():
        return prompt, lm.token_embedding(torch.tensor(unit_id, device=lm.device))
