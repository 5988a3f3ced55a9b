import csv
import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from units.audio import read_audio
from units.encoders.logmel import LogMelEncoder
from units.errors import InputError
from units.kmeans import assign, codebook_id
from units.types import UnitSpec
from vocoder.base import UnitVocoder
from vocoder.config import DurationPredictorConfig, HiFiGANConfig
from vocoder.segments import SegmentSampler, VocoderExample
from vocoder.train import VocoderTraining, train_vocoder
from vocoder.trainer import VocoderTrainer

SPEC = UnitSpec("tones", 0, 6, 50.0, "0123456789ab")
CONFIG = HiFiGANConfig(
    num_embeddings=6,
    embedding_dim=8,
    upsample_initial_channel=32,
    resblock_kernel_sizes=(3,),
    resblock_dilation_sizes=((1, 3),),
    multispkr=True,
    num_speakers=2,
    dur_predictor_params=DurationPredictorConfig(8, 8),
)
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
    mel_resolutions=((512, 128, 20),),
    stft_resolutions=((512, 128),),
    duration_batch_size=2,
    ema_decay=0.9,
    log_every=1,
    valid_every=2,
    checkpoint_every=2,
)
SPEAKERS = ("anna", "bert")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums in one order: equal bits in equal runs."""
    torch.set_num_threads(1)


def tones(n_examples: int = 4) -> list[VocoderExample]:
    rng = np.random.default_rng(0)
    examples = []
    for i in range(n_examples):
        units = np.repeat(rng.integers(6, size=8), 3)
        phase = np.cumsum(np.repeat(200.0 * (1 + units), 320)) / 16_000
        examples.append(VocoderExample((0.3 * np.sin(2 * np.pi * phase)).astype(np.float32), units, i % 2))
    return examples


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(UnitVocoder.load(folder).generator.state_dict())


def train(out: Path, training: VocoderTraining = TRAINING, **options: object) -> bool:
    result = train_vocoder(
        CONFIG,
        tones(),
        out,
        training,
        spec=SPEC,
        speakers=SPEAKERS,
        valid_examples=tones(2),
        **options,  # type: ignore[arg-type]
    )
    return result.finished


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("undisturbed")
    assert train(out)
    return out


def test_a_run_stopped_by_its_time_limit_ends_the_same(undisturbed: Path, tmp_path: Path) -> None:
    limited = dataclasses.replace(TRAINING, max_seconds=0.0)
    finished = [train(tmp_path, limited) for _ in range(4)]
    assert finished == [False, False, False, True]
    torch.testing.assert_close(weights(tmp_path), weights(undisturbed), atol=0, rtol=0)


@pytest.mark.parametrize("last_step", [1, 3])
def test_a_run_that_broke_between_checkpoints_ends_the_same(
    undisturbed: Path, tmp_path: Path, last_step: int
) -> None:
    def breaks(row: dict[str, float]) -> None:
        if row["step"] == last_step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, on_log=breaks)
    assert train(tmp_path)
    torch.testing.assert_close(weights(tmp_path), weights(undisturbed), atol=0, rtol=0)
    assert rows(tmp_path) == rows(undisturbed)


def test_looking_at_the_model_on_the_way_does_not_change_it(undisturbed: Path, tmp_path: Path) -> None:
    train(tmp_path, dataclasses.replace(TRAINING, valid_every=1, log_every=3, checkpoint_every=1))
    torch.testing.assert_close(weights(tmp_path), weights(undisturbed), atol=0, rtol=0)


def test_the_log_has_each_phases_losses(undisturbed: Path) -> None:
    log = rows(undisturbed)
    assert [row["step"] for row in log] == ["1", "2", "3", "4"]
    assert [bool(row["mel"] and row["stft"] and row["duration"]) for row in log] == [True] * 4
    assert [bool(row["discriminator"]) for row in log] == [False, False, True, True]
    assert [bool(row["valid_mel"]) for row in log] == [False, True, False, True]


def test_a_finished_run_is_not_done_again(undisturbed: Path) -> None:
    before = weights(undisturbed)
    log = rows(undisturbed)
    assert train(undisturbed)
    torch.testing.assert_close(weights(undisturbed), before, atol=0, rtol=0)
    assert rows(undisturbed) == log


def test_another_setting_in_the_same_folder_is_refused(undisturbed: Path) -> None:
    with pytest.raises(InputError, match=r"resume\.pt.*training\.lr"):
        train(undisturbed, dataclasses.replace(TRAINING, lr=3e-3))


@pytest.mark.parametrize(("unit", "speaker"), [(6, 0), (-1, 0), (0, 2)])
def test_ids_outside_the_tables_are_refused(tmp_path: Path, unit: int, speaker: int) -> None:
    stranger = VocoderExample(np.zeros(640, dtype=np.float32), np.array([0, unit]), speaker)
    with pytest.raises(InputError, match="example 4"):
        train_vocoder(CONFIG, [*tones(), stranger], tmp_path, TRAINING, spec=SPEC, speakers=SPEAKERS)
    assert not list(tmp_path.iterdir())


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, bool]:
    return {name: not torch.equal(before[name], after[name]) for name in before}


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def trainer(unit_loss: object = None, **changes: object) -> VocoderTrainer:
    training = dataclasses.replace(TRAINING, warmup_steps=0, **changes)  # type: ignore[arg-type]
    sampler = SegmentSampler(tones(), CONFIG.hop_length, training.segment_frames)
    return VocoderTrainer(CONFIG, training, sampler, unit_loss)  # type: ignore[arg-type]


def test_every_tensor_moves_and_discriminators_only_in_their_phase() -> None:
    run = trainer()
    generator, discriminator = snapshot(run.generator), snapshot(run.discriminator)
    run.step(0)
    assert all(moved(generator, snapshot(run.generator)).values())
    assert not any(moved(discriminator, snapshot(run.discriminator)).values())
    generator = snapshot(run.generator)
    run.step(2)
    assert all(moved(generator, snapshot(run.generator)).values())
    assert all(moved(discriminator, snapshot(run.discriminator)).values())
    assert all(parameter.requires_grad for parameter in run.discriminator.parameters())


def test_discriminators_can_rest_between_updates() -> None:
    run = trainer(adversarial_from_step=0, discriminator_every=2)
    assert "discriminator" in run.step(0)
    discriminator = snapshot(run.discriminator)
    losses = run.step(1)
    assert "discriminator" not in losses
    assert "adversarial" in losses
    assert not any(moved(discriminator, snapshot(run.discriminator)).values())


def test_bfloat16_keeps_losses_and_weights_in_float32() -> None:
    run = trainer(bf16=True)
    losses = run.step(2)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())
    assert {parameter.dtype for parameter in run.generator.parameters()} == {torch.float32}


def test_without_averaging_the_last_weights_are_given() -> None:
    run = trainer(ema_decay=0.0)
    run.step(0)
    units_BT, speaker_B = torch.tensor([[1, 2, 3]]), torch.tensor([1])
    run.generator.eval()
    with torch.inference_mode():
        last_BS = run.generator(units_BT, speaker_B)
        given_BS = run.inference_generator()(units_BT, speaker_B)
    torch.testing.assert_close(given_BS, last_BS, atol=1e-6, rtol=0)


def test_a_unit_loss_is_asked_about_the_generated_waves_and_obeyed() -> None:
    asked: list[Sequence[int]] = []

    def loudness(wave_BS: torch.Tensor, units_BT: torch.Tensor) -> torch.Tensor:
        asked.append((*wave_BS.shape, *units_BT.shape))
        return -wave_BS.mean()

    off = {"mel_weight": 0.0, "stft_weight": 0.0, "duration_weight": 0.0, "adversarial_from_step": 99}
    run = trainer(loudness, unit_weight=1.0, **off)
    losses = [run.step(step)["unit"].item() for step in range(4)]
    assert asked == [(2, 8 * 320, 2, 8)] * 4
    assert losses[-1] < losses[0]


def test_training_can_start_from_a_vocoder(undisturbed: Path, tmp_path: Path) -> None:
    initial = UnitVocoder.load(undisturbed)
    still = dataclasses.replace(TRAINING, lr=0.0, steps=1, ema_decay=0.0)
    train(tmp_path, still, initial=initial)
    torch.testing.assert_close(weights(tmp_path), weights(undisturbed), atol=1e-6, rtol=1e-5)
    other = dataclasses.replace(CONFIG, resblock_kernel_sizes=(5,))
    with pytest.raises(InputError, match="same sizes"):
        train_vocoder(other, tones(), tmp_path / "b", TRAINING, spec=SPEC, speakers=SPEAKERS, initial=initial)


def test_learning_rates_warm_up_and_fall() -> None:
    training = VocoderTraining(steps=100, warmup_steps=10, final_lr_ratio=0.1)
    ratios = [training.lr_ratio(step) for step in range(101)]
    assert ratios[0] == pytest.approx(0.1)
    assert max(ratios) == max(ratios[8:12])
    assert all(a >= b for a, b in pairwise(ratios[10:]))
    assert ratios[100] == pytest.approx(0.1)
    assert training.lr_ratio(50, first_step=50) == pytest.approx(training.lr_ratio(50) / 10)


def test_real_speech_is_learned(digits_sample: Path, tmp_path: Path) -> None:
    """Held-out digits come nearer."""
    paths = sorted((digits_sample / "recordings").glob("*.flac"))[::30]
    waves = [read_audio(path) for path in paths]
    encoder = LogMelEncoder(20)
    features = [encoder.encode([wave])[0][0] for wave in waves]
    centroids_KD = torch.cat(features)[::8][:20].numpy()
    units = [assign(frames, torch.from_numpy(centroids_KD)).numpy() for frames in features]
    examples = [VocoderExample(wave, ids[: len(wave) // 320]) for wave, ids in zip(waves, units, strict=True)]
    spec = UnitSpec("logmel", 0, 20, 50.0, codebook_id(centroids_KD))
    config = dataclasses.replace(CONFIG, num_embeddings=20, multispkr=False, model_in_dim=0)
    training = dataclasses.replace(
        TRAINING, steps=24, batch_size=2, lr=5e-3, warmup_steps=3, adversarial_from_step=24, valid_every=12
    )
    rows: list[dict[str, float]] = []
    train_vocoder(
        config, examples[2:], tmp_path, training, spec=spec, valid_examples=examples[:2], on_log=rows.append
    )
    first, last = (row["valid_mel"] for row in rows if "valid_mel" in row)
    assert last < first
    assert rows[-1]["mel"] < 0.8 * rows[0]["mel"]
