"""Mean features of whole recordings, of every layer that the encoder gives, computed once and kept in the cache folder.

A head that weighs layers and then maps linearly gives the same on the mean of frames as the mean of what it gives on
frames: the means are all that it needs, and a thousandth of the room.

Shapes: N recordings, K layers, D features, F frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import soxr
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from speechprompt.cache_folder import cache_folder
from speechprompt.methods.base import MethodError
from speechprompt.stack import Stack
from speechprompt.task_units import cache_key
from speechprompt.tracked import tracked
from speechprompt.views import View
from tasks.base import Utterance
from units.atomic import atomic_path
from units.audio import read_audio
from units.corpus import CorpusEntry
from units.encoders.hubert import HubertEncoder
from units.errors import AudioError
from units.quantizer import length_batches
from units.types import Encoder

_FILES_AT_ONCE = 256  # per cache file: what a killed run loses at most
_MAX_BATCH_S, _MAX_PIECE_S = 60.0, 60.0  # padded audio per batch; a longer recording is encoded in pieces
_KEY = "mean_NKD"


def mean_features(
    utterances: Sequence[Utterance], stack: Stack, *, speed: float = 1.0, progress: bool = False
) -> Tensor:
    """Means over time (N, K, D) float32, on the CPU, of what the stack's encoder makes of recordings.

    K: the encoder's input to its first layer and the layers up to the one that gives units, or that one alone for an
    encoder that has no others. speed: recordings are played so many times as fast.
    Raises: MethodError for utterances without audio; AudioError for a recording that cannot be used.
    """
    starts = range(0, len(utterances), _FILES_AT_ONCE)
    shown = tracked(starts, "encoding", progress=progress)
    parts = [_part(utterances[start : start + _FILES_AT_ONCE], stack, speed) for start in shown]
    return torch.from_numpy(np.concatenate(parts))


def _part(utterances: Sequence[Utterance], stack: Stack, speed: float) -> np.ndarray:
    entries = []
    for utterance in utterances:
        if utterance.path is None:
            raise MethodError(
                f"head: expected recordings, got units alone for {utterance.id}; give the task's audio, or choose "
                "another method"
            )
        entries.append(
            CorpusEntry(utterance.id, utterance.path, start_s=utterance.start_s, end_s=utterance.end_s)
        )
    file = cache_folder() / "features" / f"{cache_key(entries, stack, View(speed))}.safetensors"
    try:
        return load_file(file)[_KEY]
    except (FileNotFoundError, SafetensorError, KeyError):  # none yet, or a damaged one: it is made anew
        means_NKD = np.stack(list(_means(entries, stack, speed)))
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            save_file({_KEY: means_NKD}, temporary)
        return means_NKD


def _means(entries: Sequence[CorpusEntry], stack: Stack, speed: float) -> Iterator[np.ndarray]:
    """One (K, D) float32 for each recording, of a segment alone where it is one, in order."""
    encoder, rate = stack.quantizer.encoder, stack.quantizer.sample_rate
    pieces: list[np.ndarray] = []
    owners: list[int] = []
    for owner, entry in enumerate(entries):
        wave = read_audio(entry.path, rate, start_s=entry.start_s, end_s=entry.end_s)
        if speed != 1.0:
            wave = soxr.resample(wave, rate * speed, rate, quality="HQ")
        if encoder.n_frames(len(wave)) == 0:
            raise AudioError(
                f"{entry.path}: expected a frame of audio at least, got {len(wave)} samples; leave it out"
            )
        parts = np.array_split(wave, -(-len(wave) // round(_MAX_PIECE_S * rate)))
        pieces.extend(parts)
        owners.extend([owner] * len(parts))
    sums: dict[int, np.ndarray] = {}
    n_frames = dict.fromkeys(range(len(entries)), 0)
    for batch in length_batches([len(piece) for piece in pieces], round(_MAX_BATCH_S * rate)):
        h_BKFD, counts_B = _layers(encoder, [pieces[i] for i in batch])
        sums_BKD = h_BKFD.sum(2, dtype=torch.float64).cpu().numpy()
        for i, sum_KD, count in zip(batch, sums_BKD, counts_B.tolist(), strict=True):
            sums[owners[i]] = sums.get(owners[i], 0.0) + sum_KD
            n_frames[owners[i]] += count
    for owner in range(len(entries)):
        yield (sums[owner] / n_frames[owner]).astype(np.float32)


def _layers(encoder: Encoder, waves: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Features of every layer (B, K, F, D), zero beyond a row's frames, and frame counts (B,)."""
    if isinstance(encoder, HubertEncoder):
        return encoder.encode_layers(waves)
    features_BFD, counts_B = encoder.encode(waves)
    return features_BFD[:, None], counts_B
