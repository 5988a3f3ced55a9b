"""CPC features: the output of one recurrent level, or of the convolutions, read in chunks as published units were.

The published codebooks were fitted on features of audio read 64,000 samples at a time, each chunk from a fresh state,
so units near the chunks' borders depend on it. What follows the last full chunk was computed on the whole recording
once more ("whole"), of which the last frames were kept.

Shapes: B waves, N samples, F frames, C convolution channels, D features, P pieces of all waves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from units.encoders.cpc_network import HOP_LENGTH, CPCConfig, CPCNetwork, n_frames
from units.encoders.frame_counts import frame_counts
from units.errors import InputError

FAMILY = "cpc"
REMAINDERS = ("whole", "last", "short")


@dataclass(frozen=True)
class Piece:
    """Samples that go through the network together, and how many of their last frames are kept."""

    start: int
    end: int
    kept: int


def pieces(n_samples: int, max_chunk: int | None, remainder: str = "whole") -> list[Piece]:
    """How a wave is read.

    Args:
        n_samples: its length.
        max_chunk: samples of a full chunk; None reads the wave in one piece.
        remainder: what follows the last full chunk is computed on the whole wave again ("whole", as the published units
            were), on its last max_chunk samples ("last"), or alone ("short"). Where it is too short for one frame
            it gives none, although the reference then repeats the whole wave's frames.
    """
    if max_chunk is None or n_samples < max_chunk:
        kept = n_frames(n_samples)
        if max_chunk is not None and remainder == "last":  # frames that are not whole are dropped here, too
            kept = min(kept, n_samples // HOP_LENGTH or kept)
        return [Piece(0, n_samples, kept)]
    chunks = range(0, n_samples - max_chunk + 1, max_chunk)
    result = [Piece(start, start + max_chunk, n_frames(max_chunk)) for start in chunks]
    end = len(chunks) * max_chunk
    rest = n_samples - end
    if remainder == "whole":
        # The reference takes the samples for a frame from the wave's own length: 159 to 161, not always 160.
        kept = rest // (n_samples // n_frames(n_samples))
        result.append(Piece(0, n_samples, kept))
    elif remainder == "last":
        result.append(Piece(n_samples - max_chunk, n_samples, rest // HOP_LENGTH))
    else:
        result.append(Piece(end, n_samples, n_frames(rest)))
    return [piece for piece in result if piece.kept]


class CPCEncoder:
    """Features of a CPC network; an `units.types.Encoder`."""

    def __init__(
        self,
        source: str | Path,
        layer: int | None = None,
        *,
        name: str | None = None,
        max_chunk: int | None = 64_000,
        remainder: str = "whole",
        keep_hidden: bool = False,
        normalize: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        """Load an encoder.

        source: folder with config.json and model.safetensors, as the conversion writes it.
        layer: 1-based recurrent level whose output is taken (deeper ones are not loaded), 0 for the output of the
            convolutions, None for the last.
        name: identity in the UnitSpec; None for the last part of `source`.
        max_chunk, remainder: see `pieces`.
        keep_hidden: let the recurrent state go on from chunk to chunk of a wave; only with remainder "short".
            Each wave begins with a fresh state.
        normalize: bring each feature to zero mean and unit variance over the frames of each piece.

        Raises InputError: nothing loadable at `source`, no such level, options that do not go together.
        """
        config, weights = _read_folder(Path(source))
        self.layer = config.n_levels if layer is None else layer
        if not 0 <= self.layer <= config.n_levels:
            raise InputError(f"{source}: expected a layer in 0 to {config.n_levels}, got {layer}; choose one")
        if remainder not in REMAINDERS or (max_chunk is not None and n_frames(max_chunk) < 1):
            raise InputError(
                f"CPC chunks: expected at least {HOP_LENGTH} samples and remainder {', '.join(REMAINDERS)}, "
                f"got {max_chunk} and {remainder!r}"
            )
        if keep_hidden and remainder != "short" and max_chunk is not None:
            raise InputError(
                f"CPC chunks: expected remainder 'short' with keep_hidden, got {remainder!r}; a state that goes on "
                "cannot read samples twice"
            )
        self.name = name or Path(source).name
        self.sample_rate = 16_000
        self.hop_length = HOP_LENGTH
        self.n_features = config.hidden_context if self.layer else config.hidden_encoder
        self.device = torch.device(device)
        self.max_chunk, self.remainder = max_chunk, remainder
        self.keep_hidden, self.normalize = keep_hidden, normalize
        self._network = CPCNetwork(config, self.layer)
        wanted = self._network.state_dict().keys()
        full = CPCNetwork(config).state_dict().keys()
        if weights.keys() != full:
            raise InputError(
                f"{source}: expected the weights config.json describes, got {sorted(weights.keys() ^ full)[:3]} "
                "missing or unknown; convert the checkpoint again"
            )
        self._network.load_state_dict({key: weights[key] for key in wanted})
        self._network.eval().requires_grad_(False).to(self.device)

    def n_frames(self, n_samples: int) -> int:
        """Frames given for a wave of `n_samples` samples; 0 where it is too short for one."""
        return sum(piece.kept for piece in pieces(n_samples, self.max_chunk, self.remainder))

    @torch.inference_mode()
    def encode(self, waves: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Encode B waves, each (n_samples,) float32 at `sample_rate` Hz.

        Returns features (B, F, D) float32 on `device`, zero beyond each row's frames, and frame counts (B,)
        int64 on the CPU. Raises AudioError where a wave gives not a single frame.
        """
        counts_B = frame_counts(self, waves)
        plans = [pieces(len(wave), self.max_chunk, self.remainder) for wave in waves]
        convolved_PFC = [
            self._convolve(wave, piece) for wave, plan in zip(waves, plans, strict=True) for piece in plan
        ]
        features = iter(self._contextualise(convolved_PFC, [len(plan) for plan in plans]))
        rows = [torch.cat([self._finish(next(features))[-piece.kept :] for piece in plan]) for plan in plans]
        return pad_sequence(rows, batch_first=True), counts_B

    def _convolve(self, wave: np.ndarray, piece: Piece) -> Tensor:
        """One piece alone through the convolutions, (F, C): no padding can reach it."""
        wave_N = torch.as_tensor(wave, dtype=torch.float32, device=self.device)[piece.start : piece.end]
        convolved_FC: Tensor = self._network.gEncoder(wave_N[None])[0]
        return convolved_FC

    def _contextualise(self, convolved_PFC: list[Tensor], n_pieces: list[int]) -> list[Tensor]:
        """Pieces (F, C) through the recurrent levels, all together; one after another where state goes on."""
        if self.layer == 0:
            return convolved_PFC
        lengths = [len(piece_FC) for piece_FC in convolved_PFC]
        if not self.keep_hidden:
            context_PFD = self._network.gAR(pad_sequence(convolved_PFC, batch_first=True))
            return [row_FD[:length] for row_FD, length in zip(context_PFD, lengths, strict=True)]
        queue = iter(convolved_PFC)
        joined_BFC = [torch.cat([next(queue) for _ in range(count)]) for count in n_pieces]
        context_BFD = self._network.gAR(pad_sequence(joined_BFC, batch_first=True))
        flat_FD = torch.cat(
            [row_FD[: len(joined)] for row_FD, joined in zip(context_BFD, joined_BFC, strict=True)]
        )
        return list(flat_FD.split(lengths))

    def _finish(self, features_FD: Tensor) -> Tensor:
        if not self.normalize:
            return features_FD
        variance_1D, mean_1D = torch.var_mean(features_FD, dim=0, keepdim=True)
        return (features_FD - mean_1D) / torch.sqrt(variance_1D + 1e-8)


def _read_folder(folder: Path) -> tuple[CPCConfig, dict[str, Tensor]]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config["model_type"] != FAMILY:
            raise InputError(
                f"{folder}: expected a CPC encoder, got {config['model_type']!r}; choose another"
            )
        weights = load_file(folder / "model.safetensors")
        return CPCConfig(**config["network"]), {name: tensor.float() for name, tensor in weights.items()}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{folder}: expected a CPC encoder folder, got {error!r}; check the path") from error
