import torch

from vocoder.discriminators import (
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
    PeriodDiscriminator,
    WaveDiscriminator,
)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@torch.inference_mode()
def test_one_score_list_and_one_feature_list_per_discriminator() -> None:
    wave_BS = torch.randn(2, 1600)
    scores, features = WaveDiscriminator(periods=(2, 3), n_scales=2, width=1 / 16).eval()(wave_BS)
    assert len(scores) == len(features) == 4
    assert all(score.shape[0] == 2 and score.dim() == 2 for score in scores)
    assert [len(layers) for layers in features] == [6, 6, 8, 8]


@torch.inference_mode()
def test_judging_a_pair_is_judging_each() -> None:
    torch.manual_seed(0)
    discriminator = WaveDiscriminator(periods=(3,), n_scales=2, width=1 / 16).eval()
    real_BS, fake_BS = torch.randn(2, 1601), torch.randn(2, 1601)
    for judged, wave_BS in zip(discriminator.judge_pair(real_BS, fake_BS), (real_BS, fake_BS), strict=True):
        torch.testing.assert_close(judged, discriminator(wave_BS), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_period_discriminators_columns_are_judged_apart() -> None:
    torch.manual_seed(0)
    discriminator = PeriodDiscriminator(5, width=1 / 16)
    wave_BS = torch.randn(1, 500)
    changed_BS = wave_BS.clone()
    changed_BS[:, 2::5] += 1
    before = discriminator(wave_BS)[0].reshape(-1, 5)
    after = discriminator(changed_BS)[0].reshape(-1, 5)
    moved = (before - after).abs().amax(dim=0) > 1e-6
    assert moved.tolist() == [False, False, True, False, False]


def test_width_shrinks_and_full_width_is_the_published_one() -> None:
    full = MultiPeriodDiscriminator((2,))
    channels = [32, 128, 512, 1024, 1024]
    weights = sum(5 * a * b for a, b in zip([1, *channels[:-1]], channels, strict=True)) + 3 * 1024
    magnitudes_and_biases = 2 * (sum(channels) + 1)
    assert count(full) == weights + magnitudes_and_biases
    assert count(MultiPeriodDiscriminator((2,), 1 / 8)) < count(full) / 32
    assert count(MultiScaleDiscriminator(1, 1 / 32)) < count(MultiScaleDiscriminator(1, 1 / 16))


def test_none_of_either_kind() -> None:
    wave_BS = torch.randn(1, 400)
    assert len(WaveDiscriminator(periods=(), n_scales=1, width=1 / 16)(wave_BS)[0]) == 1
    assert len(WaveDiscriminator(periods=(2,), n_scales=0, width=1 / 16)(wave_BS)[0]) == 1
