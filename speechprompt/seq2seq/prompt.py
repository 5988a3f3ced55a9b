"""The trained vectors that steer a frozen encoder-decoder.

Shapes: L layers of a side, P prompt positions, D model dimension, B rows, T tokens.

Source: Wu et al. 2023, "SpeechGen: Unlocking the Generative Power of Speech Language Models with Prompts", whose code
was not published. Vectors act as in `speechprompt.prompt`. Rows stand beside them, as positions of their own that run
through the layers, so that none of the weights is without effect; the decoder looks at what the encoder makes of its
rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from speechprompt.lm.attention import projected
from speechprompt.lm.cache import Prefix
from speechprompt.lm.encoder_decoder import Memory, Side
from speechprompt.lm.unit_mbart import UnitMBart
from speechprompt.seq2seq.config import Seq2SeqPromptConfig
from speechprompt.seq2seq.rows import decoder_start, source_row
from units.errors import InputError


@dataclass(frozen=True, eq=False)
class SideValues:
    """First values of one side. key_value_LPD: of every layer. rows_PD: at the embedding."""

    key_value_LPD: Tensor
    rows_PD: Tensor


class SidePrompt(nn.Module):
    """The prompt of the encoder, or of the decoder.

    Args:
        values: first values.
        deep: whether there are vectors at every layer beside the rows.
        dropout: on all of them, in training.
    """

    def __init__(self, values: SideValues, *, deep: bool, dropout: float) -> None:
        super().__init__()
        self.key = nn.Parameter(values.key_value_LPD.detach().clone()) if deep else None
        self.value = nn.Parameter(values.key_value_LPD.detach().clone()) if deep else None
        self.input = nn.Parameter(values.rows_PD.detach().clone())
        self.dropout = nn.Dropout(dropout)

    def prefix(self, side: Side) -> Prefix | None:
        """Keys and values of every self-attention, computed anew in each call; None without deep vectors."""
        if self.key is None or self.value is None:
            return None
        return side.prefix(self.dropout(self.key), self.dropout(self.value))

    def rows(self) -> Tensor:
        """Rows (P, D) before the embedded tokens."""
        rows_PD: Tensor = self.dropout(self.input)
        return rows_PD


class CrossPrompt(nn.Module):
    """Vectors at every attention from decoder to encoder, beside the encoder's output.

    Args:
        vectors_LPD: first values. dropout: in training.
    """

    def __init__(self, vectors_LPD: Tensor, *, dropout: float) -> None:
        super().__init__()
        self.key = nn.Parameter(vectors_LPD.detach().clone())
        self.value = nn.Parameter(vectors_LPD.detach().clone())
        self.dropout = nn.Dropout(dropout)

    def before(self, memory: Memory, lm: UnitMBart) -> Memory:
        """The memory with these vectors' keys and values before its own."""
        return memory.behind(
            projected(lm.cross_attentions(), self.dropout(self.key), self.dropout(self.value))
        )


@torch.no_grad()
def make_prompt(lm: UnitMBart, config: Seq2SeqPromptConfig) -> nn.ModuleDict:
    """A prompt that starts as what the model makes of `length` masks, or random units.

    lm: in evaluation mode; not changed. Returns: `encoder`, `decoder` (SidePrompt), and `cross` where it is asked for;
    nothing of kind "none". Raises: InputError for a length that the model cannot read.
    """
    if config.kind == "none":
        return nn.ModuleDict()
    longest = min(lm.config.encoder.max_positions, lm.config.decoder.max_positions) - 3
    if config.length > longest:
        raise InputError(
            f"prompt length: expected 1 to {longest}, got {config.length}; choose a shorter prompt"
        )
    tokens = np.full(config.length, lm.vocab.mask)
    if config.init == "units":
        tokens = np.random.default_rng(config.seed).choice(lm.vocab.unit_ids, size=config.length)
    source_BS = torch.from_numpy(source_row(tokens, lm.vocab, config.language))[None].to(lm.device)
    start = [*decoder_start(lm.vocab, config.language), *tokens.tolist()]
    states: dict[str, list[Tensor]] = {"encoder": [], "decoder": []}
    memory = lm.encode(source_BS, states=states["encoder"])
    lm.decode(torch.tensor([start], device=lm.device), memory, states=states["decoder"])
    first = {"encoder": 1, "decoder": len(start) - config.length}
    prompt = nn.ModuleDict()
    for name, side in (("encoder", lm.encoder), ("decoder", lm.decoder)):
        inputs = [layer.attention_input(x) for layer, x in zip(side.blocks(), states[name][:-1], strict=True)]
        place = slice(first[name], first[name] + config.length)
        values = SideValues(torch.stack(inputs)[:, 0, place], states[name][0][0, place])
        prompt[name] = SidePrompt(values, deep=config.kind == "deep", dropout=config.dropout)
    if config.cross_attention:
        heard_PD = memory.hidden_BSD[0, 1 : config.length + 1]
        vectors_LPD = heard_PD.expand(len(lm.cross_attentions()), -1, -1)
        prompt["cross"] = CrossPrompt(vectors_LPD, dropout=config.dropout)
    return prompt
