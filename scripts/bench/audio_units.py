"""Audio to units: ours in batches, and transformers with scikit-learn's `predict`, file by file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.bench.alternating import CPU, Ways
from scripts.bench.machine import uses_bf16
from units.encoders.hubert import HubertEncoder
from units.hf_loading import silent
from units.quantizer import CodebookQuantizer
from units.types import Wave


class FileByFile:
    """The plain way: one wave after the other through transformers' HuBERT, then KMeans.predict.

    Args:
        folder: of the encoder.
        layer: whose output is clustered, 1-based; the network stops there, as ours.
        centroids_KD: the codebook, float32.
        device: where the network computes.
    """

    def __init__(
        self, folder: Path, layer: int, centroids_KD: NDArray[np.float32], device: torch.device = CPU
    ) -> None:
        from sklearn.cluster import KMeans
        from transformers import HubertModel

        with silent():  # says nothing of the layers left out, which is meant so
            model: Any = HubertModel.from_pretrained(folder, num_hidden_layers=layer)
        self.model = model.eval().to(device)
        self.layer = layer
        # Fitted on its own centres, it is a fitted estimator with these very centres.
        start = KMeans(len(centroids_KD), init=centroids_KD, n_init=1, max_iter=1)
        self.kmeans = start.fit(centroids_KD)
        self.kmeans.cluster_centers_ = centroids_KD

    def __call__(self, waves: Sequence[Wave]) -> list[NDArray[np.int64]]:
        """One unit per frame of each wave."""
        units = []
        for wave in waves:
            with torch.no_grad():
                wave_1N = torch.from_numpy(wave)[None].to(self.model.device)
                states = self.model(wave_1N, output_hidden_states=True).hidden_states
            units.append(self.kmeans.predict(states[self.layer][0].cpu().numpy()).astype(np.int64))
        return units


def write_encoder(folder: Path, hubert: dict[str, Any]) -> None:
    """Write an encoder with random weights.

    Args:
        folder: for its files.
        hubert: settings of transformers' HubertConfig, beside its defaults, which are HuBERT base.
    """
    from transformers import HubertConfig, HubertModel

    with torch.random.fork_rng(), silent():
        torch.manual_seed(0)
        HubertModel(HubertConfig(**hubert)).save_pretrained(folder)


def our_quantizer(
    folder: Path, layer: int, n_units: int, dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> CodebookQuantizer:
    """Ours, whose codebook is frames of noise.

    Args:
        folder: of the encoder.
        layer: whose output is clustered.
        n_units: of the codebook.
        dtype: of the encoder's products.
        device: where it computes.
    """
    encoder = HubertEncoder(folder, layer, name="random", dtype=dtype, device=device)
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000 * (2 + n_units // 49)).astype(np.float32)
    features_1FD, _ = encoder.encode([noise])
    return CodebookQuantizer(encoder, np.ascontiguousarray(features_1FD[0, :n_units].cpu().numpy()))


def pair(
    folder: Path,
    hubert: dict[str, Any],
    layer: int,
    n_units: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
) -> tuple[CodebookQuantizer, FileByFile]:
    """Both ways on the same random weights and codebook; arguments as of `write_encoder` and `our_quantizer`."""
    write_encoder(folder, hubert)
    ours = our_quantizer(folder, layer, n_units, dtype, device)
    return ours, FileByFile(folder, layer, ours.centroids, device)


def noise_waves(n_waves: int, longest_s: float) -> list[Wave]:
    """Waves of noise, from a quarter of the longest on.

    Args:
        n_waves: how many.
        longest_s: seconds of the longest.
    """
    draw = np.random.default_rng(1)
    lengths = np.linspace(longest_s / 4, longest_s, n_waves) * 16_000
    return [draw.normal(0, 0.1, int(length)).astype(np.float32) for length in lengths]


def audio_to_units(
    hubert: dict[str, Any], layer: int, n_waves: int, longest_s: float, device: torch.device = CPU
) -> Ways:
    """The quantization of some waves; ours as `quantize --precision bf16` does it, where the processor has bfloat16.

    Args:
        hubert: settings, see `write_encoder`.
        layer: whose output is clustered.
        n_waves: quantized in one call.
        longest_s: seconds of the longest.
        device: that computes.
    """
    waves = noise_waves(n_waves, longest_s)
    with tempfile.TemporaryDirectory() as folder:
        dtype = torch.bfloat16 if uses_bf16(device) else torch.float32
        ours, plain = pair(Path(folder), hubert, layer, n_units=100, dtype=dtype, device=device)
    return {"ours": lambda: ours(waves), "transformers and scikit-learn": lambda: plain(waves)}
