import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocoder.config import DurationPredictorConfig, HiFiGANConfig
from vocoder.hifigan import UnitHiFiGAN
from vocoder.weights import add_weight_norm, fold_weight_norm, folded_state_dict

TINY = HiFiGANConfig(
    num_embeddings=20,
    embedding_dim=8,
    upsample_initial_channel=32,
    resblock_kernel_sizes=(3, 5),
    resblock_dilation_sizes=((1, 3), (1, 2)),
    multispkr=True,
    num_speakers=3,
    dur_predictor_params=DurationPredictorConfig(8, 8),
)


def make(config: HiFiGANConfig = TINY) -> UnitHiFiGAN:
    torch.manual_seed(0)
    return UnitHiFiGAN(config).eval()


def units_and_speaker(n_frames: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(20, (2, n_frames), generator=generator), torch.tensor([0, 2])


@torch.inference_mode()
def test_hop_samples_per_frame_within_full_scale() -> None:
    units_BT, speaker_B = units_and_speaker()
    wave_BS = make()(units_BT, speaker_B)
    assert wave_BS.shape == (2, 9 * 320)
    assert wave_BS.dtype == torch.float32
    assert wave_BS.abs().max() < 1


@torch.inference_mode()
def test_a_fresh_generator_is_quiet_but_lets_the_units_through() -> None:
    config = HiFiGANConfig(upsample_initial_channel=128)
    wave_BS = make(config)(torch.arange(100).unsqueeze(0))
    rms = wave_BS.square().mean().sqrt()
    assert 0.003 < rms < 0.3
    assert wave_BS.std() > 0.5 * rms  # a wave, not an offset


@torch.inference_mode()
def test_rows_do_not_mix_and_the_speaker_is_heard() -> None:
    generator = make()
    units_BT, speaker_B = units_and_speaker()
    wave_BS = generator(units_BT, speaker_B)
    torch.testing.assert_close(generator(units_BT[1:], speaker_B[1:]), wave_BS[1:], atol=1e-5, rtol=0)
    other_BS = generator(units_BT[:1], torch.tensor([1]))
    assert (other_BS - wave_BS[:1]).abs().max() > 1e-3


@torch.inference_mode()
def test_weight_norm_changes_nothing_and_folds_back() -> None:
    generator = make()
    units_BT, speaker_B = units_and_speaker()
    plain = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    wave_BS = generator(units_BT, speaker_B)
    add_weight_norm(generator)
    assert any("parametrizations" in name for name in generator.state_dict())
    torch.testing.assert_close(generator(units_BT, speaker_B), wave_BS, atol=1e-5, rtol=0)
    torch.testing.assert_close(folded_state_dict(dict(generator.state_dict())), plain)
    fold_weight_norm(generator)
    torch.testing.assert_close(dict(generator.state_dict()), plain)


def test_published_key_names_of_weight_norm_fold() -> None:
    generator = make()
    add_weight_norm(generator)
    published = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in generator.state_dict().items()
    }
    assert "ups.0.weight_g" in published
    assert "dur_predictor.conv1.0.weight" in published
    make().load_state_dict(folded_state_dict(published), strict=True)


@settings(max_examples=8, deadline=None)
@given(
    stages=st.lists(st.sampled_from([(5, 11), (4, 8), (2, 4), (2, 2), (3, 9)]), min_size=1, max_size=3),
    kernel_size=st.sampled_from([1, 3, 7]),
    dilations=st.sampled_from([(1,), (1, 3), (2, 5)]),
    place=st.integers(0, 39),
)
@torch.inference_mode()
def test_a_unit_is_heard_within_the_context_only(
    stages: list[tuple[int, int]], kernel_size: int, dilations: tuple[int, ...], place: int
) -> None:
    config = HiFiGANConfig(
        num_embeddings=4,
        embedding_dim=4,
        upsample_rates=tuple(rate for rate, _ in stages),
        upsample_kernel_sizes=tuple(kernel for _, kernel in stages),
        upsample_initial_channel=8,
        resblock_kernel_sizes=(kernel_size,),
        resblock_dilation_sizes=(dilations,),
    )
    generator = make(config).double()
    units_BT = torch.zeros(1, 40, dtype=torch.int64)
    other_BT = units_BT.clone()
    other_BT[0, place] = 1
    heard = (generator(units_BT) != generator(other_BT))[0].nonzero()
    assert len(heard)
    hop, context = config.hop_length, config.context_frames
    assert (place - context) * hop <= heard.min()
    assert heard.max() < (place + 1 + context) * hop


@torch.inference_mode()
def test_durations_are_at_least_one_frame_and_none_at_padding() -> None:
    units_BT, _ = units_and_speaker()
    mask_BT = torch.ones_like(units_BT, dtype=torch.bool)
    mask_BT[0, 5:] = False
    duration_BT = make().predict_durations(units_BT, mask_BT)
    assert duration_BT.dtype == torch.int64
    assert (duration_BT[mask_BT] >= 1).all()
    assert (duration_BT[~mask_BT] == 0).all()


@torch.inference_mode()
def test_inputs_that_do_not_fit_the_model_are_refused() -> None:
    units_BT, speaker_B = units_and_speaker()
    with pytest.raises(ValueError, match="speaker"):
        make()(units_BT)
    with pytest.raises(ValueError, match="F0"):
        make()(units_BT, speaker_B, torch.zeros(2, 9))
    pitched = make(dataclasses.replace(TINY, multispkr=False, model_in_dim=0, f0=True))
    with pytest.raises(ValueError, match="speaker"):
        pitched(units_BT, speaker_B, torch.zeros(2, 9))
    with pytest.raises(ValueError, match="multiple"):
        pitched(units_BT, None, torch.zeros(2, 10))
    assert pitched(units_BT, None, torch.zeros(2, 18)).shape == (2, 18 * 320)
