"""The head on frozen features: every layer as transformers gives it, means cached, a linear map that learns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechprompt.checkpoint import load_prompt
from speechprompt.methods import Job, MethodError, run_method
from speechprompt.methods.features import mean_features
from speechprompt.methods.head import Features, Head
from speechprompt.run_record import read_record
from speechprompt.stack import Stack
from speechprompt.stack_folder import load_stack
from tasks import get_task
from tasks.base import Task, Utterance
from tasks.metrics import accuracy
from tasks.voice_activity_detection import LABELS, PARTS
from units.audio import read_audio, write_audio
from units.encoders.hubert import HubertEncoder
from units.encoders.logmel import LogMelEncoder
from units.errors import AudioError

QUICK = {"max_epochs": 8, "lr": 0.02, "speed_perturbation": (), "batch_rows": 8}


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("units.atomic.os.fsync", lambda descriptor: None)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def stack(tiny_stack: Path) -> Stack:
    return load_stack(tiny_stack)


@pytest.fixture(scope="module")
def words(two_words: Path) -> Task:
    return get_task("csv_classification", two_words)


def waves() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, n).astype(np.float32) for n in (4000, 7000, 5200)]


@torch.no_grad()
def test_every_layer_is_what_transformers_gives(stack: Stack) -> None:
    encoder = stack.quantizer.encoder
    assert isinstance(encoder, HubertEncoder)
    together_BLFD, counts_B = encoder.encode_layers(waves())
    assert together_BLFD.shape[:2] == (3, encoder.layer + 1)
    last_BFD, same_B = encoder.encode(waves())
    torch.testing.assert_close(together_BLFD[:, -1], last_BFD)
    assert torch.equal(counts_B, same_B)
    for wave, layers_LFD, count in zip(waves(), together_BLFD, counts_B.tolist(), strict=True):
        normal = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        hidden = encoder._model(torch.from_numpy(normal)[None], output_hidden_states=True).hidden_states
        torch.testing.assert_close(torch.cat(hidden), layers_LFD[:, :count], atol=1e-4, rtol=1e-4)
        assert not layers_LFD[:, count:].any()
    first = encoder._model.encoder.layers[0]
    before = len(first._forward_hooks), len(first._forward_pre_hooks)
    encoder.encode_layers(waves())
    assert (len(first._forward_hooks), len(first._forward_pre_hooks)) == before, "nothing listens any more"


def test_means_are_those_of_all_frames_and_come_from_the_cache(
    stack: Stack, words: Task, own_cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = words.utterances("test")
    means_NKD = mean_features(utterances, stack)
    for utterance, mean_KD in zip(utterances, means_NKD, strict=True):
        layers_LFD = stack.quantizer.encoder.encode_layers([stack.read(utterance.path)])[0][0]
        torch.testing.assert_close(mean_KD, layers_LFD.mean(1), atol=1e-5, rtol=1e-4)
    faster_NKD = mean_features(utterances, stack, speed=1.1)
    assert not torch.allclose(faster_NKD, means_NKD, atol=1e-3)
    [one, other] = (own_cache_folder / "features").iterdir()

    def deaf(*arguments: object) -> None:
        raise AssertionError("what is in the cache is not encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(HubertEncoder, "encode_layers", deaf)
        assert torch.equal(mean_features(utterances, stack), means_NKD)
        assert torch.equal(mean_features(utterances, stack, speed=1.1), faster_NKD)
    for file in (one, other):  # a damaged entry is made anew
        file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(mean_features(utterances, stack), means_NKD)


def test_segments_of_a_manifest_are_heard_as_if_they_were_files(stack: Stack, tmp_path: Path) -> None:
    write_audio(tmp_path / "long.wav", np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32))
    starts_s = {("speech", "training"): 0.0, ("background", "testing"): 0.37, ("speech", "testing"): 1.2}
    for label, part in [(label, part) for label in LABELS for part in PARTS.values()]:
        start_s = starts_s.get((label, part), 0.5)
        row = {"audio_filepath": "long.wav", "offset": start_s, "duration": 0.63, "label": label}
        (tmp_path / f"balanced_{label}_{part}_manifest.json").write_text(json.dumps(row), encoding="utf-8")
    segments = get_task("voice_activity_detection", tmp_path).utterances("test")
    files = [replace(segment, path=tmp_path / f"{i}.wav") for i, segment in enumerate(segments)]
    for segment, file in zip(segments, files, strict=True):
        wave = read_audio(segment.path, start_s=segment.start_s, end_s=segment.end_s)
        write_audio(file.path, wave)
    files = [replace(file, start_s=None, end_s=None) for file in files]
    torch.testing.assert_close(mean_features(segments, stack), mean_features(files, stack))


def test_long_recordings_are_encoded_in_pieces(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    write_audio(tmp_path / "long.wav", rng.normal(0, 0.1, 3 * 16_000).astype(np.float32), 16_000)
    long = [Utterance("long", "a", path=tmp_path / "long.wav")]
    whole = mean_features(long, stack)
    monkeypatch.setattr("speechprompt.methods.features._MAX_PIECE_S", 1.0)
    monkeypatch.setattr("speechprompt.methods.features._MAX_BATCH_S", 2.0)
    monkeypatch.setenv("SPEECHPROMPT_CACHE", str(tmp_path / "other"))
    pieces = mean_features(long, stack)
    assert 0 < (whole - pieces).abs().max() < 0.1 * whole.abs().max()


def test_a_recording_too_short_is_named(stack: Stack, tmp_path: Path) -> None:
    write_audio(tmp_path / "short.wav", np.zeros(10, np.float32), 16_000)
    with pytest.raises(AudioError, match=r"short\.wav: expected"):
        mean_features([Utterance("short", "a", path=tmp_path / "short.wav")], stack)


def test_an_encoder_without_layers_gives_one(
    stack: Stack, words: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = LogMelEncoder(20)
    monkeypatch.setattr(stack.quantizer, "encoder", encoder)
    utterances = words.utterances("test")[:2]
    means_NKD = mean_features(utterances, stack)
    assert means_NKD.shape == (2, 1, 20)
    expected_BFD, _ = encoder.encode([stack.read(utterances[0].path)])
    torch.testing.assert_close(means_NKD[0, 0], expected_BFD[0].mean(0))


def test_a_head_learns_two_words_and_is_read_back(stack: Stack, words: Task, tmp_path: Path) -> None:
    job = Job(
        words, stack, tmp_path / "run", settings={**QUICK, "max_epochs": 40, "patience": 40, "lr": 0.05}
    )
    outcome = run_method("head", job)
    encoder = stack.quantizer.encoder
    n_layers = encoder.layer + 1
    assert outcome.trainable_parameters == n_layers + 2 * encoder.n_features + 2
    assert len(outcome.history) == 40 and outcome.seconds > 0
    for split, scores_NC in outcome.scores.items():
        np.testing.assert_allclose(np.exp(scores_NC).sum(1), 1, rtol=1e-5)
        assert outcome.predictions[split] == [words.labels[i] for i in scores_NC.argmax(1)]
    targets = [utterance.target for utterance in words.utterances("valid")]
    kept = max(row["valid_accuracy"] for row in outcome.history)
    assert accuracy(targets, outcome.predictions["valid"]) == kept > 0.7
    assert outcome.history[-1]["train_loss"] < outcome.history[0]["train_loss"] / 1.5
    again = run_method("head", job)
    assert again.history == outcome.history
    for split, scores_NC in outcome.scores.items():
        np.testing.assert_array_equal(again.scores[split], scores_NC)
    assert read_record(job.folder).method == "head"
    assert load_prompt(job.folder, "none").keys() == {
        "mean_KD", "scale_KD", "layer_weights", "linear.weight", "linear.bias"
    }  # fmt: skip
    last = run_method("head", replace(job, folder=tmp_path / "last", settings={**QUICK, "layers": "last"}))
    assert last.trainable_parameters == 2 * encoder.n_features + 2
    with pytest.raises(MethodError, match="expected sum or last, got 'first'"):
        run_method("head", replace(job, folder=tmp_path / "first", settings={**QUICK, "layers": "first"}))


def test_a_killed_head_continues_to_the_bit(
    stack: Stack, words: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechprompt import checkpoint

    settings = {**QUICK, "dropout": 0.2, "checkpoint_steps": 2}
    whole = run_method("head", Job(words, stack, tmp_path / "whole", settings=settings))
    counts = iter(range(5))

    def interrupting(folder: Path, state: dict) -> None:
        if next(counts, None) is None:
            raise KeyboardInterrupt
        checkpoint.save_state(folder, state)

    killed = Job(words, stack, tmp_path / "killed", settings=settings)
    with monkeypatch.context() as patch:
        patch.setattr("speechprompt.trainer.save_state", interrupting)
        with pytest.raises(KeyboardInterrupt):
            run_method("head", killed)
    continued = run_method("head", killed)
    for one, other in zip(continued.history, whole.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    np.testing.assert_array_equal(continued.scores["test"], whole.scores["test"])


def test_speeds_give_the_head_more_rows(stack: Stack, words: Task, tmp_path: Path) -> None:
    settings = {**QUICK, "max_epochs": 1, "speed_perturbation": (0.9, 1.0, 1.1)}
    history = run_method("head", Job(words, stack, tmp_path / "run", settings=settings)).history
    assert history[0]["step"] == -(-3 * len(words.utterances("train")) // 8)


def test_weighting_layers_equals_weighting_frames() -> None:
    """The mean over time, the weighting of layers and the linear map may change places."""
    torch.manual_seed(0)
    frames_KFD = torch.randn(3, 7, 5)
    head = Head(torch.randn(20, 3, 5), n_labels=4, dropout=0.0).eval()
    with torch.no_grad():
        head.layer_weights.copy_(torch.tensor([0.3, -1.0, 2.0]))
        head.linear.weight.normal_()
        pooled_BN = head(Features(frames_KFD.mean(1)[None], torch.zeros(1)))
        each_FN = head(Features(frames_KFD.transpose(0, 1), torch.zeros(7)))
    torch.testing.assert_close(pooled_BN[0], each_FN.mean(0))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    yield
