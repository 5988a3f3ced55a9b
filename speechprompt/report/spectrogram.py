"""A wave as a grey spectrogram image: dark where there is energy, like ink on paper.

Shapes: N samples, F analysis frames, K frequency bins, R image rows, C image columns.
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_WINDOW_S = 0.025
_DYNAMIC_RANGE_DB = 65.0
_GREY_LEVELS = 32  # few levels compress well, and the eye sees no more in a picture this small
_MAX_COLUMNS = 640


def spectrogram_db(wave: np.ndarray, sample_rate: int, *, n_rows: int = 96) -> NDArray[np.float32]:
    """Compute a power spectrogram on a mel-spaced frequency axis.

    wave: (n_samples,) float in [-1, 1]; sample_rate: Hz.
    Returns (n_rows, n_columns) float32 in dB below the loudest point, at least -65; row 0 is the highest pitch.
    The mel scale is O'Shaughnessy's, 2595 log10(1 + f / 700).
    """
    window = round(_WINDOW_S * sample_rate)
    hop = max(len(wave) // _MAX_COLUMNS, window // 5)
    wave_N = np.pad(np.asarray(wave, dtype=np.float32), (window // 2, window))
    frames_FN = np.lib.stride_tricks.sliding_window_view(wave_N, window)[: max(len(wave), 1) : hop]
    power_FK = np.abs(np.fft.rfft(frames_FN * np.hanning(window), n=_fft_size(window))) ** 2
    edges = _mel_edges(n_rows, sample_rate, power_FK.shape[1])
    cumulative_FK = np.pad(np.cumsum(power_FK, axis=1), ((0, 0), (1, 0)))
    rows_FR = (cumulative_FK[:, edges[1:]] - cumulative_FK[:, edges[:-1]]) / np.diff(edges)
    level_RF = 10.0 * np.log10(np.maximum(rows_FR.T[::-1], 1e-12))
    return np.maximum(level_RF - level_RF.max(), -_DYNAMIC_RANGE_DB).astype(np.float32)


def spectrogram_image(wave: np.ndarray, sample_rate: int) -> str:
    """Draw a wave (n_samples,) at `sample_rate` Hz as a `data:image/png` address: white silent, black loud."""
    level_RC = spectrogram_db(wave, sample_rate) / _DYNAMIC_RANGE_DB + 1.0  # 0 silent .. 1 loudest
    steps_RC = np.round(level_RC * (_GREY_LEVELS - 1)) / (_GREY_LEVELS - 1)
    png = encode_grey_png((255 * (1.0 - steps_RC)).round().astype(np.uint8))
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def encode_grey_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (n_rows, n_columns) uint8 as an 8-bit grey PNG (ISO/IEC 15948: no filter, one IDAT chunk)."""
    n_rows, n_columns = pixels.shape
    header = struct.pack(">IIBBBBB", n_columns, n_rows, 8, 0, 0, 0, 0)
    scanlines = np.pad(pixels, ((0, 0), (1, 0))).tobytes()  # each line starts with its filter type, 0
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, body)
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines, 9)), (b"IEND", b""))
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _fft_size(window: int) -> int:
    """Bins of 10 Hz or less, finer than the lowest row of the mel axis."""
    return 1 << (4 * window - 1).bit_length()


def _mel_edges(n_rows: int, sample_rate: int, n_bins: int) -> NDArray[np.int64]:
    """Bin index where each row starts, (n_rows + 1,), strictly rising; the last is `n_bins`."""
    top_mel = 2595.0 * np.log10(1.0 + sample_rate / 2 / 700.0)
    hz = 700.0 * (10.0 ** (np.linspace(0.0, top_mel, n_rows + 1) / 2595.0) - 1.0)
    return np.round(hz / (sample_rate / 2) * n_bins).astype(np.int64)
