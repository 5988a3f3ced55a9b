"""Converting HuBERT-like checkpoints of options that no golden file has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from speechprompt.convert.hubert import convert, parse_conv_layers
from speechprompt.fairseq import CheckpointError, FairseqCheckpoint
from units.encoders.hubert import HubertEncoder

WIDTH, CONV = 16, 8
SETTINGS = {
    "_name": "hubert",
    "conv_feature_layers": "[(8,10,5)] + [(8,3,2)] * 2",
    "encoder_attention_heads": 2,
    "extractor_mode": "default",
    "conv_pos": 8,
    "conv_pos_groups": 4,
}


def state(generator_seed: int = 0, *, conv_bias: bool = False, width: int = WIDTH) -> dict[str, Tensor]:
    """A one-layer model with fairseq's names."""
    generator = torch.Generator().manual_seed(generator_seed)
    shapes: dict[str, tuple[int, ...]] = {"mask_emb": (width,)}
    for index, (fan_in, kernel) in enumerate(((1, 10), (CONV, 3), (CONV, 3))):
        shapes[f"feature_extractor.conv_layers.{index}.0.weight"] = (CONV, fan_in, kernel)
        if conv_bias:
            shapes[f"feature_extractor.conv_layers.{index}.0.bias"] = (CONV,)
    square = ("q_proj", "k_proj", "v_proj", "out_proj")
    pairs: dict[str, tuple[int, ...]] = {"feature_extractor.conv_layers.0.2": (CONV,), "layer_norm": (CONV,)}
    pairs |= {f"encoder.layers.0.self_attn.{side}": (width, width) for side in square}
    pairs |= {"encoder.layers.0.fc1": (24, width), "encoder.layers.0.fc2": (width, 24)}
    pairs |= {f"encoder.layers.0.{norm}_layer_norm": (width,) for norm in ("self_attn", "final")}
    pairs["encoder.layer_norm"] = (width,)
    if width != CONV:
        pairs["post_extract_proj"] = (width, CONV)
    for name, shape in pairs.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    shapes |= {
        "encoder.pos_conv.0.weight_g": (1, 1, 8),
        "encoder.pos_conv.0.weight_v": (width, width // 4, 8),
    }
    shapes["encoder.pos_conv.0.bias"] = (width,)
    return {name: 0.3 * torch.randn(shape, generator=generator) + 0.1 for name, shape in shapes.items()}


def features(
    tensors: dict[str, Tensor], to: Path, task: dict[str, Any] | None = None, **settings: Any
) -> Tensor:
    checkpoint = FairseqCheckpoint(to, tensors, {"model": SETTINGS | settings, "task": task or {}})
    convert(checkpoint, to)
    wave = np.random.default_rng(0).normal(size=2000).astype(np.float32) * 1e-3
    features_BFD, _ = HubertEncoder(to, 1).encode([wave])
    return features_BFD[0]


def test_a_fine_tuned_model_gives_its_encoder(tmp_path: Path) -> None:
    inner = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in state().items()}
    inner["w2v_encoder.proj.weight"] = torch.zeros(3, WIDTH)
    outer = {"_name": "wav2vec_ctc", "w2v_args": {"model": SETTINGS}}
    plain = features(state() | {"quantizer.vars": torch.zeros(2)}, tmp_path / "plain")
    to = tmp_path / "tuned"
    result = convert(FairseqCheckpoint(to, inner, {"model": outer, "task": {}}), to)
    assert list(result.ignored) == ["w2v_encoder.proj.weight"]
    wave = np.random.default_rng(0).normal(size=2000).astype(np.float32) * 1e-3
    assert torch.equal(HubertEncoder(to, 1).encode([wave])[0][0], plain)


def test_equal_widths_need_no_projection(tmp_path: Path) -> None:
    tensors = state(width=CONV)
    without = features(tensors, tmp_path / "a")
    identity = {"post_extract_proj.weight": torch.eye(CONV), "post_extract_proj.bias": torch.zeros(CONV)}
    assert torch.equal(without, features(tensors | identity, tmp_path / "b"))


def test_biases_of_convolutions_are_used(tmp_path: Path) -> None:
    tensors = state(conv_bias=True)
    first = features(tensors, tmp_path / "a", conv_bias=True)
    changed = tensors | {"feature_extractor.conv_layers.2.0.bias": torch.ones(CONV)}
    assert not torch.allclose(first, features(changed, tmp_path / "b", conv_bias=True))
    with pytest.raises(CheckpointError, match=r"conv_layers\.0\.0\.bias"):
        features(tensors, tmp_path / "c")


def test_a_quiet_wave_is_normalised_as_fairseq_does(tmp_path: Path) -> None:
    """Its variance is small beside what fairseq adds to it, so that the two libraries' constants differ visibly."""
    features(state(), tmp_path / "a", task={"normalize": True})
    encoder = HubertEncoder(tmp_path / "a", 1)
    wave = np.random.default_rng(0).normal(size=2000).astype(np.float32) * 1e-3
    got = encoder.encode([wave])[0]
    encoder.normalize = False
    normal = torch.nn.functional.layer_norm(torch.from_numpy(wave), (2000,)).numpy()
    torch.testing.assert_close(got, encoder.encode([normal])[0])


def test_left_over_tensors_and_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"adapter\.weight"):
        features(state() | {"encoder.layers.0.adapter.weight": torch.zeros(1)}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="conformer"):
        features(state(), tmp_path / "b", layer_type="conformer")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_convolutions_are_read_without_eval() -> None:
    text = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
    assert parse_conv_layers(text) == [(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2]
    hostile = (
        "__import__('os').system('true')",
        "[(1,1,1)] * 10**9",
        "[(1,1,1)] * 1000",
        "[1]",
        "",
        None,
        "[" * 500,
    )
    for text in (*hostile, "[(1,2)]", "[(1,2,'a')]", "[x for x in y]"):
        with pytest.raises(CheckpointError, match="conv_feature_layers"):
            parse_conv_layers(text)
