"""fairseq's transformers computed anew in the plainest way from tensors under fairseq's names, for comparison.

One row at a time, in float64; nothing of the package is used. Source: fairseq's `TransformerDecoder`,
`TransformerEncoder`, `SinusoidalPositionalEmbedding`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_accurate": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu_squared": lambda x: x.clamp(min=0) ** 2,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}


class Plain:
    """One side of a model: `decoder` or `encoder`.

    tensors: under fairseq's names. options: fairseq's, as saved.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], side: str, options: Mapping[str, Any], pad: int = 1
    ) -> None:
        self.tensors = {name: tensor.double() for name, tensor in tensors.items()}
        self.side, self.options, self.pad = side, options, pad
        self.before = options.get(f"{side}_normalize_before", True)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.tensors[f"{self.side}.{name}.weight"].T + self.tensors[f"{self.side}.{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        root = f"{self.side}.{name}"
        return (x - mean) / (variance + 1e-5).sqrt() * self.tensors[f"{root}.weight"] + self.tensors[
            f"{root}.bias"
        ]

    def positions(self, n_tokens: int) -> Tensor:
        places = torch.arange(n_tokens) + self.pad + 1
        if f"{self.side}.embed_positions.weight" in self.tensors:
            return self.tensors[f"{self.side}.embed_positions.weight"][places]
        width = self.tensors[f"{self.side}.embed_tokens.weight"].shape[1]
        if self.options.get("no_token_positional_embeddings"):
            return torch.zeros(n_tokens, width, dtype=torch.float64)
        rate = [10_000 ** (-i / (width // 2 - 1)) for i in range(width // 2)]
        angles = places[:, None].double() * torch.tensor(rate, dtype=torch.float64)
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def embed(self, ids: Tensor) -> Tensor:
        table = self.tensors[f"{self.side}.embed_tokens.weight"]
        scale = 1.0 if self.options.get("no_scale_embedding") else math.sqrt(table.shape[1])
        return scale * table[ids]

    def attend(self, name: str, x: Tensor, memory: Tensor, *, causal: bool) -> Tensor:
        n_heads = self.options[f"{self.side}_attention_heads"]
        query, key, value = (
            self.linear(f"{name}.{part}_proj", source).unflatten(1, (n_heads, -1)).transpose(0, 1)
            for part, source in (("q", x), ("k", memory), ("v", memory))
        )
        scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores[0]).triu(1).bool(), -math.inf)
        mixed = (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)
        return self.linear(f"{name}.out_proj", mixed)

    def half(self, norm: str, x: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.before:
            return x + part(self.norm(norm, x))
        return self.norm(norm, x + part(x))

    def run(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """Embedded input (T, D) past all layers and the last norm, where there is one."""
        causal = self.side == "decoder"
        activation = ACTIVATIONS[self.options.get("activation_fn", "relu")]
        for index in range(self.options[f"{self.side}_layers"]):
            root = f"layers.{index}"
            x = self.half(
                f"{root}.self_attn_layer_norm",
                x,
                lambda y, r=root: self.attend(f"{r}.self_attn", y, y, causal=causal),
            )
            if memory is not None:
                x = self.half(
                    f"{root}.encoder_attn_layer_norm",
                    x,
                    lambda y, r=root: self.attend(f"{r}.encoder_attn", y, memory, causal=False),
                )
            x = self.half(
                f"{root}.final_layer_norm",
                x,
                lambda y, r=root: self.linear(f"{r}.fc2", activation(self.linear(f"{r}.fc1", y))),
            )
        has_norm = self.before and not self.options.get(f"no_{self.side}_final_norm")
        return self.norm("layer_norm", x) if has_norm else x


def random_side(side: str, options: Mapping[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
    """Tensors of the layers and norms of a side, drawn at random, as its options say which there are."""
    width, inner = options[f"{side}_embed_dim"], options[f"{side}_ffn_embed_dim"]
    before = options.get(f"{side}_normalize_before", True)
    attentions = ["self_attn"] + (
        ["encoder_attn"] if side == "decoder" and "encoder_layers" in options else []
    )
    shapes: dict[str, tuple[int, ...]] = {}
    for root in (f"{side}.layers.{index}" for index in range(options[f"{side}_layers"])):
        for attention in attentions:
            shapes |= {f"{root}.{attention}.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
            shapes[f"{root}.{attention}_layer_norm"] = (width,)
        shapes |= {f"{root}.fc1": (inner, width), f"{root}.fc2": (width, inner)}
        shapes[f"{root}.final_layer_norm"] = (width,)
    if before and not options.get(f"no_{side}_final_norm"):
        shapes[f"{side}.layer_norm"] = (width,)
    if options.get("layernorm_embedding"):
        shapes[f"{side}.layernorm_embedding"] = (width,)
    tensors = {}
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * (0.4 if len(shape) == 2 else 1)
        tensors[f"{name}.bias"] = 0.3 * torch.randn(shape[:1], generator=generator)
    return tensors
