"""Encoder and codebook together: waves to units, in batches of bounded size.

Shapes: B waves in a batch, F frames, D features, K centroids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from units.errors import AudioError
from units.kmeans import assign, codebook_id
from units.types import Encoder, UnitSequence, UnitSpec

_CONTEXT_S = 1.0  # audio heard on both sides of a piece cut from a long wave
# Seconds of audio of which a CPU makes no more by reading them together: clips of 1 s gain a fifth in a batch of 24
# (HuBERT base), those of 3 s nothing.
_CPU_ENOUGH_S = 4.0
_MOST_PADDING = 0.1  # of a batch's longest row, where the batch has enough


class CodebookQuantizer:
    """The nearest centroid of every frame; an `units.types.Quantizer`.

    An utterance's units do not depend on the others it is given with, but for frames that lie equally far, to
    float rounding, from two centroids.
    """

    def __init__(
        self, encoder: Encoder, centroids: np.ndarray, *, max_batch_s: float = 60.0, max_wave_s: float = 60.0
    ) -> None:
        """Join an encoder with the centroids (K, D) fitted on its features.

        max_batch_s: padded seconds of audio per batch, which bounds memory.
        max_wave_s: a longer wave is encoded in pieces of this length, each heard with a second of context on
        both
            sides; attention then spans a piece, not the whole wave.
        """
        self.encoder = encoder
        self.sample_rate = encoder.sample_rate
        self.spec = UnitSpec(
            encoder=encoder.name,
            layer=encoder.layer,
            n_units=len(centroids),
            frame_rate=encoder.sample_rate / encoder.hop_length,
            codebook=codebook_id(centroids),
        )
        self.centroids = np.ascontiguousarray(centroids, dtype=np.float32)
        self._centroids_KD = torch.from_numpy(self.centroids)
        self._max_batch_samples = round(max_batch_s * self.sample_rate)
        on_cpu = torch.device(getattr(encoder, "device", "cpu")).type == "cpu"
        self._enough_samples = round(_CPU_ENOUGH_S * self.sample_rate) if on_cpu else None
        self._piece_frames = max(1, round(max_wave_s * self.spec.frame_rate))

    @property
    def precision(self) -> str:
        """Of the encoder's products: "float32", or "bf16", by which a frame in a thousand falls to another centroid."""
        return "bf16" if getattr(self.encoder, "dtype", torch.float32) == torch.bfloat16 else "float32"

    def __call__(self, waves: Sequence[np.ndarray]) -> list[UnitSequence]:
        """Quantize waves, each (n_samples,) float32 at `sample_rate` Hz, in order; one unit per frame.

        Raises AudioError: a wave too short for a single frame, or with samples that are not finite;
        UnitSpecMismatch: a codebook of another width than the features.
        """
        pieces: list[np.ndarray] = []
        cuts: list[tuple[int, slice]] = []  # for every piece: whose it is, which of its frames count
        for index, wave in enumerate(waves):
            self._check(wave)
            for piece, kept in self._cut(wave):
                pieces.append(piece)
                cuts.append((index, kept))
        units_of_piece: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * len(pieces)
        lengths = [len(piece) for piece in pieces]
        for batch in length_batches(lengths, self._max_batch_samples, enough=self._enough_samples):
            features_BFD, counts_B = self.encoder.encode([pieces[i] for i in batch])
            units_BF = assign(features_BFD, self._centroids_KD).cpu().numpy()
            for i, units_F, count in zip(batch, units_BF, counts_B.tolist(), strict=True):
                units_of_piece[i] = units_F[:count][cuts[i][1]]
        parts: list[list[np.ndarray]] = [[] for _ in waves]
        for (index, _), units in zip(cuts, units_of_piece, strict=True):
            parts[index].append(units)
        return [UnitSequence(np.concatenate(units), self.spec) for units in parts]

    def _check(self, wave: np.ndarray) -> None:
        if wave.ndim != 1 or not np.isfinite(wave).all():
            raise AudioError(
                f"wave: expected finite samples of shape (n_samples,), got shape {wave.shape} with "
                f"{int((~np.isfinite(wave)).sum())} not finite; read it with read_audio"
            )
        if self.encoder.n_frames(len(wave)) == 0:
            raise AudioError(
                f"wave: expected at least one frame for encoder {self.encoder.name}, got "
                f"{len(wave) / self.sample_rate * 1000:.1f} ms of audio; use a longer recording"
            )

    def _cut(self, wave: np.ndarray) -> Iterator[tuple[np.ndarray, slice]]:
        """Cut a wave into pieces with context; gives each with the slice of its frames that count.

        The counted frames of all pieces are, in order, exactly the frames of the whole wave.
        """
        n_frames, size = self.encoder.n_frames(len(wave)), self._piece_frames
        if n_frames <= size:
            yield wave, slice(None)
            return
        hop, context = self.encoder.hop_length, round(_CONTEXT_S * self.spec.frame_rate)
        for start in range(0, n_frames, size):
            stop = min(start + size, n_frames)
            heard_from = max(start - context, 0)
            heard_to = (stop + context) * hop if stop < n_frames else len(wave)
            yield wave[heard_from * hop : heard_to], slice(start - heard_from, stop - heard_from)


def length_batches(
    lengths: Sequence[int], max_total: int, *, enough: int | None = None
) -> Iterator[list[int]]:
    """Group indices so that similar lengths share a batch; rows times longest is at most `max_total`.

    The longest come first; an item longer than `max_total` is a batch of its own. enough: where rows times longest has
    reached it, a row that is shorter by more than a tenth begins a new batch, so that little is padding.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[batch[0]] if batch else 0
        is_filled = enough is not None and longest * len(batch) >= enough
        is_short = lengths[index] < (1 - _MOST_PADDING) * longest
        if batch and (longest * (len(batch) + 1) > max_total or (is_filled and is_short)):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
