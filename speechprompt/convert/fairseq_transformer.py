"""What the configurations and state dicts of fairseq's transformers have in common.

Source: fairseq's `TransformerConfig` and `transformer_lm`; the names are those of its checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from speechprompt.fairseq import CheckpointError, FairseqCheckpoint, UsedTensors
from speechprompt.lm.transformer import TransformerConfig

# Options that change what a model computes, and the only value that ours compute. Absent options have it.
DECODER_OPTIONS: dict[str, Any] = {
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
LM_OPTIONS: dict[str, Any] = {**DECODER_OPTIONS, "layernorm_embedding": False}
_LONGEST = {"encoder": "max_source_positions", "decoder": "max_target_positions"}
# Numbers that stood for norms in fairseq's first year.
_NORMS = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}


def _modern_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a transformer under the names that fairseq gives them since version 0.9.

    Before, one tensor held the projections to queries, keys and values, norms had numbers, and an output projection
    of its own was called `embed_out`. Source: fairseq's `upgrade_state_dict_named`.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        root, _, part = name.rpartition(".in_proj_")
        norm = re.fullmatch(r"((encoder|decoder)\.layers\.\d+)\.layer_norms\.([012])\.(weight|bias)", name)
        if root and part in ("weight", "bias") and len(tensor) % 3 == 0:
            sides = zip("qkv", tensor.chunk(3), strict=True)
            renamed |= {f"{root}.{side}_proj.{part}": third for side, third in sides}
        elif norm is not None and int(norm[3]) < len(_NORMS[norm[2]]):
            renamed[f"{norm[1]}.{_NORMS[norm[2]][int(norm[3])]}.{norm[4]}"] = tensor
        else:
            renamed["decoder.output_projection.weight" if name == "decoder.embed_out" else name] = tensor
    return renamed


def require_options(config: Mapping[str, Any], expected: Mapping[str, Any], what: object) -> None:
    """Refuse a model with an option that ours do not have. Raises: CheckpointError naming it."""
    for name, value in expected.items():
        found = config.get(name, value)
        if (found or None) != (value or None):  # 0, False, "" and None all say no
            raise CheckpointError(
                f"{what}: expected {name} {value!r}, got {found!r}; models with it are not supported"
            )


def transformer_tensors(
    checkpoint: FairseqCheckpoint, settings: Mapping[str, Any], expected: Mapping[str, Any]
) -> UsedTensors:
    """The tensors of a transformer under modern names, after checks of what ours cannot compute.

    settings: of the model. expected: LM_OPTIONS or DECODER_OPTIONS. Raises: CheckpointError naming the option.
    """
    require_options(settings, expected, checkpoint.path)
    used = UsedTensors(_modern_names(checkpoint.model), checkpoint.path)
    _refuse_projections(used, checkpoint.path)
    return used


def _refuse_projections(used: UsedTensors, what: object) -> None:
    """Refuse a model whose embeddings have another width than its layers. Raises: CheckpointError naming the option."""
    for side in ("encoder", "decoder"):
        if f"{side}.project_in_dim.weight" in used:
            raise CheckpointError(
                f"{what}: expected {side}_input_dim equal to {side}_embed_dim, got others (project_in_dim); models "
                "with it are not supported"
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


def norms(used: UsedTensors, config: Mapping[str, Any], side: str) -> dict[str, Any]:
    """Where an "encoder" or "decoder" has its norms: `normalize_before` and `final_norm` of a TransformerConfig.

    A file with a norm after its last layer is of a pre-norm model, whatever the configuration says, which some
    versions of fairseq overrule. Raises: CheckpointError where that norm is missing.
    """
    last = f"{side}.layer_norm.weight"
    if last in used:
        return {"normalize_before": True, "final_norm": True}
    before = bool(config.get(f"{side}_normalize_before", True))
    if before and not config.get(f"no_{side}_final_norm", False):
        used.take(last)  # raises: it is missing
    return {"normalize_before": before, "final_norm": False}


def positions(used: UsedTensors, config: Mapping[str, Any], side: str, pad: int) -> tuple[str, int]:
    """Kind of positions and most tokens of a row of an "encoder" or "decoder". Raises: CheckpointError."""
    table = f"{side}.embed_positions.weight"
    if table in used or config.get(f"{side}_learned_pos", False):
        return "learned", used.shape(table)[0] - pad - 1  # the first token stands after padding's id
    longest = config.get(_LONGEST[side]) or config.get("tokens_per_sample") or 1024
    return ("none" if config.get("no_token_positional_embeddings", False) else "sinusoidal"), int(longest)


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
    used.ignored(f"{side}.embed_positions.weights", "sinusoidal positions, which are computed anew")


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
