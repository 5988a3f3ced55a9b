"""The unit HiFi-GAN generator: discrete units in, waveform out.

Source: Kong, Kim, Bae 2020 (HiFi-GAN), section 2.2; Polyak et al. 2021 (speech resynthesis from discrete units);
Lee et al. 2022 (duration predictor), section 3.2. Module and parameter names are those of the published generators.

Shape legend: B batch, T units or frames, C channels, E embedding width, S samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoder.config import HiFiGANConfig
from vocoder.convolution import Conv1d, ConvTranspose1d
from vocoder.duration import DurationPredictor, frames_from_log_duration
from vocoder.f0_codes import F0Quantizer
from vocoder.weights import wave_convolutions

SLOPE = 0.1
FINAL_SLOPE = 0.01  # the published generators end with the default slope of leaky_relu, not with SLOPE
RESIDUAL_GAIN = 0.1  # of a fresh generator, see UnitHiFiGAN._initialise
OUTPUT_GAIN = 0.05


class ResidualBlock(nn.Module):
    """Pairs of a dilated and an undilated convolution around a residual stream (HiFi-GAN's "ResBlock1").

    Args:
        channels: width of the stream.
        kernel_size: odd kernel size of every convolution.
        dilations: dilation of the first convolution of each pair.
    """

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        half = (kernel_size - 1) // 2
        self.convs1 = nn.ModuleList(
            Conv1d(channels, channels, kernel_size, dilation=d, padding=d * half) for d in dilations
        )
        self.convs2 = nn.ModuleList(Conv1d(channels, channels, kernel_size, padding=half) for _ in dilations)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Refine the stream. Takes and returns (B, C, T)."""
        for conv1, conv2 in zip(self.convs1, self.convs2, strict=True):
            y_BCT = conv1(F.leaky_relu(x_BCT, SLOPE))
            x_BCT = x_BCT + conv2(F.leaky_relu(y_BCT, SLOPE, inplace=True))
        return x_BCT


class PlainResidualBlock(nn.Module):
    """Dilated convolutions around a residual stream (HiFi-GAN's "ResBlock2"). Args: as `ResidualBlock`."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        half = (kernel_size - 1) // 2
        self.convs = nn.ModuleList(
            Conv1d(channels, channels, kernel_size, dilation=d, padding=d * half) for d in dilations
        )

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Refine the stream. Takes and returns (B, C, T)."""
        for convolution in self.convs:
            x_BCT = x_BCT + convolution(F.leaky_relu(x_BCT, SLOPE))
        return x_BCT


RESIDUAL_BLOCKS: dict[str, type[nn.Module]] = {"1": ResidualBlock, "2": PlainResidualBlock}


class UnitHiFiGAN(nn.Module):
    """Generator with unit table, optional speaker table, optional F0 input and optional duration predictor.

    Made with plain weights, ready for inference; `vocoder.weights` changes how they are kept.

    Args:
        config: sizes, as in a published config.json.
    """

    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__()
        self.config = config
        self.dict = nn.Embedding(config.num_embeddings, config.embedding_dim)
        if config.multispkr:
            self.spkr = nn.Embedding(config.num_speakers, config.embedding_dim)
        if config.f0 and config.f0_quant_num_bin:
            self.f0_quant_embed = nn.Embedding(config.f0_quant_num_bin, config.embedding_dim)
        if config.f0_quantizer is not None:
            self.quantizer = F0Quantizer(config.f0_quantizer)
            self.f0_dict = nn.Embedding(config.f0_quantizer.f0_vq_params.l_bins, config.embedding_dim)
        if config.dur_predictor_params is not None:
            self.dur_predictor = DurationPredictor(config.dur_predictor_params)

        channels = config.upsample_initial_channel
        self.conv_pre = Conv1d(config.model_in_dim, channels, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            padding = (kernel_size - rate) // 2
            self.ups.append(ConvTranspose1d(channels, channels // 2, kernel_size, rate, padding))
            channels //= 2
            for size, dilations in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(RESIDUAL_BLOCKS[config.resblock](channels, size, dilations))
        self.conv_post = Conv1d(channels, 1, 7, padding=3)
        self._initialise()

    def forward(
        self, units_BT: Tensor, speaker_B: Tensor | None = None, f0_BF: Tensor | None = None
    ) -> Tensor:
        """Synthesize frame-level units.

        Args:
            units_BT: (B, T) int64, one raw unit id per frame.
            speaker_B: (B,) int64 rows of the speaker table; needed iff the model has one.
            f0_BF: (B, F) F0 values (float), bins (int64) or, for a model with an F0 quantizer, codes (int64); needed
                iff the model has an F0 input. F0 values become codes first where it has a quantizer. The shorter of
                units and F0 is then repeated to the length of the longer, which must be a multiple of it.

        Returns:
            (B, max(T, F) * hop) float32 in (-1, 1).

        Raises:
            ValueError: an input that the model needs is missing, or one is given that it does not have.
        """
        x_BCT = self._inputs(units_BT, speaker_B, f0_BF)
        x_BCT = self.conv_pre(x_BCT.to(next(self.conv_pre.parameters()).dtype))
        n_kernels = len(self.config.resblock_kernel_sizes)
        for i, up in enumerate(self.ups):
            x_BCT = up(F.leaky_relu(x_BCT, SLOPE))
            y_BCT = self.resblocks[i * n_kernels](x_BCT)
            for j in range(1, n_kernels):
                y_BCT = y_BCT + self.resblocks[i * n_kernels + j](x_BCT)
            x_BCT = y_BCT / n_kernels
        x_BCT = self.conv_post(F.leaky_relu(x_BCT, FINAL_SLOPE))
        return torch.tanh(x_BCT.float()).squeeze(1)

    def log_durations(self, units_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Predict log(frames + 1) of deduplicated units.

        Args:
            units_BT: (B, T) int64, deduplicated.
            mask_BT: (B, T) bool, True at real units; None if nothing is padded.

        Returns:
            (B, T) float32; meaningless at padding.

        Raises:
            ValueError: the model has no duration predictor.
        """
        if self.config.dur_predictor_params is None:
            raise ValueError("this generator has no duration predictor: give durations")
        log_duration_BT: Tensor = self.dur_predictor(self.dict(units_BT), mask_BT)
        return log_duration_BT

    def predict_durations(self, units_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Predict the frames of deduplicated units: (B, T) int64, at least 1 (0 at padding). See `log_durations`."""
        duration_BT = frames_from_log_duration(self.log_durations(units_BT, mask_BT))
        return duration_BT if mask_BT is None else duration_BT * mask_BT

    @torch.no_grad()
    def _initialise(self) -> None:
        """Draw weights that keep the signal's variance through narrow stages, residual branches and output quiet.

        With torch's own draw, or the published one (deviation 0.01), the units hardly reach the output at first, which
        costs a small model trained for a few thousand steps a noticeable part of its quality.
        """
        for name, module in wave_convolutions(self):
            overlap = module.stride[0] if isinstance(module, nn.ConvTranspose1d) else 1
            fan_in = module.in_channels * module.kernel_size[0] / overlap
            gain = 1.0 if name == "conv_pre" else math.sqrt(2 / (1 + SLOPE**2))
            if ".convs2." in name or ".convs." in name:
                gain *= RESIDUAL_GAIN
            elif name == "conv_post":
                gain *= OUTPUT_GAIN
            module.weight.normal_(0, gain / math.sqrt(fan_in))
            if module.bias is not None:
                module.bias.zero_()

    def _inputs(self, units_BT: Tensor, speaker_B: Tensor | None, f0_BF: Tensor | None) -> Tensor:
        """Embed and stack along channels what conv_pre reads, in the published order: unit, F0, speaker."""
        config = self.config
        if (speaker_B is not None) != config.multispkr:
            raise ValueError(f"speaker: expected {'ids' if config.multispkr else 'None'}, got {speaker_B}")
        if (f0_BF is not None) != config.f0:
            raise ValueError(f"F0: expected {'values' if config.f0 else 'None'}, got {f0_BF}")
        parts = [self.dict(units_BT).transpose(1, 2)]
        if f0_BF is not None:
            if config.f0_quantizer is not None:
                codes_BF = self.quantizer(f0_BF) if f0_BF.is_floating_point() else f0_BF
                parts.append(self.f0_dict(codes_BF).transpose(1, 2))
            elif config.f0_quant_num_bin:
                parts.append(self.f0_quant_embed(f0_BF.long()).transpose(1, 2))
            else:
                parts.append(f0_BF.unsqueeze(1))
        n_frames = max(part.shape[-1] for part in parts)
        if any(n_frames % part.shape[-1] for part in parts):
            raise ValueError(
                f"F0: expected a multiple or a divisor of {units_BT.shape[1]} units, got {n_frames} values"
            )
        parts = [part.repeat_interleave(n_frames // part.shape[-1], dim=-1) for part in parts]
        if speaker_B is not None:
            parts.append(self.spkr(speaker_B).unsqueeze(-1).expand(-1, -1, n_frames))
        return torch.cat(parts, dim=1)
