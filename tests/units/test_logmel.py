"""Log-mel frames lie as HuBERT's, show what is played, and do not depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from units.encoders.logmel import LogMelEncoder, mel_filterbank
from units.errors import AudioError, InputError
from units.types import Encoder


def test_batches_are_exact(waves: list[np.ndarray]) -> None:
    encoder = LogMelEncoder()
    assert isinstance(encoder, Encoder)
    together_BFM, counts_B = encoder.encode(waves)
    assert counts_B.tolist() == [encoder.n_frames(len(wave)) for wave in waves]
    for row_FM, count, wave in zip(together_BFM, counts_B.tolist(), waves, strict=True):
        assert torch.equal(row_FM[:count], encoder.encode([wave])[0][0])
        assert not row_FM[count:].any()


@pytest.mark.parametrize("n_samples", [400, 719, 720, 16_000, 16_079, 16_080])
def test_frames_lie_as_in_hubert(n_samples: int) -> None:
    encoder = LogMelEncoder(40)
    assert encoder.n_frames(n_samples) == 1 + (n_samples - 400) // 320
    assert encoder.encode([np.ones(n_samples, np.float32)])[0].shape == (1, encoder.n_frames(n_samples), 40)


def test_the_loudest_band_is_the_one_that_holds_the_tone() -> None:
    n_mels = 40
    highest_mel = 2595 * np.log10(1 + 8000 / 700)
    for hz in (300.0, 1000.0, 3000.0):
        tone = np.sin(2 * np.pi * hz * np.arange(8000) / 16_000).astype(np.float32)
        features_1FM, _ = LogMelEncoder(n_mels).encode([tone])
        band = 2595 * np.log10(1 + hz / 700) / highest_mel * (n_mels + 1) - 1
        assert (features_1FM[0].argmax(dim=1) - band).abs().max() <= 1


def test_ten_times_the_amplitude_is_two_ln_10_more() -> None:
    noise = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    quiet, _ = LogMelEncoder().encode([noise])
    loud, _ = LogMelEncoder().encode([10 * noise])
    torch.testing.assert_close(loud - quiet, torch.full_like(loud, 2 * np.log(10)), atol=1e-4, rtol=0)


def test_silence_is_the_floor() -> None:
    features, _ = LogMelEncoder(floor=1e-6).encode([np.zeros(1000, np.float32)])
    torch.testing.assert_close(features, torch.full_like(features, np.log(1e-6)))


def test_filters_share_every_frequency() -> None:
    filters_RM = mel_filterbank(512, 80, 16_000)
    assert filters_RM.shape == (257, 80) and filters_RM.min() >= 0 and filters_RM.max() <= 1
    inner_R = filters_RM.sum(dim=1)[4:-12]  # between the first and the last centre
    torch.testing.assert_close(inner_R, torch.ones_like(inner_R))  # neighbouring triangles add up to one


def test_user_errors() -> None:
    with pytest.raises(InputError, match="use fewer"):
        LogMelEncoder(400)
    with pytest.raises(AudioError, match=r"at least 25 ms.*24\.9 ms"):
        LogMelEncoder().encode([np.zeros(399, np.float32)])
