"""Converting HuBERT-like checkpoints of options that no golden file has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
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


def plain_features(tensors: dict[str, Tensor], settings: dict[str, Any], wave: np.ndarray) -> Tensor:
    """The first layer's output as fairseq computes it, by torch's functions alone."""
    at = {name: tensor.double() for name, tensor in tensors.items()}
    activations = {"gelu": F.gelu, "relu": F.relu, "tanh": torch.tanh, "linear": lambda x: x}
    activations["gelu_accurate"] = lambda x: F.gelu(x, approximate="tanh")

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, at[f"{name}.weight"], at[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], at[f"{name}.weight"], at[f"{name}.bias"])

    x = torch.from_numpy(wave).double()[None]
    for index, (kernel, stride) in enumerate(((10, 5), (3, 2), (3, 2))):
        name = f"feature_extractor.conv_layers.{index}"
        assert at[f"{name}.0.weight"].shape[2] == kernel
        x = F.conv1d(x, at[f"{name}.0.weight"], at.get(f"{name}.0.bias"), stride)
        if settings.get("extractor_mode") == "layer_norm":
            x = norm(f"{name}.2.1", x.T).T
        elif index == 0:
            x = F.group_norm(x[None], len(x), at[f"{name}.2.weight"], at[f"{name}.2.bias"])[0]
        x = F.gelu(x)
    x = linear("post_extract_proj", norm("layer_norm", x.T))
    y = x.T
    if settings.get("conv_pos_batch_norm"):
        name = "encoder.pos_conv.0"
        centred = y - at[f"{name}.running_mean"][:, None]
        y = centred / (at[f"{name}.running_var"][:, None] + 1e-5).sqrt()
        y = y * at[f"{name}.weight"][:, None] + at[f"{name}.bias"][:, None]
        weight, bias = at["encoder.pos_conv.1.weight"], at["encoder.pos_conv.1.bias"]
    else:
        direction, bias = at["encoder.pos_conv.0.weight_v"], at["encoder.pos_conv.0.bias"]
        norms = direction.square().sum(dim=(0, 1), keepdim=True).sqrt()
        weight = at["encoder.pos_conv.0.weight_g"] * direction / norms
    kernel = weight.shape[2]
    y = F.conv1d(y, weight, bias, padding=kernel // 2, groups=len(weight) // weight.shape[1])
    x = x + F.gelu(y[:, : -1 if kernel % 2 == 0 else None]).T
    before = settings.get("layer_norm_first", False)
    layer = "encoder.layers.0"
    if not before:
        x = norm("encoder.layer_norm", x)
    z = norm(f"{layer}.self_attn_layer_norm", x) if before else x
    q, k, v = (
        linear(f"{layer}.self_attn.{side}_proj", z)
        .unflatten(1, (settings["encoder_attention_heads"], -1))
        .transpose(0, 1)
        for side in "qkv"
    )
    mixed = ((q @ k.transpose(1, 2)) / q.shape[2] ** 0.5).softmax(-1) @ v
    x = x + linear(f"{layer}.self_attn.out_proj", mixed.transpose(0, 1).flatten(1))
    x = x if before else norm(f"{layer}.self_attn_layer_norm", x)
    z = norm(f"{layer}.final_layer_norm", x) if before else x
    inner = activations[settings.get("activation_fn", "gelu")](linear(f"{layer}.fc1", z))
    x = x + linear(f"{layer}.fc2", inner)
    return x if before else norm(f"{layer}.final_layer_norm", x)


def with_options(settings: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of a model with these settings."""
    tensors = state(conv_bias=settings.get("conv_bias", False))
    generator = torch.Generator().manual_seed(3)
    for index in range(3):
        if settings.get("extractor_mode") == "layer_norm":
            for part in ("weight", "bias"):
                tensors.pop(f"feature_extractor.conv_layers.0.2.{part}", None)
                name = f"feature_extractor.conv_layers.{index}.2.1.{part}"
                tensors[name] = torch.randn(CONV, generator=generator)
    kernel, groups = settings.get("conv_pos", 8), settings.get("conv_pos_groups", 4)
    shape = (WIDTH, WIDTH // groups, kernel)
    tensors["encoder.pos_conv.0.weight_g"] = torch.rand(1, 1, kernel, generator=generator) + 0.5
    tensors["encoder.pos_conv.0.weight_v"] = torch.randn(shape, generator=generator)
    if settings.get("conv_pos_batch_norm"):
        del tensors["encoder.pos_conv.0.weight_g"], tensors["encoder.pos_conv.0.weight_v"]
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"encoder.pos_conv.0.{part}"] = torch.rand(WIDTH, generator=generator) + 0.3
        tensors["encoder.pos_conv.0.num_batches_tracked"] = torch.tensor(5)
        tensors["encoder.pos_conv.1.weight"] = torch.randn(shape, generator=generator)
        tensors["encoder.pos_conv.1.bias"] = torch.randn(WIDTH, generator=generator)
    return tensors


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True},
        {"extractor_mode": "layer_norm", "activation_fn": "relu"},
        {"layer_norm_first": True, "conv_pos": 7, "conv_pos_groups": 2, "activation_fn": "gelu_accurate"},
        {"conv_pos_batch_norm": True, "encoder_attention_heads": 4, "activation_fn": "tanh"},
        {"_name": "wav2vec2", "layer_norm_first": True, "conv_pos": 5, "activation_fn": "linear"},
    ],
    ids=str,
)
@pytest.mark.parametrize("half", [False, True])
def test_features_of_every_option(settings: dict[str, Any], half: bool, tmp_path: Path) -> None:
    tensors = with_options(settings)
    if half:
        tensors = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    got = features(tensors, tmp_path / "encoder", **settings)
    wave = np.random.default_rng(0).normal(size=2000).astype(np.float32) * 1e-3
    expected = plain_features(tensors, SETTINGS | settings, wave)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4, check_dtype=False)


def test_a_fine_tuned_model_may_keep_tensors_of_its_pre_training(tmp_path: Path) -> None:
    names = ("label_embs_concat", "final_proj.weight", "quantizer.vars")
    tensors = {
        f"w2v_encoder.w2v_model.{n}": t for n, t in (state() | dict.fromkeys(names, torch.zeros(2))).items()
    }
    checkpoint = FairseqCheckpoint(
        tmp_path, tensors, {"model": {"w2v_args": {"model": SETTINGS}}, "task": {}}
    )
    assert set(convert(checkpoint, tmp_path / "a").ignored) == {
        f"w2v_encoder.w2v_model.{name}" for name in names
    }


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"pos_conv_depth": 5}, "pos_conv_depth"),
        ({"quantize_input": True}, "quantize_input"),
        ({"attn_type": "espnet"}, "attn_type"),
        ({"pos_enc_type": "rope"}, "pos_enc_type"),
        ({"activation_fn": "swish"}, "activation_fn"),
        ({"encoder_attention_heads": None}, "encoder_attention_heads"),
        ({"encoder_attention_heads": 3}, "expected the tensors of one model"),
        ({"conv_feature_layers": "[(8,10,5)] + [(8,4,2)] * 2"}, "conv_layers"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(
    settings: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=named) as caught:
        features(state(), tmp_path / "a", **settings)
    assert "\n" not in str(caught.value) and not (tmp_path / "a").exists()
