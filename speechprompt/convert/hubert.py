"""fairseq's HuBERT, mHuBERT and wav2vec 2.0 into a folder of transformers, as `units.encoders.hubert` reads it.

Source: fairseq `models/hubert/hubert.py`, `models/wav2vec/wav2vec2.py`; transformers' HubertModel and Wav2Vec2Model.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechprompt.convert.base import Converted
from speechprompt.convert.fairseq_transformer import require_options
from speechprompt.fairseq import CheckpointError, FairseqCheckpoint, UsedTensors
from units.atomic import atomic_dir
from units.weightless import weightless

_FINE_TUNED = "w2v_encoder.w2v_model."
_PRETRAINING_ONLY = {
    "label_embs_concat": "embeddings of the labels, which only the pre-training loss reads",
    "final_proj": "projection to the pre-training loss",
    "target_glu": "part of the pre-training loss",
    "quantizer": "wav2vec 2.0's quantizer, which only the pre-training loss reads",
    "project_q": "projection to the pre-training loss",
    "w2v_encoder.proj": "output letters of a fine-tuned model",
}
_LAYER = {
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.out_proj": "attention.out_proj",
    "self_attn_layer_norm": "layer_norm",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
    "final_layer_norm": "final_layer_norm",
}
# Options that change the features, and the only value that these models of transformers have.
_OPTIONS = {
    "layer_type": "transformer",
    "attn_type": "",
    "pos_enc_type": "abs",
    "pos_conv_depth": 1,
    "quantize_input": False,
}
# Names of fairseq to those of transformers, for the feed-forward parts; convolutions always have gelu.
_ACTIVATIONS = {
    "gelu": "gelu",
    "relu": "relu",
    "gelu_accurate": "gelu_pytorch_tanh",
    "gelu_fast": "gelu_pytorch_tanh",
    "tanh": "tanh",
    "linear": "linear",
}
_WAVE_EPSILON = 1e-5  # what fairseq's layer norm over the wave adds to the variance


def convert(checkpoint: FairseqCheckpoint, to: Path) -> Converted:
    """Write the folder `to`: config.json, preprocessor_config.json and model.safetensors, all layers included.

    Raises CheckpointError: tensors or settings that these models of transformers do not have.
    """
    from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

    used = UsedTensors(checkpoint.model, checkpoint.path)
    root = _FINE_TUNED if used.names(_FINE_TUNED) else ""
    for prefix, reason in _PRETRAINING_ONLY.items():
        for place in {"", root}:
            used.ignored_prefix(f"{place}{prefix}", reason)
    settings, task = _settings(checkpoint)
    is_wav2vec = bool(used.names("quantizer")) or str(settings.get("_name")).startswith("wav2vec")
    dimensions = _dimensions(settings, used, root, checkpoint.path)
    weights = _weights(used, root, dimensions)
    ignored = used.finish()
    classes: Any = (Wav2Vec2Config, Wav2Vec2Model) if is_wav2vec else (HubertConfig, HubertModel)
    config_class, model_class = classes
    try:
        with weightless():
            model = model_class(config_class(**dimensions))
        model.load_state_dict(weights, assign=True)
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise CheckpointError(f"{checkpoint.path}: expected the tensors of one model, got {text}") from error
    sample_rate = int(task.get("sample_rate") or 16_000)
    normalize = bool(task.get("normalize", False))
    with atomic_dir(to) as folder:
        model.save_pretrained(folder)
        preprocessing = {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": sample_rate,
            "padding_value": 0.0,
            "padding_side": "right",
            "do_normalize": normalize,
            "normalize_epsilon": _WAVE_EPSILON,
            "return_attention_mask": dimensions["feat_extract_norm"] == "layer",
        }
        text = json.dumps(preprocessing, indent=2) + "\n"
        (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")
    shown = (
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "feat_extract_norm",
    )
    return Converted(
        kind=config_class.model_type,
        to=to,
        dimensions={
            **{name: dimensions[name] for name in (*shown, "do_stable_layer_norm")},
            "sample_rate": sample_rate,
            "normalize": normalize,
        },
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        ignored=ignored,
    )


def parse_conv_layers(text: Any) -> list[tuple[int, int, int]]:
    """Read (width, kernel, stride) per layer from fairseq's text, `[(512,10,5)] + [(512,3,2)] * 4` say, without eval.

    Raises CheckpointError for anything but lists of three whole numbers, sums and small repetitions of them.
    """

    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant) and type(node.value) is int and 0 < node.value < 1 << 20:
            return node.value
        if isinstance(node, ast.Tuple):
            return tuple(value(part) for part in node.elts)
        if isinstance(node, ast.List):
            return [value(part) for part in node.elts]
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
                return left + right
            if (
                isinstance(node.op, ast.Mult)
                and isinstance(left, list)
                and isinstance(right, int)
                and right <= 64
            ):
                return left * right
        raise SyntaxError

    try:
        layers = [tuple(layer) for layer in value(ast.parse(str(text)[:1000].strip(), mode="eval").body)]
    except (SyntaxError, TypeError, RecursionError, ValueError):
        layers = []
    if not 0 < len(layers) <= 64 or not all(len(n) == 3 and all(type(i) is int for i in n) for n in layers):
        raise CheckpointError(
            f"conv_feature_layers: expected widths, kernels and strides, got {str(text)[:80]!r}"
        )
    return [(width, kernel, stride) for width, kernel, stride in layers]


def _settings(checkpoint: FairseqCheckpoint) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Model and task settings; of a fine-tuned model those it was pre-trained with."""
    model, task = checkpoint.config["model"], checkpoint.config["task"]
    inner = model.get("w2v_args")
    if isinstance(inner, dict):
        model = inner["model"] if isinstance(inner.get("model"), dict) else inner
    return model, task


def _dimensions(settings: Mapping[str, Any], used: UsedTensors, root: str, path: Path) -> dict[str, Any]:
    """Arguments of the transformers configuration."""
    require_options(settings, _OPTIONS, path)
    activation = str(settings.get("activation_fn") or "gelu")
    heads = settings.get("encoder_attention_heads")
    if activation not in _ACTIVATIONS or not isinstance(heads, int):
        raise CheckpointError(
            f"{path}: expected encoder_attention_heads, and activation_fn {', '.join(_ACTIVATIONS)}, got {heads!r} and "
            f"{activation!r}; is it another kind of model?"
        )
    convolutions = parse_conv_layers(settings.get("conv_feature_layers"))
    d_model = used.shape(f"{root}encoder.layer_norm.weight")[0]
    layers = f"{root}encoder.layers."
    has_batch_norm = f"{root}encoder.pos_conv.1.weight" in used
    _, per_group, kernel = used.shape(
        f"{root}encoder.pos_conv.1.weight" if has_batch_norm else _positional(used, root, "v")
    )
    n_layers = len({name.removeprefix(layers).split(".")[0] for name in used.names(layers)})
    return {
        "hidden_size": d_model,
        "num_hidden_layers": n_layers,
        "num_attention_heads": heads,
        "hidden_act": _ACTIVATIONS[activation],
        "intermediate_size": used.shape(f"{root}encoder.layers.0.fc1.weight")[0],
        "conv_dim": [width for width, _, _ in convolutions],
        "conv_kernel": [kernel for _, kernel, _ in convolutions],
        "conv_stride": [stride for _, _, stride in convolutions],
        "conv_bias": bool(settings.get("conv_bias", False)),
        "num_feat_extract_layers": len(convolutions),
        "feat_extract_norm": "layer" if settings.get("extractor_mode") == "layer_norm" else "group",
        "num_conv_pos_embeddings": kernel,
        "num_conv_pos_embedding_groups": d_model // max(per_group, 1),
        **({"conv_pos_batch_norm": True} if has_batch_norm else {}),
        "do_stable_layer_norm": bool(settings.get("layer_norm_first", False)),
        "layerdrop": 0.0,
        # An embedding for masked frames exists in transformers only where training would mask.
        "mask_time_prob": 0.05 if f"{root}mask_emb" in used else 0.0,
    }


def _positional(used: UsedTensors, root: str, part: str) -> str:
    """Name of the positional convolution's magnitudes ("g") or directions ("v"), torch's old or new one."""
    new = f"{root}encoder.pos_conv.0.parametrizations.weight.original{'gv'.index(part)}"
    return new if new in used else f"{root}encoder.pos_conv.0.weight_{part}"


def _weights(used: UsedTensors, root: str, dimensions: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of the transformers model."""
    weights: dict[str, Tensor] = {}

    def both(source: str, target: str) -> None:
        for part in ("weight", "bias"):
            weights[f"{target}.{part}"] = used.take(f"{root}{source}.{part}")

    if f"{root}mask_emb" in used:
        weights["masked_spec_embed"] = used.take(f"{root}mask_emb")
    for index, width in enumerate(dimensions["conv_dim"]):
        source, target = f"feature_extractor.conv_layers.{index}", f"feature_extractor.conv_layers.{index}"
        weights[f"{target}.conv.weight"] = used.take(f"{root}{source}.0.weight")
        if dimensions["conv_bias"]:
            weights[f"{target}.conv.bias"] = used.take(f"{root}{source}.0.bias", (width,))
        if dimensions["feat_extract_norm"] == "layer":
            both(f"{source}.2.1", f"{target}.layer_norm")
        elif index == 0:
            both(f"{source}.2", f"{target}.layer_norm")
    both("layer_norm", "feature_projection.layer_norm")
    if f"{root}post_extract_proj.weight" in used:
        both("post_extract_proj", "feature_projection.projection")
    else:  # fairseq leaves it out where both widths are equal; transformers always has one
        weights["feature_projection.projection.weight"] = torch.eye(dimensions["hidden_size"])
        weights["feature_projection.projection.bias"] = torch.zeros(dimensions["hidden_size"])
    if "conv_pos_batch_norm" in dimensions:
        both("encoder.pos_conv.0", "encoder.pos_conv_embed.batch_norm")
        for part in ("running_mean", "running_var", "num_batches_tracked"):
            weights[f"encoder.pos_conv_embed.batch_norm.{part}"] = used.take(
                f"{root}encoder.pos_conv.0.{part}"
            )
        both("encoder.pos_conv.1", "encoder.pos_conv_embed.conv")
    else:
        weights["encoder.pos_conv_embed.conv.bias"] = used.take(f"{root}encoder.pos_conv.0.bias")
        for part, new in (("g", "original0"), ("v", "original1")):
            target = f"encoder.pos_conv_embed.conv.parametrizations.weight.{new}"
            weights[target] = used.take(_positional(used, root, part))
    both("encoder.layer_norm", "encoder.layer_norm")
    for index in range(dimensions["num_hidden_layers"]):
        for old, new in _LAYER.items():
            both(f"encoder.layers.{index}.{old}", f"encoder.layers.{index}.{new}")
    return weights
