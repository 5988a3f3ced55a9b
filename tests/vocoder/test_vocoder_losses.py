import math

import pytest
import torch

from vocoder.losses import (
    MelLoss,
    MelSpectrogram,
    StftLoss,
    adversarial_loss,
    discriminator_loss,
    duration_loss,
    feature_matching_loss,
    mel_filterbank,
)


def tone(frequency_hz: float, n_samples: int = 4096, amplitude: float = 0.5) -> torch.Tensor:
    time_s = torch.arange(n_samples) / 16_000
    return amplitude * torch.sin(2 * math.pi * frequency_hz * time_s).unsqueeze(0)


def test_filters_have_unit_area_and_cover_the_band() -> None:
    filters = mel_filterbank(40, 4096, 16_000, 0.0, 8000.0)
    assert filters.shape == (40, 2049)
    areas = filters.sum(dim=1) * 16_000 / 4096
    torch.testing.assert_close(areas, torch.ones(40), atol=0.02, rtol=0)
    assert (filters[:, 10:-10].sum(dim=0) > 0).all()


def test_filters_are_linear_below_1_khz_and_logarithmic_above() -> None:
    filters = mel_filterbank(80, 16384, 16_000, 0.0, 8000.0)
    peaks_hz = filters.argmax(dim=1) * 16_000 / 16384
    low, high = peaks_hz[peaks_hz < 900], peaks_hz[peaks_hz > 1200]
    assert low.diff().max() - low.diff().min() < 3
    ratios = high[1:] / high[:-1]
    assert ratios.max() - ratios.min() < 0.003


@pytest.mark.parametrize("frequency_hz", [300.0, 1000.0, 3500.0])
def test_a_tone_is_loudest_in_its_band(frequency_hz: float) -> None:
    spectrogram = MelSpectrogram()
    log_mel = spectrogram(tone(frequency_hz))[0, :, 4:-4].mean(dim=1)
    peak_hz = spectrogram.filters[log_mel.argmax()].argmax() * 16_000 / 1024
    assert abs(peak_hz - frequency_hz) < 0.1 * frequency_hz


def test_frames_are_samples_over_hop() -> None:
    assert MelSpectrogram()(torch.randn(2, 2560)).shape == (2, 80, 10)


def test_mel_loss_of_a_gain_is_its_logarithm() -> None:
    torch.manual_seed(0)
    wave_BS = 0.1 * torch.randn(2, 8192)
    loss = MelLoss(resolutions=((1024, 256, 80), (512, 128, 40)))
    assert loss(wave_BS, wave_BS) == 0
    assert loss(2 * wave_BS, wave_BS).item() == pytest.approx(math.log(2), rel=1e-3)


def test_stft_loss_ranks_waves_by_likeness() -> None:
    torch.manual_seed(0)
    target_BS = tone(440.0)
    loss = StftLoss()
    near, far = (loss(target_BS + level * torch.randn_like(target_BS), target_BS) for level in (0.01, 0.1))
    assert loss(target_BS, target_BS) == 0
    assert 0 < near < far


@pytest.mark.parametrize("loss", [MelLoss(), StftLoss()])
def test_silence_gives_finite_gradients(loss: MelLoss | StftLoss) -> None:
    wave_BS = torch.zeros(1, 4096, requires_grad=True)
    loss(wave_BS, torch.zeros(1, 4096)).backward()
    loss(wave_BS, tone(440.0)).backward()
    assert wave_BS.grad is not None
    assert wave_BS.grad.isfinite().all()


def test_least_squares_targets() -> None:
    ones, zeros = [torch.ones(2, 3), torch.ones(2, 5)], [torch.zeros(2, 3), torch.zeros(2, 5)]
    assert discriminator_loss(ones, zeros) == 0
    assert discriminator_loss(zeros, ones) == 4
    assert adversarial_loss(ones) == 0
    assert adversarial_loss(zeros) == 2


def test_feature_matching_pulls_the_generated_only() -> None:
    real, fake = torch.zeros(1, 4, requires_grad=True), torch.full((1, 4), 3.0, requires_grad=True)
    loss = feature_matching_loss([[real], [real]], [[fake], [fake]])
    loss.backward()
    assert loss == 6
    assert real.grad is None
    assert fake.grad is not None and (fake.grad > 0).all()


def test_duration_loss_reads_log_frames_plus_one_of_real_units_only() -> None:
    duration_BT = torch.tensor([[1, 4, 0]])
    mask_BT = duration_BT > 0
    exact_BT = torch.log(torch.tensor([[2.0, 5.0, 99.0]]))
    assert duration_loss(exact_BT, duration_BT, mask_BT) == 0
    assert duration_loss(exact_BT + 2, duration_BT, mask_BT).item() == pytest.approx(4)
