"""The network of contrastive predictive coding: five convolutions, then a recurrent context network.

Shapes: B waves, N samples, C convolution channels, F frames, D context width.

Source: Rivière et al. 2020, "Unsupervised pretraining transfers well across languages"; the released CPC_audio model,
parameter names included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from units.errors import InputError

# kernel, stride, padding of each convolution
CONVOLUTIONS = ((10, 5, 3), (8, 4, 2), (4, 2, 1), (4, 2, 1), (4, 2, 1))
HOP_LENGTH = 160  # product of the strides

RECURRENT: dict[str, Callable[..., nn.RNNBase]] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
NORMS = ("layerNorm", "batchNorm", "instanceNorm", "ID")


@dataclass(frozen=True)
class CPCConfig:
    """Dimensions and kinds of a CPC network.

    Attributes:
        hidden_encoder: convolution channels C.
        hidden_context: width D of the recurrent levels.
        n_levels: recurrent levels.
        context: "LSTM", "GRU" or "RNN".
        norm: after each convolution, "layerNorm" (over channels), "batchNorm", "instanceNorm" or "ID" (none).
    Raises: InputError for an unknown kind or an impossible dimension.
    """

    hidden_encoder: int
    hidden_context: int
    n_levels: int
    context: str = "LSTM"
    norm: str = "layerNorm"

    def __post_init__(self) -> None:
        if self.context not in RECURRENT or self.norm not in NORMS:
            raise InputError(
                f"CPC: expected context {', '.join(RECURRENT)} and norm {', '.join(NORMS)}, got {self.context!r} and "
                f"{self.norm!r}; other kinds are not supported"
            )
        if self.hidden_encoder < 2 or min(self.hidden_context, self.n_levels) < 1:
            raise InputError(f"CPC: expected positive dimensions, got {asdict(self)}; mend the configuration")

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for config.json; CPCConfig(**d) reads it back."""
        return asdict(self)


class ChannelNorm(nn.Module):
    """Normalise over the channels of each frame, with the unbiased variance, then scale and shift."""

    def __init__(self, n_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, n_channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, n_channels, 1))
        self.eps = eps

    def forward(self, x_BCF: Tensor) -> Tensor:
        """(B, C, F) to (B, C, F)."""
        variance_B1F, mean_B1F = torch.var_mean(x_BCF, dim=1, keepdim=True)
        return (x_BCF - mean_B1F) * torch.rsqrt(variance_B1F + self.eps) * self.weight + self.bias


class ConvolutionalEncoder(nn.Module):
    """Waves to one frame every 160 samples."""

    def __init__(self, config: CPCConfig) -> None:
        super().__init__()
        n_in = 1
        for index, (kernel, stride, padding) in enumerate(CONVOLUTIONS):
            convolution = nn.Conv1d(n_in, config.hidden_encoder, kernel, stride, padding)
            self.add_module(f"conv{index}", convolution)
            self.add_module(f"batchNorm{index}", _norm(config))  # the released name, whatever the norm is
            n_in = config.hidden_encoder

    def forward(self, wave_BN: Tensor) -> Tensor:
        """(B, N) to (B, F, C)."""
        x_BCF = wave_BN[:, None]
        for index in range(len(CONVOLUTIONS)):
            x_BCF = self.get_submodule(f"conv{index}")(x_BCF)
            x_BCF = F.relu(self.get_submodule(f"batchNorm{index}")(x_BCF))
        return x_BCF.transpose(1, 2)


def _norm(config: CPCConfig) -> nn.Module:
    if config.norm == "layerNorm":
        return ChannelNorm(config.hidden_encoder)
    if config.norm == "batchNorm":
        return nn.BatchNorm1d(config.hidden_encoder)
    if config.norm == "instanceNorm":
        return nn.InstanceNorm1d(config.hidden_encoder, affine=True)
    return nn.Identity()


class ContextNetwork(nn.Module):
    """The recurrent levels."""

    def __init__(self, config: CPCConfig) -> None:
        super().__init__()
        self.baseNet = RECURRENT[config.context](
            config.hidden_encoder, config.hidden_context, num_layers=config.n_levels, batch_first=True
        )

    def forward(self, x_BFC: Tensor) -> Tensor:
        """(B, F, C) to the last level's (B, F, D). No frame sees a later one: padding on the right changes nothing."""
        return self.baseNet(x_BFC)[0]


class CPCNetwork(nn.Module):
    """Convolutions `gEncoder` and context `gAR`.

    Args:
        config: dimensions.
        n_levels: recurrent levels to build, from the first on; None for all. 0 leaves the context network out.
    """

    def __init__(self, config: CPCConfig, n_levels: int | None = None) -> None:
        super().__init__()
        n_levels = config.n_levels if n_levels is None else n_levels
        self.gEncoder = ConvolutionalEncoder(config)
        self.gAR: nn.Module = nn.Identity()
        if n_levels:
            self.gAR = ContextNetwork(CPCConfig(**{**config.to_dict(), "n_levels": n_levels}))


def n_frames(n_samples: int) -> int:
    """Frames given for `n_samples` samples in one piece."""
    for kernel, stride, padding in CONVOLUTIONS:
        n_samples = max((n_samples + 2 * padding - kernel) // stride + 1, 0)
    return n_samples
