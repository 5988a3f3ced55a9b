"""What is spoken to train and measure on: splits that share no line, pairs that share everything but intonation."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from scripts import mini_held_out_lm
from scripts.mini import language, prosodic, voice
from scripts.mini.assembly import assemble_prosodic
from scripts.mini.corpus import Clip, pack
from scripts.mini.denoiser import MILD_BATCHES, NOISE, SIDE, GrowingDamage
from scripts.mini.sentences import cast
from scripts.mini.synthesis import FLITE_VOICES, N_CHECKED_LINES, cast_voices, read_lines
from scripts.question_pairs import SHARES, TEST_VARIANTS, Pair, draw_pairs, speak_pair
from speechprompt.lm import load_lm
from speechprompt.lm.folder import read_config
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.prosody import ProsodyConfig
from speechprompt.pretraining.config import PretrainConfig
from speechprompt.stack_folder import load_stack
from speechprompt.vocab import MBartVocab
from tasks.registry import get_task
from units.audio import read_audio
from units.pitch import measure_f0
from vocoder.schedule import VocoderTraining


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Lines that all differ."""
    folder = tmp_path / "text"
    folder.mkdir()
    names = [
        f"{first}{second}" for first in "bcdfghjklmnpqrstvwxz" for second in ("an", "el", "ir", "os", "ut")
    ]
    lines = [f"{one} saw {two} at the gate." for one in names for two in names if one != two]
    (folder / "book.txt").write_text("\n".join(lines))
    return folder


def test_splits_of_the_sentences_share_no_line_with_what_was_trained_or_checked_on(text: Path) -> None:
    splits = cast(text, 100)
    ids = {split: {line.id for line in lines} for split, lines in splits.items()}
    trained = {name for name, _ in read_lines(text, held_out=False)}
    assert len(ids["train"]) == 100 and ids["train"] <= trained
    assert not (ids["valid"] | ids["test"]) & trained and not ids["valid"] & ids["test"]
    held_out = read_lines(text, held_out=True)
    assert ids["valid"] | ids["test"] == {name for name, _ in held_out}
    # The lines by which the language models' weights were chosen are not tested on.
    assert ids["valid"] == {line.id for line in cast_voices(held_out, N_CHECKED_LINES, seed=0)}
    assert len(ids["valid"]) == N_CHECKED_LINES < len(held_out)
    assert {line.voice for lines in splits.values() for line in lines} <= set(FLITE_VOICES)
    assert cast(text, 100) == splits


def test_pairs_share_words_voice_and_split(text: Path) -> None:
    pairs = draw_pairs(text)
    by_split = {split: [pair for pair in pairs if pair.split == split] for split in SHARES}
    assert {split: len(of_split) for split, of_split in by_split.items()} == SHARES
    assert len({pair.words for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert (pair.voice.split("+")[1] in TEST_VARIANTS) == (pair.split == "test")
        assert 3 <= len(pair.words.split()) <= 8 and not pair.words.endswith(".")


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_a_question_rises_where_a_statement_falls(tmp_path: Path) -> None:
    rows = speak_pair(Pair("book_1", "They came back in the evening", "en-us+m3", "train"), tmp_path)
    assert [row[1] for row in rows] == ["statement", "question"]
    ends = []
    for path, *_ in rows:
        wave = read_audio(tmp_path / path, 16_000)
        f0 = measure_f0(wave, 16_000, 50, len(wave) // 320)
        voiced = f0[f0 > 0]
        ends.append(float(np.median(voiced[-8:]) / np.median(voiced)))
    assert ends[1] > 1.1 * ends[0]


def test_damage_is_mild_at_first_and_always_whole_where_it_is_measured() -> None:
    rows = [np.arange(60, dtype=np.int64) % 20 for _ in range(8)]
    vocab = MBartVocab([str(unit) for unit in range(20)], ["und"])
    objective = GrowingDamage(
        MBartConfig(SIDE, SIDE),
        vocab,
        [rows],
        PretrainConfig(),
        language="und",
        noise=NOISE,
        n_sentences=1,
        valid=rows,
    )

    def share(epoch: int, number: int) -> float:
        source = objective.batch(np.arange(8), epoch, number).source_BS
        return float((source == vocab.mask).float().mean())

    mild = share(0, MILD_BATCHES - 1)
    assert mild < 0.13 and min(share(0, MILD_BATCHES), share(1, 0)) > 2 * mild
    model = objective.new_model(0).eval()
    before = objective.measure(model)
    objective.batch(np.arange(8), 0, 0)
    assert objective.measure(model) == before


def test_a_pgslm_is_trained_on_pitched_speech_and_stands_beside_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = load_stack("mini")
    files = [u.path for u in get_task("spoken_digits").utterances("train")[:6] if u.path is not None]
    corpus = pack([Clip("digits", file.stem, file) for file in files], tmp_path / "packed")
    parts = (
        stack.folder / "encoder",
        stack.spec.layer,
        stack.spec.encoder,
        stack.folder / "codebook.safetensors",
    )
    make = partial(prosodic.load_quantizer, *parts)
    monkeypatch.setattr(prosodic, "PRETRAINING", PretrainConfig(steps=2, batch_tokens=512, warmup_steps=1))
    store = prosodic.pitched_store(corpus, make, tmp_path / "pitched")
    result = prosodic.train_prosodic(store, tmp_path / "pgslm")
    assert result.steps == 2 and np.isfinite(result.measures["valid_f0"])
    first, *others = stack.vocoder.speakers
    clips_of = {first: np.arange(len(corpus)), **dict.fromkeys(others, np.arange(0))}
    monkeypatch.setattr(voice, "choose_speakers", lambda corpus: clips_of)
    monkeypatch.setattr(voice, "held_out_sentences", lambda data: [])
    training = VocoderTraining(steps=1, batch_size=2, segment_frames=8, adversarial_from_step=10)
    prosody = ProsodyConfig(**read_config(tmp_path / "pgslm")["prosody"])
    spoken = voice.train_voice(
        corpus, make(), tmp_path / "voice", tmp_path, training, stack.vocoder, prosody=prosody
    ).vocoder
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "mini").symlink_to(stack.folder)
    assemble_prosodic(tmp_path, spoken, assets / "mini-prosody")
    opened = load_stack(assets / "mini-prosody")
    assert opened.lm.family == "pgslm" and opened.reads_prosody
    [units] = opened.quantize(files[0], f0=True)
    assert units.spec == stack.spec and units.durations is not None
    assert opened.voice.needs_f0 and len(opened.voice.speak(units)) == units.n_frames * 320


@pytest.mark.skipif(
    shutil.which("espeak-ng") is None or shutil.which("flite") is None,
    reason="a synthesizer is not installed",
)
def test_the_judging_language_model_reads_the_units_of_mini(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").mkdir()
    lines = "\n".join(f"It was the {number} of them." for number in range(100))
    (tmp_path / "text" / "book.txt").write_text(lines)
    monkeypatch.setattr(language, "PRETRAINING", PretrainConfig(steps=2, batch_tokens=512))
    mini_held_out_lm.main(tmp_path, tmp_path / "build", tmp_path / "lm")
    units = load_lm(tmp_path / "lm").vocab.symbols
    assert list(units) == [str(unit) for unit in range(load_stack("mini").spec.n_units)]
