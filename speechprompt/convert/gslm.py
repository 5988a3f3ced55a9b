"""fairseq's `transformer_lm` over units (GSLM's uLM) into our model folder.

Source: fairseq `models/transformer_lm.py` and `models/transformer/transformer_decoder.py`; Lakhotia et al. 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from speechprompt.convert.base import Converted
from speechprompt.convert.fairseq_transformer import (
    LM_OPTIONS,
    ignore_marks,
    norms,
    positions,
    transformer_tensors,
)
from speechprompt.fairseq import CheckpointError, FairseqCheckpoint, UsedTensors
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import ACTIVATIONS, TransformerConfig
from speechprompt.vocab import UnitVocab

# Heads of the named architectures, for files whose configuration leaves out what its architecture implies.
_HEADS = {
    "transformer_lm": 8,
    "transformer_lm_big": 16,
    "transformer_lm_wiki103": 8,
    "transformer_lm_gpt": 12,
    "transformer_lm_gpt2_small": 16,
    "transformer_lm_gpt2_medium": 20,
    "transformer_lm_gpt2_big": 25,
}
OUTPUT = "decoder.output_projection.weight"
_LAYER = (
    *(f"self_attn.{side}_proj" for side in ("q", "k", "v", "out")),
    *("self_attn_layer_norm", "final_layer_norm", "fc1", "fc2"),
)


def convert(
    checkpoint: FairseqCheckpoint,
    to: Path,
    *,
    dictionary: Path | None = None,
    extra: Mapping[str, str] | None = None,
    half: bool = False,
) -> Converted:
    """Write the model folder `to`: config.json and model.safetensors (float16 where `half`).

    dictionary: None for dict.txt beside the checkpoint. extra: see `read_gslm`.
    Raises InputError: no dictionary; CheckpointError: tensors that are missing, misshapen, or of no known use.
    """
    lm, ignored = read_gslm(checkpoint, dictionary=dictionary, extra=extra)
    lm.save(to, half=half)
    return Converted(
        kind=GSLM.family,
        to=to,
        dimensions=lm.config.to_dict(),
        n_parameters=lm.n_parameters(),
        dictionary_size=len(lm.vocab),
        ignored=ignored,
    )


def read_gslm(
    checkpoint: FairseqCheckpoint, *, dictionary: Path | None = None, extra: Mapping[str, str] | None = None
) -> tuple[GSLM, dict[str, str]]:
    """Make the model, in evaluation mode, and say which tensors of the file were ignored and why.

    Tensors stored in float32 are not copied: they stay mapped from the file. extra: prefixes of tensors that belong to
    something else in the file (a prompt), with the reason to ignore them. Raises: as `convert`.
    """
    vocab = read_dictionary(checkpoint, dictionary)
    settings = {**checkpoint.config.get("task", {}), **checkpoint.config.get("model", {})}
    used = transformer_tensors(checkpoint, settings, LM_OPTIONS)
    for prefix, reason in (extra or {}).items():
        used.ignored_prefix(prefix, reason)
    n_rows, d_model = _table(used, vocab)
    tied = _is_tied(used, settings, checkpoint.path)
    weights = {"embed_tokens.weight": used.take("decoder.embed_tokens.weight", (n_rows, d_model))}
    if tied:
        used.ignored(OUTPUT, "the same values as decoder.embed_tokens.weight, to which it is tied")
    else:
        weights["output_projection.weight"] = used.take(OUTPUT, (n_rows, d_model))
    kind, max_positions = positions(used, settings, "decoder", vocab.pad)
    if kind == "learned":
        weights["embed_positions.weight"] = used.take("decoder.embed_positions.weight")
    n_layers = _count_layers(used)
    for index in range(n_layers):
        for name in (f"layers.{index}.{part}" for part in _LAYER):
            weights |= {f"{name}.{side}": used.take(f"decoder.{name}.{side}") for side in ("weight", "bias")}
    where = norms(used, settings, "decoder")
    if where["final_norm"]:
        for part in ("weight", "bias"):
            weights[f"layer_norm.{part}"] = used.take(f"decoder.layer_norm.{part}", (d_model,))
    ignore_marks(used, "decoder")
    ignored = used.finish()
    config = TransformerConfig(
        n_layers=n_layers,
        d_model=d_model,
        n_heads=_heads(settings, checkpoint.path),
        d_ffn=len(weights["layers.0.fc1.weight"]),
        dropout=float(settings.get("dropout") or 0.0),
        activation=_activation(settings, checkpoint.path),
        max_positions=max_positions,
        positions=kind,
        tied=tied,
        scale_embedding=not settings.get("no_scale_embedding", False),
        **where,
    )
    try:
        return GSLM.from_weights(config, vocab, weights), ignored
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise CheckpointError(
            f"{checkpoint.path}: expected the tensors of one transformer, got {text}"
        ) from error


def read_dictionary(checkpoint: FairseqCheckpoint, dictionary: Path | None = None) -> UnitVocab:
    """Read the dictionary file given, or dict.txt beside the checkpoint. Raises InputError: none there, or damaged."""
    file = checkpoint.path.parent / "dict.txt" if dictionary is None else dictionary
    if not file.is_file():
        raise CheckpointError(
            f"{checkpoint.path}: expected its dictionary at {file}, got no such file; name it with --dictionary"
        )
    return UnitVocab.from_dict_txt(file)


def _table(used: UsedTensors, vocab: UnitVocab) -> tuple[int, int]:
    n_rows, d_model = used.shape("decoder.embed_tokens.weight")
    if n_rows != len(vocab):
        raise CheckpointError(
            f"dictionary: expected {n_rows} tokens, as many as the checkpoint has embeddings, got {len(vocab)} (four "
            "special ones included); use the dict.txt the model was trained with"
        )
    return n_rows, d_model


def _is_tied(used: UsedTensors, settings: Mapping[str, Any], path: Path) -> bool:
    shared = OUTPUT not in used or (
        used.shape(OUTPUT) == used.shape("decoder.embed_tokens.weight")
        and torch.equal(used.take(OUTPUT), used.take("decoder.embed_tokens.weight"))
    )
    wanted = settings.get("share_decoder_input_output_embed", shared)
    if wanted and not shared:
        raise CheckpointError(
            f"{path}: expected {OUTPUT} equal to the embeddings, as share_decoder_input_output_embed says, got others"
        )
    return bool(wanted)


def _count_layers(used: UsedTensors) -> int:
    return len({name.split(".")[2] for name in used.names("decoder.layers.")})


def _heads(settings: Mapping[str, Any], path: Path) -> int:
    heads = settings.get("decoder_attention_heads") or _HEADS.get(str(settings.get("_name")))
    if not isinstance(heads, int):
        raise CheckpointError(
            f"{path}: expected decoder_attention_heads in its configuration, got none; the weights do not tell it"
        )
    return heads


def _activation(settings: Mapping[str, Any], path: Path) -> str:
    implied = "gelu" if "_gpt" in str(settings.get("_name")) else "relu"
    name = str(settings.get("activation_fn") or implied)
    if name not in ACTIVATIONS:
        raise CheckpointError(f"{path}: expected activation_fn {' or '.join(ACTIVATIONS)}, got {name}")
    return name
