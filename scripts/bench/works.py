"""Every work that is compared, by name, with the ways to do it: one list for seconds and for memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from scripts.bench.alternating import CPU, Ways
from scripts.bench.audio_units import audio_to_units
from scripts.bench.dims import Dims
from scripts.bench.generation import generation
from scripts.bench.prompt_work import labelling, training
from scripts.bench.vocoding import vocoding
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.vocab import UnitVocab


def random_lm(config: TransformerConfig, device: torch.device = CPU) -> GSLM:
    """A frozen language model of 100 units with random weights.

    Args:
        config: dimensions.
        device: where it computes.
    """
    lm = GSLM(config, UnitVocab.from_n_units(100)).initialise(seed=0).to(device)
    lm.freeze()
    return lm


def works(dims: Dims, device: torch.device = CPU) -> dict[str, Callable[[], Ways]]:
    """What is compared; each is built, on random weights, when its function is called.

    Args:
        dims: how large.
        device: that computes.
    """

    @cache
    def lm() -> GSLM:
        return random_lm(dims.lm, device)

    return {
        "prompt-training step": lambda: training(lm(), dims.n_rows),
        "labelling": lambda: labelling(lm(), dims.n_rows),
        "generation, batch 1": lambda: generation(lm(), 1, dims.n_seed, dims.n_units),
        "generation, batch 16": lambda: generation(lm(), 16, dims.n_seed, dims.n_units),
        "audio to units": lambda: audio_to_units(
            dims.hubert, dims.layer, dims.n_waves, dims.longest_s, device
        ),
        "vocoder": lambda: vocoding(dims.vocoder, dims.n_frames, device),
    }
