"""What the configurations and state dicts of fairseq's transformers have in common.

Source: fairseq's `TransformerConfig` and `transformer_lm`; the names are those of its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from speechprompt.fairseq import CheckpointError, UsedTensors
from speechprompt.lm.transformer import TransformerConfig

# Options that change what a model computes, and the only value that ours compute. Absent options have it.
DECODER_OPTIONS: dict[str, Any] = {
    "decoder_normalize_before": True,
    "no_decoder_final_norm": False,
    "no_token_positional_embeddings": False,
    "adaptive_input": False,
    "adaptive_softmax_cutoff": None,
    "character_embeddings": False,
    "cross_self_attention": False,
    "no_cross_attention": False,
    "base_layers": 0,
    "scale_fc": False,
    "scale_attn": False,
    "scale_heads": False,
    "scale_resids": False,
}
ENCODER_OPTIONS: dict[str, Any] = {"encoder_normalize_before": True}


def require_options(config: Mapping[str, Any], expected: Mapping[str, Any], what: object) -> None:
    """Refuse a model with an option that ours do not have. Raises: CheckpointError naming it."""
    for name, value in expected.items():
        found = config.get(name, value)
        if (found or None) != (value or None):  # 0, False, "" and None all say no
            raise CheckpointError(
                f"{what}: expected {name} {value!r}, got {found!r}; models with it are not supported"
            )


def transformer_config(
    config: Mapping[str, Any], side: str, max_positions: int, what: object
) -> TransformerConfig:
    """Dimensions of an "encoder" or "decoder". Raises: CheckpointError where the configuration lacks one."""
    try:
        return TransformerConfig(
            n_layers=int(config[f"{side}_layers"]),
            d_model=int(config[f"{side}_embed_dim"]),
            n_heads=int(config[f"{side}_attention_heads"]),
            d_ffn=int(config[f"{side}_ffn_embed_dim"]),
            dropout=float(config.get("dropout", 0.1)),
            activation=str(config.get("activation_fn", "relu")),
            max_positions=max_positions,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{what}: expected the dimensions of its {side} in the configuration, got {error!r}; is it another kind of "
            "model?"
        ) from error


def take_all(
    used: UsedTensors, shapes: Mapping[str, tuple[int, ...]], names: Mapping[str, str]
) -> dict[str, Tensor]:
    """Take a tensor for each of our weights.

    Args:
        used: the checkpoint's.
        shapes: of our weights, by our name.
        names: our name to the checkpoint's, where they differ in more than nothing.
    """
    return {ours: used.take(names.get(ours, ours), shape) for ours, shape in shapes.items()}


def ignore_marks(used: UsedTensors, side: str) -> None:
    """Leave out what fairseq stores beside the weights of an "encoder" or "decoder"."""
    used.ignored(f"{side}.version", "fairseq's mark of the file's layout")
    used.ignored(
        f"{side}.embed_positions._float_tensor", "a placeholder without content (fairseq until 2023-06)"
    )


def ignore_copy(used: UsedTensors, name: str, original: str) -> None:
    """Leave out a second name of a tensor. Raises: CheckpointError where it is not the same after all."""
    if name not in used:
        return
    copy, first = used.take(name), used.take(original)
    if copy.shape != first.shape or not bool((copy == first).all()):
        raise CheckpointError(
            f"{name}: expected the same values as {original}, got others; the file is damaged"
        )
    used.ignored(name, f"the same as {original}")
