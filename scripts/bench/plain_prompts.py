"""The released prompt tuning, written plainly: what ours is compared with, on the same weights.

Prompt rows run through the whole network, the inputs of their key and value projections are overwritten in every layer,
logits and label scores are computed at every position, and the loss is masked afterwards; float32 throughout.

Shapes: L layers, P prompt positions, B rows, T tokens, S = P + T, D model dimension, N labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechprompt.batch import Batch
from speechprompt.lm.attention import rows_at
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import DecoderLayer
from speechprompt.prompt import DeepPrompt
from speechprompt.prompted import PromptedLM
from speechprompt.verbalizer import LearnableVerbalizer


class PlainPrompts(nn.Module):
    """A deep prompt with the input rows that the release has, `<s>`, and the linear verbalizer of the logits.

    Args:
        prompted: whose values it begins with: a deep prompt and a learnable verbalizer that reads logits.
    """

    def __init__(self, prompted: PromptedLM) -> None:
        super().__init__()
        lm, prompt, verbalizer = prompted.lm, prompted.prompt, prompted.verbalizer
        assert isinstance(lm, GSLM) and isinstance(prompt, DeepPrompt)
        assert isinstance(verbalizer, LearnableVerbalizer)
        self.lm = lm
        self.key, self.value = (
            nn.Parameter(prompt.key.detach().clone()),
            nn.Parameter(prompt.value.detach().clone()),
        )
        self.input = nn.Parameter(prompt.key.detach()[0].clone())
        self.separator = nn.Parameter(prompted.separator.detach().clone())
        self.weight = nn.Parameter(verbalizer.weight.detach().clone())

    def scores(self, ids_BT: Tensor) -> Tensor:
        """Label scores of every position, (B, T, N)."""
        x_BTD = self.lm.embed(ids_BT, separator=self.separator)
        x_BSD = torch.cat([self.input.expand(len(x_BTD), -1, -1), x_BTD], dim=1)
        for index, layer in enumerate(self.lm.layers):
            assert isinstance(layer, DecoderLayer)
            x_BSD = self._layer(x_BSD, layer, index)
        hidden_BTD = self.lm.layer_norm(x_BSD)[:, len(self.input) :]
        return F.linear(self.lm.logits(hidden_BTD), self.weight)

    def _layer(self, x_BSD: Tensor, layer: DecoderLayer, index: int) -> Tensor:
        attention, y_BSD = layer.self_attn, layer.self_attn_layer_norm(x_BSD)
        n_rows, length = len(x_BSD), self.input.shape[0]
        key_in = torch.cat([self.key[index].expand(n_rows, -1, -1), y_BSD[:, length:]], dim=1)
        value_in = torch.cat([self.value[index].expand(n_rows, -1, -1), y_BSD[:, length:]], dim=1)
        query, key = attention.split(attention.q_proj(y_BSD)), attention.split(attention.k_proj(key_in))
        n = x_BSD.shape[1]
        later_SS = torch.ones(n, n, dtype=torch.bool, device=x_BSD.device).triu(1)
        weights = (query @ key.transpose(2, 3) * query.shape[-1] ** -0.5).masked_fill(later_SS, -torch.inf)
        mixed = weights.softmax(-1) @ attention.split(attention.v_proj(value_in))
        x_BSD = x_BSD + attention.out_proj(mixed.transpose(1, 2).flatten(2))
        return x_BSD + layer.fc2(layer.activation(layer.fc1(layer.final_layer_norm(x_BSD))))

    def label_logits(self, batch: Batch) -> Tensor:
        """Scores at `<s>`, (B, N)."""
        return rows_at(self.scores(batch.ids_BT), batch.lengths_B[:, None] - 1)[:, 0]

    @torch.no_grad()
    def labels_row_by_row(self, batch: Batch) -> Tensor:
        """The likeliest labels (B,) as the release finds them (SpeechPrompt v2, `fairseq_cli/sample.py`).

        Behind a linear verbalizer it takes rows one at a time and reads each anew for every token of the answer: for
        the label, and, with the label behind it, for the end.
        """
        rows = zip(batch.ids_BT, batch.lengths_B, strict=True)
        return torch.cat([self._written(ids_T[:length]) for ids_T, length in rows])

    def _written(self, ids_T: Tensor) -> Tensor:
        label_1 = self.scores(ids_T[None])[0, -1:].argmax(1)
        self.scores(torch.cat([ids_T, label_1])[None])[0, -1:].argmax(
            1
        )  # the end, which is not part of the label
        return label_1

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross entropy of the labels: of every position, then masked."""
        scores_BTN = self.scores(batch.ids_BT)
        at_separator_BT = batch.ids_BT.eq(self.lm.vocab.bos)
        target_BT = batch.labels_B[:, None].expand_as(batch.ids_BT)
        loss_BT = F.cross_entropy(scores_BTN.transpose(1, 2), target_BT, reduction="none")
        return (loss_BT * at_separator_BT).sum() / at_separator_BT.sum()
