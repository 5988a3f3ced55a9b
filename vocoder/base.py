"""A unit vocoder ready for use: generator, unit inventory and speakers in one folder; speaks sequences of any length.

Shape legend: B batch, T units or frames, S samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from units.errors import InputError
from units.types import UnitSequence, UnitSpec
from vocoder.folder import Parts, read_vocoder, write_vocoder
from vocoder.hifigan import UnitHiFiGAN
from vocoder.weights import round_weights
from vocoder.windows import Block, windows

CHUNK_FRAMES = 400


class UnitVocoder:
    """Speaks unit sequences; the `Vocoder` protocol of `units.types`.

    Args:
        generator: with plain weights (`fold_weight_norm`); put into evaluation mode.
        spec: inventory of the units it was trained on.
        speakers: names of the speaker table's rows, in order; empty for a single-speaker generator. The first is
            the default voice.
        device: where to run.
        chunk_frames: frames synthesized at a time; bounds the memory.

    Raises:
        InputError: spec, speakers and the generator's sizes do not fit together.
    """

    def __init__(
        self,
        generator: UnitHiFiGAN,
        spec: UnitSpec,
        speakers: Sequence[str] = (),
        *,
        device: str | torch.device = "cpu",
        chunk_frames: int = CHUNK_FRAMES,
    ) -> None:
        config = generator.config
        if config.num_embeddings != spec.n_units:
            raise InputError(
                f"vocoder: expected a generator of {spec.n_units} units as its UnitSpec says, "
                f"got {config.num_embeddings}; use the spec it was trained with"
            )
        samples = config.hop_length * config.frames_per_unit
        if round(spec.frame_rate * samples) != config.sampling_rate:
            raise InputError(
                f"vocoder: expected {config.sampling_rate} Hz = frame rate x hop, got {spec.frame_rate} x "
                f"{samples}; correct sampling_rate or upsample_rates"
            )
        if len(speakers) > config.num_speakers or bool(speakers) != config.multispkr:
            rows = config.num_speakers if config.multispkr else 0
            raise InputError(
                f"vocoder: expected names for at most {rows} speakers, got {len(speakers)}; correct speakers"
            )
        if chunk_frames < 1:
            raise InputError(
                f"vocoder: expected chunk_frames >= 1, got {chunk_frames}; use the default {CHUNK_FRAMES}"
            )
        self.generator = generator.to(device).eval()
        self.spec = spec
        self.speakers = tuple(speakers)
        self.sample_rate = config.sampling_rate
        self.device = torch.device(device)
        self.chunk_frames = chunk_frames

    def __call__(
        self,
        units: UnitSequence,
        speaker: str | None = None,
        *,
        predict_durations: bool | None = None,
        f0: np.ndarray | None = None,
    ) -> np.ndarray:
        """Speak a sequence.

        Args:
            units: the sequence; its durations are used where given.
            speaker: a name of `speakers`; None for the default voice.
            predict_durations: whether to predict durations where the sequence has none. None: predict iff no unit
                follows itself (a deduplicated sequence) and the generator can.
            f0: needed iff the generator has an F0 input: values scaled as in its training, float32, or bins, int64;
                one per frame, or `config.frames_per_unit` per frame. For a generator with an F0 quantizer: the
                curve (n,) float32, whose codes must divide the frames, or the codes, int64.

        Returns:
            (n_frames * frames_per_unit * hop,) float32 in (-1, 1).

        Raises:
            UnitSpecMismatch: the units belong to another inventory.
            InputError: unknown speaker, durations must be predicted and cannot be, or F0 that does not fit.
        """
        pieces = list(self.stream(units, speaker, predict_durations=predict_durations, f0=f0))
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)

    def stream(
        self,
        units: UnitSequence,
        speaker: str | None = None,
        *,
        predict_durations: bool | None = None,
        f0: np.ndarray | None = None,
    ) -> Iterator[np.ndarray]:
        """Speak a sequence piece by piece, in memory that does not grow with its length.

        Each piece is synthesized with the frames around it that can influence it, so the pieces, joined, equal the
        whole up to rounding. Arguments and errors as `__call__`.

        Yields:
            (n,) float32, at most `chunk_frames` frames each.
        """
        self.spec.require_equal(units.spec, "vocoder", "units")
        yield from self._speak([self._with_f0(self._frames(units, predict_durations), f0)], speaker)

    def stream_frames(
        self,
        blocks: Iterable[tuple[np.ndarray, np.ndarray | None]],
        speaker: str | None = None,
        *,
        chunk_frames: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Speak frames while they come: the samples are those of all of them at once.

        Args:
            blocks: frame-level units (F,) of this vocoder's inventory, F at least 1, and F0 as in `__call__`. They are
                asked for when they are needed, the first before the first piece.
            speaker: as in `__call__`.
            chunk_frames: of a piece; None for the vocoder's. Other pieces give other samples, by rounding.
        Yields: as `stream`. A piece comes as soon as the frames that can influence it are there.
        Raises: InputError as `__call__`, and for a generator that makes codes of a whole F0 curve.
        """
        if self.generator.config.f0_quantizer is not None:
            raise InputError(
                "vocoder: expected one that reads F0 frame by frame, got one that reads codes of whole F0 curves; "
                "speak when all is there"
            )
        made = (self._with_f0(frames, f0) for frames, f0 in blocks)
        yield from self._speak(made, speaker, chunk_frames)

    def _speak(
        self, blocks: Iterable[Block], speaker: str | None, chunk_frames: int | None = None
    ) -> Iterator[np.ndarray]:
        """Synthesize input frames piece by piece."""
        speaker_B, hop = self._speaker(speaker), self.generator.config.hop_length
        context = self.generator.config.context_frames
        for window in windows(blocks, chunk_frames or self.chunk_frames, context):
            frames_BT = torch.from_numpy(window.frames).unsqueeze(0).to(self.device)
            f0_BF = None if window.f0 is None else window.f0.unsqueeze(0)
            with torch.inference_mode():
                wave_BS = self.generator(frames_BT, speaker_B, f0_BF)
            yield wave_BS[0, window.first * hop : window.stop * hop].cpu().numpy()

    def _frames(self, units: UnitSequence, predict_durations: bool | None) -> np.ndarray:
        """One unit per frame: (n_frames,) int64."""
        if units.durations is not None or len(units.units) == 0:
            return units.expand().units
        if predict_durations is None:
            can_predict = self.generator.config.dur_predictor_params is not None
            predict_durations = can_predict and not bool((units.units[1:] == units.units[:-1]).any())
        if not predict_durations:
            return units.units
        if self.generator.config.dur_predictor_params is None:
            raise InputError(
                "vocoder: expected units with durations (it has no duration predictor), got none; add them"
            )
        units_BT = torch.from_numpy(units.units).unsqueeze(0).to(self.device)
        with torch.inference_mode():
            durations = self.generator.predict_durations(units_BT)[0].cpu().numpy()
        return np.repeat(units.units, durations)

    def _with_f0(self, frames: np.ndarray, f0: np.ndarray | None) -> tuple[np.ndarray, torch.Tensor | None]:
        """Bring units and F0 to one input frame each: (F,) int64 and (F,) values, bins or codes on the device."""
        config = self.generator.config
        if (f0 is not None) != config.f0:
            wanted = "F0, one value per frame," if config.f0 else "no F0"
            raise InputError(
                f"vocoder: expected {wanted} as its generator was trained, got {'none' if f0 is None else 'some'}; "
                f"{'pass f0, measured on the recording' if config.f0 else 'leave f0 out'}, or use another vocoder"
            )
        if f0 is None or not len(frames):
            return frames, None if f0 is None else torch.zeros(0, device=self.device)
        f0_F = torch.from_numpy(np.ascontiguousarray(f0)).to(self.device)
        f0_F = f0_F.float() if f0_F.is_floating_point() else f0_F.long()
        if config.f0_quantizer is not None and f0_F.is_floating_point():
            f0_F = self.generator.quantizer(f0_F.unsqueeze(0))[0]
        frames = np.repeat(frames, config.frames_per_unit)
        fits = len(f0_F) and len(frames) % len(f0_F) == 0
        if not fits or (config.f0_quantizer is None and len(frames) // len(f0_F) > config.frames_per_unit):
            raise InputError(
                f"F0: expected a value for each of {len(frames) // config.frames_per_unit} frames "
                f"({config.frames_per_unit} at most), got {len(f0_F)} values; measure it on the same recording"
            )
        return frames, f0_F.repeat_interleave(len(frames) // len(f0_F))

    def _speaker(self, speaker: str | None) -> torch.Tensor | None:
        if speaker is not None and speaker not in self.speakers:
            choices = ", ".join(self.speakers) or "none: it has a single voice"
            raise InputError(
                f"vocoder: expected a speaker among ({choices}), got {speaker!r}; choose one of these"
            )
        if not self.speakers:
            return None
        row = 0 if speaker is None else self.speakers.index(speaker)
        return torch.tensor([row], device=self.device)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write config.json and model.safetensors, each atomically.

        Args:
            folder: made where missing; files of these names are replaced.
            dtype: of the stored weights; torch.float16 halves the file.
        """
        write_vocoder(folder, Parts(self.generator, self.spec, self.speakers), dtype)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str | torch.device = "cpu",
        chunk_frames: int = CHUNK_FRAMES,
        precision: str = "float32",
    ) -> UnitVocoder:
        """Read what `save` wrote.

        precision: of the convolutions: "float32", or "bf16", which is about twice as fast where the processor has
            bfloat16, and lets the wave sound 40 dB below itself.

        Raises:
            InputError: a file is missing, unreadable, or does not fit the others; an unknown precision.
        """
        parts = read_vocoder(folder)
        if precision not in ("float32", "bf16"):
            raise InputError(f"precision: expected float32 or bf16, got {precision!r}; name one of them")
        if precision == "bf16":
            round_weights(parts.generator)
        return cls(parts.generator, parts.spec, parts.speakers, device=device, chunk_frames=chunk_frames)
