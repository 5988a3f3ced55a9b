"""Our GSLM's weights in transformers' OPT, which has the same layers: a peer of generation and, with peft, of prompts.

OPT learns its positions and ours are fixed, so the fixed ones become its table; embeddings are scaled beforehand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechprompt.batch import Batch
from speechprompt.lm.attention import rows_at
from speechprompt.lm.gslm import GSLM
from speechprompt.prompted import PromptedLM

_OFFSET = 2  # OPT's first token stands at this row of its table


def as_opt(lm: GSLM, *, n_virtual: int = 0) -> Any:
    """Make an OPTForCausalLM that gives the logits of `lm`.

    Args:
        lm: pre-norm, with sinusoidal positions.
        n_virtual: prefix positions that peft will count before the first token.
    """
    from transformers import OPTConfig, OPTForCausalLM

    config, vocab = lm.config, lm.vocab
    with torch.random.fork_rng():
        opt: Any = OPTForCausalLM(
            OPTConfig(
                vocab_size=len(vocab),
                hidden_size=config.d_model,
                num_hidden_layers=config.n_layers,
                ffn_dim=config.d_ffn,
                num_attention_heads=config.n_heads,
                max_position_embeddings=config.max_positions + n_virtual,
                word_embed_proj_dim=config.d_model,
                dropout=0.0,
                pad_token_id=vocab.pad,
                bos_token_id=vocab.bos,
                eos_token_id=vocab.eos,
                tie_word_embeddings=False,
            )
        )
    theirs = opt.model.decoder
    with torch.no_grad():
        theirs.layers.load_state_dict(lm.layers.state_dict())
        theirs.final_layer_norm.load_state_dict(lm.layer_norm.state_dict())
        theirs.embed_tokens.weight.copy_(lm.embed_tokens.weight * lm.embed_scale)
        opt.lm_head.weight.copy_(lm.embed_tokens.weight)
        ours_ND = lm.fixed_positions_ND[vocab.pad + 1 :]
        theirs.embed_positions.weight[_OFFSET + n_virtual :][: len(ours_ND)] = ours_ND
    return opt.to(lm.device).requires_grad_(False).eval()


def opt_generate(opt: Any, lm: GSLM, seeds: list[np.ndarray], n_units: int) -> Tensor:
    """Continue rows of equal length greedily by transformers' `generate`: unit numbers (B, n_units).

    Args:
        opt: of `as_opt`.
        lm: whose vocabulary it has.
        seeds: unit numbers of each row.
        n_units: how many more.
    """
    vocab = lm.vocab
    rows = np.stack([np.concatenate([[vocab.eos], vocab.encode(row)]) for row in seeds])
    specials = sorted(set(range(len(vocab))) - set(vocab.unit_ids.tolist()))
    with torch.no_grad():
        ids = opt.generate(
            torch.from_numpy(rows).to(lm.device),
            attention_mask=torch.ones(rows.shape, dtype=torch.long, device=lm.device),
            max_new_tokens=n_units,
            do_sample=False,
            suppress_tokens=specials,
        )
    return torch.from_numpy(vocab.decode(ids[:, rows.shape[1] :].cpu().numpy()))


class PeftPrompts:
    """peft's prefix tuning on `as_opt`, with labels as tokens of the vocabulary.

    Args:
        prompted: a deep prompt and a verbalizer of tokens, whose values it begins with.
    """

    def __init__(self, prompted: PromptedLM) -> None:
        from peft import PrefixTuningConfig, TaskType, get_peft_model

        lm, ids = prompted.lm, prompted.verbalizer.ids
        assert isinstance(lm, GSLM) and isinstance(ids, Tensor)
        self.vocab, self.label_ids = lm.vocab, ids
        with torch.no_grad():
            prefix = prompted.prompt.prefix(lm)
        assert prefix is not None
        length = prefix.length
        opt = as_opt(lm, n_virtual=length)
        with torch.no_grad():  # the separator is no trained row here
            position = opt.model.decoder.embed_tokens.weight
            position[lm.vocab.bos] = prompted.separator * lm.embed_scale
        config = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=length)
        self.model: Any = get_peft_model(opt, config).to(lm.device)
        sides = torch.stack([prefix.key_LBHPE[:, 0], prefix.value_LBHPE[:, 0]], dim=1)  # (L, 2, H, P, E)
        encoders: Any = self.model.prompt_encoder
        [encoder] = encoders.values()
        with torch.no_grad():
            encoder.embedding.weight.copy_(sides.permute(3, 0, 1, 2, 4).reshape(length, -1))

    def logits(self, batch: Batch) -> Tensor:
        """Logits of all positions."""
        mask = batch.ids_BT.ne(self.vocab.pad).long()
        out: Tensor = self.model(input_ids=batch.ids_BT, attention_mask=mask).logits
        return out[:, -batch.ids_BT.shape[1] :]

    def label_logits(self, batch: Batch) -> Tensor:
        """Of the labels' tokens at `<s>`, (B, N)."""
        return rows_at(self.logits(batch), batch.lengths_B[:, None] - 1)[:, 0, self.label_ids]

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross entropy of the labels' tokens among all tokens, as `labels=` of transformers computes it."""
        at_separator_BT = batch.ids_BT.eq(self.vocab.bos)
        token_B = self.label_ids[batch.labels_B]
        target_BT = torch.where(at_separator_BT, token_B[:, None], -100)
        return torch.nn.functional.cross_entropy(self.logits(batch).transpose(1, 2), target_BT)
