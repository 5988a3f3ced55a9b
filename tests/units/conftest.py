"""Random encoders with the structure of real ones, waves to encode, and a quantizer that needs no weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from units.encoders.logmel import LogMelEncoder
from units.quantizer import CodebookQuantizer

# Not the published convolutions; strides multiply to 320 as there.
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16, 16, 24, 24, 32),
    "conv_kernel": (10, 5, 4, 4, 3),
    "conv_stride": (5, 4, 4, 2, 2),
    "num_feat_extract_layers": 5,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


@pytest.fixture(scope="session")
def make_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives a function (family="hubert", dtype=float16, **config) -> folder with a saved random model."""
    from transformers import (
        HubertConfig,
        HubertModel,
        UniSpeechConfig,
        UniSpeechModel,
        UniSpeechSatConfig,
        UniSpeechSatModel,
        Wav2Vec2Config,
        Wav2Vec2Model,
        WavLMConfig,
        WavLMModel,
    )

    families = {
        "hubert": (HubertConfig, HubertModel),
        "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
        "unispeech": (UniSpeechConfig, UniSpeechModel),
        "unispeech-sat": (UniSpeechSatConfig, UniSpeechSatModel),
        "wavlm": (WavLMConfig, WavLMModel),
    }

    @functools.cache
    def make(family: str = "hubert", dtype: torch.dtype = torch.float16, **overrides: object) -> Path:
        config_class, model_class = families[family]
        torch.manual_seed(1)
        model = model_class(config_class(**{**SMALL, **overrides}))
        with torch.no_grad():  # away from the initial values, where zero biases and unit scales hide mistakes
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        folder = tmp_path_factory.mktemp(f"{family}-random")
        model.to(dtype).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def waves() -> list[np.ndarray]:
    """Tones in noise, of very unequal lengths: 0.1 s beside 3 s, and every kind of convolution tail."""
    rng = np.random.default_rng(3)
    lengths = [48_000, 1_600, 16_000, 1_601, 5_000, 2_559, 2_560, 2_561, 31_999, 8_123]
    made = []
    for length in lengths:
        time_s = np.arange(length) / 16_000
        tone = np.sin(2 * np.pi * rng.uniform(100, 3000) * time_s) * np.exp(-rng.uniform(0, 3) * time_s)
        made.append((rng.uniform(0.05, 0.7) * tone + 0.05 * rng.standard_normal(length)).astype(np.float32))
    return made


@pytest.fixture
def quantizer() -> CodebookQuantizer:
    """A quantizer on log-mel features with a random codebook."""
    centroids = np.random.default_rng(0).normal(-8.0, 3.0, (12, 20)).astype(np.float32)
    return CodebookQuantizer(LogMelEncoder(n_mels=20), centroids)
