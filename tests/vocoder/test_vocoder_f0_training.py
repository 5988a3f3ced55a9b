import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from units.errors import InputError
from units.types import UnitSequence, UnitSpec
from vocoder.base import UnitVocoder
from vocoder.config import DurationPredictorConfig, HiFiGANConfig
from vocoder.f0_codes import F0CodebookConfig, F0EncoderConfig, F0QuantizerConfig
from vocoder.hifigan import UnitHiFiGAN
from vocoder.losses import MelLoss
from vocoder.segments import SegmentSampler, VocoderExample
from vocoder.train import VocoderTraining, train_vocoder
from vocoder.trainer import VocoderTrainer

SPEC = UnitSpec("tones", 0, 6, 50.0, "0123456789ab")
HOP = 80
PLAIN = HiFiGANConfig(
    num_embeddings=6,
    embedding_dim=8,
    upsample_rates=(5, 4, 4),
    upsample_kernel_sizes=(11, 8, 8),
    upsample_initial_channel=32,
    resblock_kernel_sizes=(3,),
    resblock_dilation_sizes=((1, 3),),
    sampling_rate=50 * HOP,
    code_hop_size=HOP,
    multispkr=True,
    num_speakers=2,
    dur_predictor_params=DurationPredictorConfig(8, 8),
)
KINDS = {
    "values": dataclasses.replace(PLAIN, f0=True, model_in_dim=0),
    "bins": dataclasses.replace(PLAIN, f0=True, f0_quant_num_bin=5, model_in_dim=0),
}
SPEAKERS = ("anna", "bert")
MEL = (256, 64, 30)
TRAINING = VocoderTraining(
    steps=4,
    batch_size=2,
    segment_frames=8,
    lr=1e-3,
    adversarial_from_step=2,
    periods=(2,),
    n_scales=1,
    discriminator_width=1 / 32,
    stft_weight=1.0,
    mel_resolutions=(MEL,),
    stft_resolutions=((256, 64),),
    duration_batch_size=2,
    ema_decay=0.9,
    log_every=1,
    valid_every=2,
    checkpoint_every=2,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums in one order: equal bits in equal runs."""
    torch.set_num_threads(1)


def tone(hz: float, units: np.ndarray, speaker: int = 0, bins: bool = False) -> VocoderExample:
    """Three harmonics; F0 in octaves above 400 Hz, or the same as a bin."""
    time_s = np.arange(len(units) * HOP) / PLAIN.sampling_rate
    wave = sum(0.2 / k * np.sin(2 * np.pi * k * hz * time_s) for k in (1, 2, 3))
    f0 = np.full(len(units), np.log2(hz / 400), dtype=np.float32)
    return VocoderExample(np.float32(wave), units, speaker, np.round(f0 + 1).astype(np.int64) if bins else f0)


def tones(kind: str = "values") -> list[VocoderExample]:
    rng = np.random.default_rng(0)
    units = [np.repeat(rng.integers(6, size=8), 3) for _ in range(4)]
    return [tone((200, 800)[i % 2], ids, i // 2, kind == "bins") for i, ids in enumerate(units)]


def without_f0(example: VocoderExample) -> VocoderExample:
    return dataclasses.replace(example, f0=None)


def train(out: Path, kind: str, training: VocoderTraining = TRAINING, **options: object) -> bool:
    result = train_vocoder(
        KINDS[kind],
        tones(kind),
        out,
        training,
        spec=SPEC,
        speakers=SPEAKERS,
        valid_examples=tones(kind)[:2],
        **options,  # type: ignore[arg-type]
    )
    return result.finished


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(UnitVocoder.load(folder).generator.state_dict())


def plain_vocoder() -> UnitVocoder:
    """Without F0; loud, so that a difference would be heard."""
    torch.manual_seed(5)
    generator = UnitHiFiGAN(PLAIN)
    with torch.no_grad():
        generator.conv_post.weight *= 30
    return UnitVocoder(generator, SPEC, SPEAKERS)


def spoken(vocoder: UnitVocoder, example: VocoderExample, f0: np.ndarray | None) -> torch.Tensor:
    """(1, S) in the voice of the example's speaker."""
    units = UnitSequence(example.units, SPEC)
    speaker = vocoder.speakers[example.speaker] if vocoder.speakers else None
    wave = vocoder(units, speaker, predict_durations=False, f0=f0)
    return torch.from_numpy(wave).unsqueeze(0)


# draws


def test_batches_without_f0_are_those_of_before() -> None:
    """Golden: drawn before there was F0."""
    rows = [(np.arange(n) % 8, speaker) for n, speaker in ((80, 0), (40, 1))]
    examples = [VocoderExample(np.zeros(4 * len(units), np.float32), units, s) for units, s in rows]
    batch = SegmentSampler(examples, 4, 6, 0.5, seed=3).segments(7, 4)
    assert batch.units_BT.tolist() == [
        [6, 7, 0, 1, 2, 3],
        [1, 2, 3, 4, 5, 6],
        [2, 3, 4, 5, 6, 7],
        [4, 5, 6, 7, 0, 1],
    ]
    assert batch.speakers_B.tolist() == [1, 1, 0, 0]
    assert batch.f0_BF is None


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 2)),
        min_size=1,
        max_size=6,
    ),
    segment_frames=st.integers(1, 20),
    step=st.integers(0, 10**6),
    grids=st.sampled_from([(1, 1), (1, 2), (2, 2), (2, 4)]),
    dtype=st.sampled_from([np.float32, np.float64, np.int64, np.int16]),
)
def test_f0_stays_with_its_units_and_changes_no_draw(
    rows: list[tuple[list[int], int]],
    segment_frames: int,
    step: int,
    grids: tuple[int, int],
    dtype: type,
) -> None:
    given_per_frame, per_frame = grids
    examples = []
    for row, speaker in rows:
        units = np.array(row)
        spelled: np.ndarray = np.repeat(units + 10 * speaker, given_per_frame).astype(dtype)
        examples.append(VocoderExample(np.repeat(units / 8, 4).astype(np.float32), units, speaker, spelled))
    sampler = SegmentSampler(examples, 4, segment_frames, f0_per_frame=per_frame)
    batch = sampler.segments(step, 5)
    assert batch.f0_BF is not None
    assert batch.f0_BF.dtype == (torch.int64 if np.issubdtype(dtype, np.integer) else torch.float32)
    spelled_BT = batch.units_BT + 10 * batch.speakers_B.unsqueeze(1)
    assert torch.equal(batch.f0_BF.long(), spelled_BT.repeat_interleave(per_frame, dim=1))
    plain = SegmentSampler([without_f0(e) for e in examples], 4, segment_frames).segments(step, 5)
    assert all(torch.equal(a, b) for a, b in zip(batch[:3], plain[:3], strict=True))


# training


def test_the_pitch_follows_f0(tmp_path: Path) -> None:
    """Tones of the same units: F0 alone tells them apart."""
    pitches_hz = (200, 400, 800)
    examples = [tone(hz, np.full(24, 3)) for hz in pitches_hz]
    config = dataclasses.replace(
        KINDS["values"],
        multispkr=False,
        dur_predictor_params=None,
        upsample_initial_channel=64,
        model_in_dim=0,
    )
    training = dataclasses.replace(
        TRAINING,
        steps=400,
        batch_size=4,
        segment_frames=16,
        lr=5e-3,
        warmup_steps=10,
        adversarial_from_step=400,
        stft_weight=20.0,
        ema_decay=0.0,
        log_every=100,
        valid_every=400,
        checkpoint_every=400,
    )
    rows: list[dict[str, float]] = []
    result = train_vocoder(
        config, examples, tmp_path, training, spec=SPEC, valid_examples=examples, on_log=rows.append
    )
    assert rows[-1]["mel"] < 0.8 * rows[0]["mel"]
    mel_loss = MelLoss(config.sampling_rate, (MEL,))
    loss = np.empty((3, 3))  # of the tone of the row, spoken with the F0 of the column
    for row, target in enumerate(examples):
        for column, other in enumerate(examples):
            wave_BS = spoken(result.vocoder, target, other.f0)
            loss[row, column] = mel_loss(wave_BS, torch.from_numpy(target.wave).unsqueeze(0))
    right = np.diag(loss)
    wrong = loss + np.diag(np.full(3, np.inf))
    assert (right < 0.75 * wrong.min(axis=0)).all()  # no other tone is as near to what is spoken
    assert (right < 0.75 * wrong.min(axis=1)).all()  # no other F0 speaks a tone as well
    assert result.validation["valid_mel"] == pytest.approx(right.mean(), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_ends_as_an_undisturbed_one(kind: str, tmp_path: Path) -> None:
    assert train(tmp_path / "whole", kind)
    limited = dataclasses.replace(TRAINING, max_seconds=0.0)
    assert [train(tmp_path / "parts", kind, limited) for _ in range(4)] == [False, False, False, True]
    torch.testing.assert_close(weights(tmp_path / "parts"), weights(tmp_path / "whole"), atol=0, rtol=0)


def test_f0_at_a_finer_grid_than_the_units_is_trained(tmp_path: Path) -> None:
    """Two input frames a unit: given per unit, F0 is repeated as where the vocoder speaks."""
    config = dataclasses.replace(
        KINDS["values"], upsample_rates=(5, 4, 2), upsample_kernel_sizes=(11, 8, 4), model_in_dim=0
    )
    assert config.frames_per_unit == 2
    coarse = tones()
    fine = [dataclasses.replace(e, f0=np.repeat(e.f0, 2)) for e in coarse]  # type: ignore[arg-type]
    for name, examples in (("coarse", coarse), ("fine", fine)):
        train_vocoder(
            config,
            examples,
            tmp_path / name,
            TRAINING,
            spec=SPEC,
            speakers=SPEAKERS,
            valid_examples=examples[:2],
        )
    torch.testing.assert_close(weights(tmp_path / "coarse"), weights(tmp_path / "fine"), atol=0, rtol=0)
    assert spoken(UnitVocoder.load(tmp_path / "fine"), coarse[0], fine[0].f0).shape == (1, 24 * HOP)


# beginning with a vocoder


def begun(kind: str, **changes: object) -> VocoderTrainer:
    training = dataclasses.replace(TRAINING, ema_decay=0.0, **changes)  # type: ignore[arg-type]
    sampler = SegmentSampler(tones(kind), HOP, training.segment_frames)
    return VocoderTrainer(KINDS[kind], training, sampler, initial=plain_vocoder().generator)


@pytest.mark.parametrize("kind", KINDS)
def test_begun_without_f0_it_speaks_as_before_whatever_the_f0(kind: str) -> None:
    initial = plain_vocoder()
    vocoder = UnitVocoder(begun(kind).inference_generator(), SPEC, SPEAKERS)
    rng = np.random.default_rng(1)
    for example in tones(kind):
        before_BS = spoken(initial, example, None)
        assert before_BS.abs().max() > 0.01
        other = rng.integers(5, size=24) if kind == "bins" else rng.normal(0, 9, 24).astype(np.float32)
        for f0 in (example.f0, other):
            torch.testing.assert_close(spoken(vocoder, example, f0), before_BS, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_begun_without_f0_every_tensor_learns_and_f0_is_heard(kind: str) -> None:
    run = begun(kind)
    before = {name: tensor.detach().clone() for name, tensor in run.generator.named_parameters()}
    for step in range(2):
        run.step(step)
    assert not [
        name for name, tensor in run.generator.named_parameters() if torch.equal(tensor, before[name])
    ]
    new_CIK = run.inference_generator().conv_pre.weight[:, 8 : 8 + KINDS[kind].model_in_dim - 16]
    assert new_CIK.shape[1] == (8 if kind == "bins" else 1)
    assert (new_CIK != 0).any(dim=2).all()


def test_a_training_begins_with_a_vocoder_without_f0(tmp_path: Path) -> None:
    """The units are the same and their table is kept, as every weight that is there."""
    initial = plain_vocoder()
    still = dataclasses.replace(TRAINING, lr=0.0, steps=1, ema_decay=0.0)
    train(tmp_path, "values", still, initial=initial)
    now, before = weights(tmp_path), initial.generator.state_dict()
    assert torch.equal(now["dict.weight"], before["dict.weight"])
    assert torch.equal(now["spkr.weight"], before["spkr.weight"])
    first_CIK = now.pop("conv_pre.weight")
    kept_CIK = torch.cat([first_CIK[:, :8], first_CIK[:, 9:]], dim=1)
    torch.testing.assert_close(kept_CIK, before.pop("conv_pre.weight"), atol=1e-6, rtol=1e-5)
    assert not first_CIK[:, 8].any()
    torch.testing.assert_close(now, dict(before), atol=1e-6, rtol=1e-5)


def test_a_vocoder_with_f0_begins_one_of_its_own_sizes_only(tmp_path: Path) -> None:
    initial = UnitVocoder(UnitHiFiGAN(KINDS["values"]), SPEC, SPEAKERS)
    still = dataclasses.replace(TRAINING, lr=0.0, steps=1, ema_decay=0.0)
    train(tmp_path / "same", "values", still, initial=initial)
    torch.testing.assert_close(
        weights(tmp_path / "same"), dict(initial.generator.state_dict()), atol=1e-6, rtol=1e-5
    )
    with pytest.raises(InputError, match="same sizes.*f0_quant_num_bin"):
        train(tmp_path / "bins", "bins", initial=initial)
    wider = dataclasses.replace(PLAIN, resblock_kernel_sizes=(5,))
    other = UnitVocoder(UnitHiFiGAN(wider), SPEC, SPEAKERS)
    with pytest.raises(InputError, match="got another resblock_kernel_sizes;"):
        train(tmp_path / "wider", "values", initial=other)
    assert [path.name for path in tmp_path.iterdir()] == ["same"]


# errors


VALUES_F = np.zeros(24, dtype=np.float32)


@pytest.mark.parametrize(
    ("config", "f0", "named"),
    [
        (KINDS["values"], None, "expected float32 F0 values.*got none; measure"),
        (KINDS["bins"], None, "expected int64 F0 bins.*got none; measure"),
        (PLAIN, VALUES_F, "expected no F0.*got some; leave f0 out"),
        (KINDS["values"], VALUES_F.astype(np.int64), "float32 F0 values.*got int64"),
        (KINDS["bins"], VALUES_F, "int64 F0 bins.*got float32"),
        (KINDS["values"], VALUES_F[:23], r"24 F0 values for 24 frames, got shape \(23,\)"),
        (KINDS["values"], VALUES_F.repeat(2), r"24 F0 values for 24 frames, got shape \(48,\)"),
        (KINDS["values"], VALUES_F.reshape(1, 24), r"24 frames, got shape \(1, 24\)"),
        (KINDS["values"], np.append(VALUES_F[1:], np.float32("nan")), "finite F0 values, got 1"),
        (KINDS["bins"], np.full(24, 5), r"F0 bins in \[0, 5\), got 5 to 5"),
        (KINDS["bins"], np.full(24, -1), r"F0 bins in \[0, 5\), got -1 to -1"),
    ],
)
@pytest.mark.parametrize("held_out", [False, True])
def test_f0_that_does_not_fit_is_refused(
    config: HiFiGANConfig, f0: np.ndarray | None, named: str, held_out: bool, tmp_path: Path
) -> None:
    fitting = tones("bins" if config.f0_quant_num_bin else "values")
    fitting = fitting if config.f0 else [without_f0(example) for example in fitting]
    wrong = [dataclasses.replace(fitting[0], f0=f0)]
    with pytest.raises(InputError, match=f"example 4: .*{named}"):
        train_vocoder(
            config,
            fitting if held_out else fitting + wrong,
            tmp_path,
            TRAINING,
            spec=SPEC,
            speakers=SPEAKERS,
            valid_examples=wrong if held_out else [],
        )
    assert not list(tmp_path.iterdir())


def test_f0_codes_are_not_trained(tmp_path: Path) -> None:
    quantizer = F0QuantizerConfig(
        F0CodebookConfig(6, 4),
        F0EncoderConfig(output_emb_width=4, downs_t=(2,), strides_t=(2,), width=4, depth=1),
    )
    config = dataclasses.replace(PLAIN, f0=True, f0_quantizer=quantizer, model_in_dim=0)
    with pytest.raises(InputError, match=r"f0_quantizer.*leave f0_quantizer out"):
        train_vocoder(config, tones(), tmp_path, TRAINING, spec=SPEC, speakers=SPEAKERS)
    assert not list(tmp_path.iterdir())


def test_f0_in_some_examples_only_is_refused() -> None:
    mixed = [*tones(), without_f0(tones()[0])]
    with pytest.raises(InputError, match="example 4: expected F0 in all examples or in none"):
        SegmentSampler(mixed, HOP, 4)
