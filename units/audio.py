"""Audio files to mono float32 at one sample rate, and back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

from units.atomic import atomic_path
from units.errors import AudioError
from units.types import Wave

SAMPLE_RATE = 16_000  # Hz, of every encoder in the HuBERT family
MIN_SECONDS = 0.025  # one analysis window: less gives not a single frame
_WRITABLE = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> Wave:
    """Read any file that libsndfile reads (WAV, FLAC, OGG, MP3, ...), mix it to mono and resample it (soxr HQ).

    Returns (n_samples,) float32 at `sample_rate` Hz.
    Raises AudioError: missing, empty, not audio, no samples, NaN or infinite samples, or shorter than
    `MIN_SECONDS`.
    """
    file = _existing(path)
    try:
        samples_NC, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: .raw, which says no sample rate
        raise _not_audio(file, error) from error
    if len(samples_NC) == 0:
        raise AudioError(f"{file}: expected audio, got 0 samples; record it again or remove it from the list")
    if not np.isfinite(samples_NC).all():
        n_bad = int((~np.isfinite(samples_NC)).any(axis=1).sum())
        raise AudioError(
            f"{file}: expected finite samples, got {n_bad} NaN or infinite; export it again as PCM"
        )
    duration_s = len(samples_NC) / rate
    if duration_s < MIN_SECONDS:
        raise AudioError(
            f"{file}: expected at least {MIN_SECONDS * 1000:.0f} ms of audio, "
            f"got {duration_s * 1000:.1f} ms; use a longer recording"
        )
    wave_N = samples_NC.mean(axis=1, dtype=np.float32) if samples_NC.shape[1] > 1 else samples_NC[:, 0]
    if rate != sample_rate:
        wave_N = soxr.resample(wave_N, rate, sample_rate, quality="HQ")
    return np.ascontiguousarray(wave_N, dtype=np.float32)


def write_audio(path: str | Path, wave: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a mono wave (n_samples,), atomically; 16-bit PCM for .wav and .flac, Vorbis for .ogg.

    Samples beyond [-1, 1] are clipped: 16-bit audio has no room for them.
    Raises AudioError: another suffix, not one-dimensional, NaN or infinite samples.
    """
    file = Path(path)
    container = _WRITABLE.get(file.suffix.lower())
    if container is None:
        raise AudioError(
            f"{file}: expected a name ending in {', '.join(_WRITABLE)}, got {file.suffix!r}; rename it"
        )
    wave_N = np.asarray(wave, dtype=np.float32)
    if wave_N.ndim != 1 or not np.isfinite(wave_N).all():
        raise AudioError(
            f"{file}: expected finite samples of shape (n_samples,), got shape {wave_N.shape} "
            f"with {int((~np.isfinite(wave_N)).sum())} not finite; nothing was written"
        )
    subtype = "VORBIS" if container == "OGG" else "PCM_16"
    encoded = io.BytesIO()  # written by Python: libsndfile would hide from the caller that a disk is full
    soundfile.write(encoded, wave_N.clip(-1.0, 1.0), sample_rate, format=container, subtype=subtype)
    with atomic_path(file) as temporary:
        temporary.write_bytes(encoded.getvalue())


def audio_duration_s(path: str | Path) -> float:
    """Read a file's length in seconds from its header. Raises AudioError: missing, empty, or not audio."""
    file = _existing(path)
    try:
        return float(soundfile.info(file).duration)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: .raw, which says no sample rate
        raise _not_audio(file, error) from error


def _existing(path: str | Path) -> Path:
    file = Path(path)
    if not file.is_file():
        found = "a folder" if file.is_dir() else "no such file"
        raise AudioError(f"{file}: expected an audio file, got {found}; check the path")
    if file.stat().st_size == 0:
        raise AudioError(f"{file}: expected audio, got an empty file; record or download it again")
    return file


def _not_audio(file: Path, error: Exception) -> AudioError:
    reason = getattr(error, "error_string", str(error)).rstrip(".")
    return AudioError(
        f"{file}: expected WAV, FLAC, OGG or MP3 audio, got something that libsndfile cannot read "
        f"({reason}); convert it to WAV"
    )
