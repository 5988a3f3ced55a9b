"""Published generators of options that no golden file has, against a plain recomputation; and files refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from units.errors import InputError
from vocoder.config import HiFiGANConfig
from vocoder.published import read_generator

CONFIG: dict[str, Any] = {
    "num_embeddings": 7,
    "embedding_dim": 6,
    "upsample_rates": [3, 2],
    "upsample_kernel_sizes": [5, 4],
    "upsample_initial_channel": 8,
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 2], [2, 6]],
    "sampling_rate": 16000,
    "code_hop_size": 6,
}
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5, "check_dtype": False}


def published(config: dict[str, Any], kind: str, *, new_names: bool = False) -> dict[str, Tensor]:
    """A random generator under the published names, with weight norm."""
    generator = torch.Generator().manual_seed(0)
    state = {"dict.weight": torch.randn(7, 6, generator=generator)}
    width = 6
    if config.get("multispkr"):
        state["spkr.weight"] = torch.randn(4, 6, generator=generator)
        width += 6
    if config.get("f0"):
        n_bins = config.get("f0_quant_num_bin", 0)
        width += 6 if n_bins else 1
        if n_bins:
            state["f0_quant_embed.weight"] = torch.randn(n_bins, 6, generator=generator)
    names = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    names = names if new_names else ("weight_g", "weight_v")

    def convolution(name: str, *shape: int, n_out: int) -> None:
        state[f"{name}.{names[0]}"] = 0.5 + torch.rand(shape[0], 1, 1, generator=generator)
        state[f"{name}.{names[1]}"] = torch.randn(shape, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(n_out, generator=generator)

    channels = config["upsample_initial_channel"]
    convolution("conv_pre", channels, width, 7, n_out=channels)
    block = 0
    for stage, kernel in enumerate(config["upsample_kernel_sizes"]):
        convolution(f"ups.{stage}", channels, channels // 2, kernel, n_out=channels // 2)
        channels //= 2
        for size, dilations in zip(
            config["resblock_kernel_sizes"], config["resblock_dilation_sizes"], strict=True
        ):
            for part in ("convs1", "convs2") if kind == "1" else ("convs",):
                for index in range(len(dilations)):
                    convolution(f"resblocks.{block}.{part}.{index}", channels, channels, size, n_out=channels)
            block += 1
    convolution("conv_post", 1, channels, 7, n_out=1)
    return state


def plain_wave(config: dict[str, Any], state: dict[str, Tensor], x_CT: Tensor) -> Tensor:
    """From what conv_pre reads to the wave, as speech-resynthesis computes it."""

    def weight(name: str) -> Tensor:
        direction = state[f"{name}.weight_v"]
        return state[f"{name}.weight_g"] * direction / direction.flatten(1).norm(dim=1)[:, None, None]

    def convolved(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        kernel = weight(name)
        padding = (kernel.shape[2] * dilation - dilation) // 2
        return F.conv1d(x, kernel, state[f"{name}.bias"], padding=padding, dilation=dilation)

    x = convolved("conv_pre", x_CT)
    block = 0
    for stage, (rate, kernel) in enumerate(
        zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True)
    ):
        x = F.leaky_relu(x, 0.1)
        x = F.conv_transpose1d(
            x, weight(f"ups.{stage}"), state[f"ups.{stage}.bias"], rate, (kernel - rate) // 2
        )
        results = []
        for dilations in config["resblock_dilation_sizes"]:
            y = x
            for index, dilation in enumerate(dilations):
                if f"resblocks.{block}.convs.{index}.bias" in state:
                    y = y + convolved(f"resblocks.{block}.convs.{index}", F.leaky_relu(y, 0.1), dilation)
                else:
                    inner = convolved(f"resblocks.{block}.convs1.{index}", F.leaky_relu(y, 0.1), dilation)
                    y = y + convolved(f"resblocks.{block}.convs2.{index}", F.leaky_relu(inner, 0.1))
            results.append(y)
            block += 1
        x = sum(results) / len(results)
    return torch.tanh(convolved("conv_post", F.leaky_relu(x, 0.01)))[0]


@pytest.mark.parametrize(
    ("kind", "said"),
    [("2", "2"), ("1", "1"), ("1", "2"), ("2", None)],
    ids=["2", "1", "as fairseq", "not said"],
)
@torch.no_grad()
def test_both_kinds_of_residual_block(kind: str, said: str | None) -> None:
    config = CONFIG if said is None else CONFIG | {"resblock": said}
    state = published(config, kind)
    generator, left_out = read_generator(config, state)
    assert not left_out and generator.config.resblock == kind
    assert HiFiGANConfig.from_dict(generator.config.to_dict()) == generator.config
    units = torch.tensor([3, 1, 1, 6])
    expected = plain_wave(CONFIG, state, state["dict.weight"][units].T[None][0])
    torch.testing.assert_close(generator(units[None])[0], expected, **CLOSE)
    again, _ = read_generator(config, published(config, kind, new_names=True))
    torch.testing.assert_close(again(units[None])[0], expected, **CLOSE)
    half, _ = read_generator(config, {name: tensor.half() for name, tensor in state.items()})
    torch.testing.assert_close(half(units[None])[0], expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("n_bins", [0, 5])
@torch.no_grad()
def test_units_then_f0_then_speaker_are_stacked(n_bins: int) -> None:
    config = CONFIG | {"f0": True, "f0_quant_num_bin": n_bins, "multispkr": "_"}
    state = published(config, "1")
    generator, _ = read_generator(config, state)
    assert generator.config.num_speakers == 4
    units = torch.tensor([3, 1])
    f0 = torch.tensor([0, 4, 2, 1]) if n_bins else torch.tensor([0.1, -2.0, 0.0, 1.5])
    pitch = state["f0_quant_embed.weight"][f0].T if n_bins else f0[None]
    x_CT = torch.cat(
        [
            state["dict.weight"][units].T.repeat_interleave(2, dim=1),
            pitch,
            state["spkr.weight"][2][:, None].expand(-1, 4),
        ]
    )
    got = generator(units[None], torch.tensor([2]), f0[None])[0]
    torch.testing.assert_close(got, plain_wave(config, state, x_CT), **CLOSE)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"embedder_params": {"a": 1}}, "embedder_params"),
        ({"code_quantizer": {"a": 1}}, "code_quantizer"),
        ({"upsample_rates": None}, "upsample_rates"),
        ({"resblock_dilation_sizes": None}, "resblock_dilation_sizes"),
        ({"resblock_dilation_sizes": [[1, 2]]}, "resblock_dilation_sizes"),
        ({"upsample_rates": [3, "2"]}, "sizes as numbers"),
        ({"upsample_rates": 6}, "sizes as numbers"),
        ({"dur_predictor_params": {"encoder_embed_dim": 6, "further": 1}}, "dur_predictor"),
        ({"multispkr": "_"}, "conv_pre"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_by_name(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        read_generator(CONFIG | changed, published(CONFIG, "1"))
    assert "\n" not in str(caught.value)
