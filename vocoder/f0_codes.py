"""F0 as discrete codes: the encoder and codebook of a VQ-VAE over F0 curves, which some generators listen to.

Source: Polyak et al. 2021, "Speech Resynthesis from Discrete Disentangled Self-Supervised Representations", section
2.2; the encoder is the one-level one of Dhariwal et al. 2020 (Jukebox). Parameter names are those of the published
`quantizer`, whose decoder only its own training needs.

Shape legend: B batch, F F0 frames, T codes, C channels, K codes of the codebook.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from units.errors import InputError


@dataclass(frozen=True)
class F0CodebookConfig:
    """Sizes of the codebook (`f0_vq_params`).

    Attributes:
        l_bins: codes K.
        emb_width: width of a code's vector.
        levels: always 1 here.
    """

    l_bins: int
    emb_width: int
    levels: int = 1


@dataclass(frozen=True)
class F0EncoderConfig:
    """Sizes of the encoder (`f0_encoder_params`).

    Attributes:
        input_emb_width: channels of the F0 curve, 1.
        output_emb_width: width of what is compared with the codebook.
        downs_t, strides_t: number of downsampling convolutions and stride of each, one entry per level.
        width: channels inside.
        depth: residual blocks after each downsampling convolution.
        m_conv: inner width of a residual block, relative to `width`.
        dilation_growth_rate: the i-th residual block's convolution has dilation rate ** i.
        dilation_cycle: i starts anew after so many blocks; None for never.
        levels: always 1 here.
    """

    output_emb_width: int
    downs_t: tuple[int, ...]
    strides_t: tuple[int, ...]
    width: int
    depth: int
    m_conv: float = 1.0
    dilation_growth_rate: int = 1
    dilation_cycle: int | None = None
    input_emb_width: int = 1
    levels: int = 1


@dataclass(frozen=True)
class F0QuantizerConfig:
    """Sizes of an F0 quantizer, in the keys of the published `f0_quantizer` entry.

    Raises InputError for sizes that do not fit, or more than one level.
    """

    f0_vq_params: F0CodebookConfig
    f0_encoder_params: F0EncoderConfig

    def __post_init__(self) -> None:
        codebook, encoder = self.f0_vq_params, self.f0_encoder_params
        levels = {codebook.levels, encoder.levels, len(encoder.downs_t), len(encoder.strides_t)}
        if levels != {1}:
            raise InputError(
                f"F0 quantizer: expected one level, got {max(levels)}; use a vocoder with a single F0 code stream"
            )
        if codebook.emb_width != encoder.output_emb_width:
            raise InputError(
                f"F0 quantizer: expected an encoder of width {codebook.emb_width} as the codebook's, got "
                f"{encoder.output_emb_width}; correct output_emb_width"
            )

    @property
    def frames_per_code(self) -> int:
        """F0 frames that become one code."""
        return math.prod(self.f0_encoder_params.strides_t) ** self.f0_encoder_params.downs_t[0]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> F0QuantizerConfig:
        """Read the published entry; keys of its decoder and its training are passed over. Raises InputError."""
        try:
            encoder = _known(F0EncoderConfig, values["f0_encoder_params"])
            for name in ("downs_t", "strides_t"):
                encoder[name] = tuple(encoder[name])
            return cls(
                F0CodebookConfig(**_known(F0CodebookConfig, values["f0_vq_params"])),
                F0EncoderConfig(**encoder),
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"vocoder config: expected f0_vq_params and f0_encoder_params in f0_quantizer, got trouble at {error}; "
                "use the config.json that belongs to the checkpoint"
            ) from error


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


class _Residual(nn.Module):
    """A dilated convolution and a pointwise one around a residual stream."""

    def __init__(self, width: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(width, inner, 3, padding=dilation, dilation=dilation),
            nn.ReLU(),
            nn.Conv1d(inner, width, 1),
        )

    def forward(self, x_BCF: Tensor) -> Tensor:
        refined_BCF: Tensor = x_BCF + self.model(x_BCF)
        return refined_BCF


class _Residuals(nn.Module):
    """Residual blocks of growing dilation."""

    def __init__(self, config: F0EncoderConfig) -> None:
        super().__init__()
        cycle = config.dilation_cycle or config.depth
        inner = int(config.m_conv * config.width)
        self.model = nn.Sequential(
            *(
                _Residual(config.width, inner, config.dilation_growth_rate ** (i % cycle))
                for i in range(config.depth)
            )
        )

    def forward(self, x_BCF: Tensor) -> Tensor:
        refined_BCF: Tensor = self.model(x_BCF)
        return refined_BCF


class _Level(nn.Module):
    """Downsampling convolutions, each with its residual blocks, then a projection to the codebook's width."""

    def __init__(self, config: F0EncoderConfig) -> None:
        super().__init__()
        stride, layers = config.strides_t[0], list[nn.Module]()
        for i in range(config.downs_t[0]):
            channels = config.input_emb_width if i == 0 else config.width
            down = nn.Conv1d(channels, config.width, 2 * stride, stride, stride // 2)
            layers.append(nn.Sequential(down, _Residuals(config)))
        channels = config.width if layers else config.input_emb_width
        self.model = nn.Sequential(*layers, nn.Conv1d(channels, config.output_emb_width, 3, padding=1))

    def forward(self, x_BCF: Tensor) -> Tensor:
        encoded_BCT: Tensor = self.model(x_BCF)
        return encoded_BCT


class _Levels(nn.Module):
    def __init__(self, level: nn.Module) -> None:
        super().__init__()
        self.level_blocks = nn.ModuleList([level])


class _Codebook(nn.Module):
    def __init__(self, config: F0CodebookConfig) -> None:
        super().__init__()
        self.k: Tensor
        self.register_buffer("k", torch.zeros(config.l_bins, config.emb_width))


class F0Quantizer(nn.Module):
    """F0 curves to codes. Not trained here: gradients stop at it.

    Args:
        config: its sizes.
    """

    def __init__(self, config: F0QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Levels(_Level(config.f0_encoder_params))
        self.vq = _Levels(_Codebook(config.f0_vq_params))

    @torch.no_grad()
    def forward(self, f0_BF: Tensor) -> Tensor:
        """F0 values (B, F) float32, scaled as in its training, to codes (B, T) int64, T = F // frames_per_code.

        Raises InputError for a curve shorter than one code.
        """
        if f0_BF.shape[-1] < self.config.frames_per_code:
            raise InputError(
                f"F0: expected at least {self.config.frames_per_code} values, got {f0_BF.shape[-1]}; give more"
            )
        encoded_BCT = self.encoder.level_blocks[0](f0_BF.unsqueeze(1))
        codebook = self.vq.level_blocks[0]
        assert isinstance(codebook, _Codebook)
        flat_nC = encoded_BCT.transpose(1, 2).flatten(0, 1)
        # |x - k|^2 without |x|^2, which is the same for every code
        distance_nK = F.linear(flat_nC, -2 * codebook.k) + codebook.k.square().sum(1)
        return distance_nK.argmin(1).view(len(f0_BF), -1)
