"""Every family learns what is planted, ends in the same bits after a kill, and trains on real words by its verb."""

from __future__ import annotations

import csv
import json
import math
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechprompt.cli import run
from speechprompt.generate.prosodic import continue_prosody
from speechprompt.lm import load_lm
from speechprompt.lm.denoising import DenoisingConfig, document_target, permuted
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.pgslm_decode import StreamSampling
from speechprompt.lm.prosody import F0Statistics, ProsodyConfig, f0_bins, fit_f0_edges, normalized_f0
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.lm.unit_mbart import UnitMBart
from speechprompt.pretrain import PretrainConfig, pretrain
from speechprompt.pretraining.corpus import read_corpus
from speechprompt.pretraining.denoise import Denoise
from speechprompt.pretraining.families import PROSODY, ModelSize, objective_of
from speechprompt.pretraining.objective import Objective
from speechprompt.pretraining.prosodic import Prosodic, SpokenRow
from speechprompt.pretraining.run import PretrainRun
from speechprompt.vocab import MBartVocab
from units.errors import InputError, UnitSpecMismatch
from units.pitch import unit_f0
from units.store import UnitRow, UnitStore, UnitStoreWriter
from units.types import UnitSequence, UnitSpec

SPEC = UnitSpec("planted", 0, 12, 50.0, "0" * 12)
CONFIG = PretrainConfig(steps=50, batch_tokens=300, lr=5e-3, warmup_steps=5, check_every=10)
LEARNED = TransformerConfig(
    2, 32, 4, 64, dropout=0.1, max_positions=64, activation="gelu", positions="learned"
)
SINUSOIDAL = TransformerConfig(2, 32, 4, 64, dropout=0.1, max_positions=64)
VOCAB = MBartVocab([str(unit) for unit in range(SPEC.n_units)], ["und"])
BINS = replace(PROSODY["discrete"], n_f0_bins=4, max_duration=8)


def spoken_rows(n: int, seed: int) -> list[SpokenRow]:
    """Units that count upwards; a unit lasts 1 + unit // 2 % 4 frames; odd ones are an octave higher than even ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        units = (rng.integers(SPEC.n_units) + np.arange(rng.integers(8, 20))) % SPEC.n_units
        durations = 1 + units // 2 % 4
        speaker = str(rng.integers(3))
        hertz = (100 + 40 * int(speaker)) * (1 + units % 2) * rng.uniform(0.97, 1.03, len(units))
        f0 = np.repeat(hertz, durations).astype(np.float32)
        rows.append(SpokenRow(UnitSequence(units, SPEC, durations, f0), speaker))
    return rows


TRAIN, VALID = spoken_rows(100, 0), spoken_rows(12, 1)


def objective(family: str, config: PretrainConfig = CONFIG) -> Objective[Any, Any]:
    if family == "unit-mbart":
        groups = [[row.sequence.units for row in TRAIN[start::3]] for start in range(3)]
        valid = [row.sequence.units for row in VALID]
        return Denoise(MBartConfig(LEARNED, LEARNED), VOCAB, groups, config, language="und", valid=valid)
    prosody = BINS if family == "discrete" else PROSODY["continuous"]
    return Prosodic(SINUSOIDAL, prosody, TRAIN, config, n_units=SPEC.n_units, valid=VALID, spec=SPEC)


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_denoising_learns_to_restore(tmp_path: Path) -> None:
    result = pretrain(objective("unit-mbart"), tmp_path, CONFIG)
    first, *_, last = [float(line["valid_perplexity"]) for line in log_of(tmp_path)]
    assert result.perplexity < 0.6 * first and last < first < result.unigram_perplexity
    assert isinstance(load_lm(tmp_path), UnitMBart)


@pytest.mark.parametrize("family", ["discrete", "continuous"])
def test_prosody_is_learned_beside_the_units(family: str, tmp_path: Path) -> None:
    result = pretrain(objective(family), tmp_path, CONFIG)
    measures = result.measures
    assert result.perplexity == measures["valid_perplexity"] < 4 < result.unigram_perplexity
    first = log_of(tmp_path)[0]
    for name in ("valid_loss", "valid_duration", "valid_f0"):
        assert measures[name] < 0.75 * float(first[name])
    lm = load_lm(tmp_path)
    assert isinstance(lm, PGSLM)
    assert json.loads((tmp_path / "config.json").read_text())["spec"] == SPEC.to_dict()
    if (
        family == "discrete"
    ):  # two octaves in equal shares: half of the borders on either side of their middle
        assert lm.prosody.f0_edges is not None and len(lm.prosody.f0_edges) == 3
        assert sorted(lm.prosody.f0_edges) == list(lm.prosody.f0_edges)
    # It goes on as planted: counting upwards, each unit as long and as high as such units are.
    heard = VALID[0].sequence
    sampling = StreamSampling(speech_only=True)
    said = continue_prosody(lm, heard, length_s=0.5, sampling=sampling).units
    new = slice(len(heard), -1)  # the last was cut
    assert (np.diff(said.units)[len(heard) - 1 :] % SPEC.n_units == 1).mean() > 0.8
    assert said.durations is not None and said.f0_hz is not None
    planted = 1 + said.units // 2 % 4
    assert np.abs(said.durations - planted)[new].mean() < 0.8
    high = unit_f0(said.f0_hz, said.durations)
    assert high[new][said.units[new] % 2 == 1].mean() > 1.4 * high[new][said.units[new] % 2 == 0].mean()


@pytest.mark.parametrize("family", ["unit-mbart", "discrete", "continuous"])
def test_an_interrupted_training_of_any_family_ends_with_the_same_bits(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, steps=16, batch_tokens=150)
    pretrain(objective(family, config), tmp_path / "whole", config)
    update = PretrainRun.update

    def dying_update(run: PretrainRun, batch: object) -> float:
        if run.step == 13:
            raise KeyboardInterrupt
        return update(run, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainRun, "update", dying_update)
        with pytest.raises(KeyboardInterrupt):
            pretrain(objective(family, config), tmp_path / "broken", config)
    pretrain(objective(family, config), tmp_path / "broken", config)
    whole, broken = (load_lm(tmp_path / name).state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    logs = [[{**line, "seconds": ""} for line in log_of(tmp_path / name)] for name in ("whole", "broken")]
    assert logs[0] == logs[1]
    with pytest.raises(InputError, match="settings and rows"):
        pretrain(
            objective("discrete" if family != "discrete" else "unit-mbart", config),
            tmp_path / "broken",
            config,
        )


def test_documents_hold_every_utterance_once_in_new_cuts_each_epoch() -> None:
    made = objective("unit-mbart")
    assert isinstance(made, Denoise)
    cuts = []
    for epoch in range(2):
        documents = made.documents(epoch)
        joined = np.concatenate([row[1:-1] for row in documents])
        everything = np.concatenate(
            [np.append(VOCAB.encode(u), VOCAB.eos) for group in made.groups for u in group]
        )
        assert joined.tolist() == everything.tolist()
        assert max(map(len, documents)) <= LEARNED.max_positions
        n_sentences = [int((row == VOCAB.eos).sum()) for row in documents]
        assert set(n_sentences) == {1, 2, 3}
        cuts.append(n_sentences)
    assert cuts[0] != cuts[1]


def test_sentences_are_permuted_whole() -> None:
    sentences = [np.array([1, 2]), np.array([3]), np.array([4, 5, 6])]
    target = document_target(sentences, "und", VOCAB)
    assert target.tolist() == [0, 5, 6, 2, 7, 2, 8, 9, 10, 2, VOCAB.language_id("und")]
    seen = set()
    for seed in range(40):
        row = permuted(target, VOCAB, DenoisingConfig(), np.random.default_rng(seed))
        assert (row[0], row[-1], len(row)) == (target[0], target[-1], len(target))
        parts = np.split(row[1:-1], np.flatnonzero(row[1:-1] == VOCAB.eos)[:-1] + 1)
        seen.add(tuple(tuple(part.tolist()) for part in parts))
    assert len(seen) == 6 and all(len(order) == 3 for order in seen)
    kept = permuted(target, VOCAB, DenoisingConfig(permuted=0), np.random.default_rng(0))
    single = document_target(sentences[:1], "und", VOCAB)
    assert kept.tolist() == target.tolist()
    assert permuted(single, VOCAB, DenoisingConfig(), np.random.default_rng(0)).tolist() == single.tolist()


def test_f0_is_relative_to_the_speaker_and_bins_hold_equal_shares() -> None:
    made = objective("discrete")
    assert isinstance(made, Prosodic) and made.prosody.f0_edges is not None
    # Speakers 40 Hz apart say the same: units of one octave fall on the same side of the middle border.
    low = np.concatenate([streams.f0[1:-1].numpy() < 2 for streams in made.rows])
    even = np.concatenate([row.sequence.units % 2 == 0 for row in TRAIN])
    assert (low == even).mean() > 0.95
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    counts = np.bincount(f0_bins(values, fit_f0_edges(values, 32)), minlength=32)
    assert counts.shape == (32,) and np.ptp(counts) <= 2
    with pytest.raises(InputError, match="fewer bins"):
        fit_f0_edges(np.zeros(100, dtype=np.float32), 4)
    hertz = np.array([0, 100, 0, 200], dtype=np.float32)
    statistics = F0Statistics.of(hertz)
    assert (statistics.mean, statistics.std) == (150, 50)
    assert statistics.log_mean == pytest.approx(math.log(20_000) / 2)
    silent = F0Statistics.of(np.zeros(3, dtype=np.float32))
    assert normalized_f0(
        np.zeros(3, dtype=np.float32), ProsodyConfig(normalize_f0_std=True), silent
    ).tolist() == [
        0,
        0,
        0,
    ]


def test_long_rows_are_cut_into_pieces_that_lose_nothing() -> None:
    [row] = [max(TRAIN, key=lambda row: len(row.sequence))]
    short = replace(SINUSOIDAL, max_positions=9)
    made = Prosodic(short, BINS, TRAIN, CONFIG, n_units=SPEC.n_units)
    place = TRAIN.index(row)
    whole = Prosodic(SINUSOIDAL, BINS, TRAIN, CONFIG, n_units=SPEC.n_units)
    n_before = sum(-(-(len(other.sequence) + 1) // 8) for other in TRAIN[:place])
    pieces = made.rows[n_before : n_before + -(-(len(row.sequence) + 1) // 8)]
    for name in ("tokens", "durations", "f0"):
        joined = torch.cat([getattr(piece, name)[1:] for piece in pieces])
        assert joined.tolist() == getattr(whole.rows[place], name)[1:].tolist()
    assert max(made.lengths(0)) <= 9 + 1
    assert made.loss(made.new_model(0), made.batch(np.arange(6), 0, 0)).isfinite()


@pytest.mark.parametrize("family", ["unit-mbart", "discrete"])
def test_options_that_do_not_fit_are_refused(family: str) -> None:
    with pytest.raises(InputError, match="p_drop"):
        objective(family, replace(CONFIG, p_drop=0.1))
    bare = [SpokenRow(UnitSequence(np.array([1, 2]), SPEC))]
    with pytest.raises(InputError, match="quantize --f0"):
        Prosodic(SINUSOIDAL, BINS, bare, CONFIG, n_units=SPEC.n_units)
    with pytest.raises(InputError, match="more than its delays"):
        Prosodic(replace(SINUSOIDAL, max_positions=3), BINS, TRAIN, CONFIG, n_units=SPEC.n_units)


def write_store(folder: Path, splits: list[str | None], spec: UnitSpec = SPEC) -> Path:
    with UnitStoreWriter(folder, spec) as writer:
        for place, (row, split) in enumerate(zip(TRAIN, splits, strict=False)):
            sequence = row.sequence.expand() if place == 1 else row.sequence
            writer.add(
                UnitRow(
                    f"id{place}", sequence.units, sequence.durations, sequence.f0_hz, None, row.speaker, split
                )
            )
    return folder


def test_a_corpus_keeps_test_rows_out_and_holds_rows_out_where_none_are_marked(tmp_path: Path) -> None:
    marked = write_store(tmp_path / "marked", ["train", None, "valid", "test", "train"])
    corpus = read_corpus([marked])
    assert (len(corpus.train), len(corpus.valid), corpus.held_out) == (3, 1, False)
    assert (
        corpus.train[1].sequence.units.tolist() == TRAIN[1].sequence.units.tolist()
    )  # frames were deduplicated
    assert sum(len(group) for group in corpus.groups()) == 3
    framed = read_corpus([marked], deduplicate=False)
    for row, planted in zip(framed.train, (TRAIN[0], TRAIN[1], TRAIN[4]), strict=True):
        assert row.sequence.units.tolist() == planted.sequence.expand().units.tolist()
    with pytest.raises(InputError, match="without --frames"):
        objective_of("pgslm", framed, ModelSize(), CONFIG)
    plain = write_store(tmp_path / "plain", [None] * 100)
    both = read_corpus([plain, marked], valid_split="validation")
    assert (len(both.train), len(both.valid), both.held_out) == (102, 2, True)
    assert read_corpus([plain]).valid[0].sequence.units.tolist() != []
    other = write_store(tmp_path / "other", ["train"], replace(SPEC, codebook="1" * 12))
    with pytest.raises(UnitSpecMismatch):
        read_corpus([plain, other])
    with pytest.raises(InputError, match="add recordings"):
        read_corpus([write_store(tmp_path / "test", ["test", "valid"])])
    with pytest.raises(InputError, match="at least one"):
        read_corpus([])
    with pytest.raises(InputError, match="unit-mbart"):
        objective_of("bert", corpus, ModelSize(), CONFIG)


@pytest.fixture(scope="module")
def real_units(tiny_stack: Path, digits_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unit store of bundled digits with F0, made by the command line."""
    folder = tmp_path_factory.mktemp("real")
    with (digits_sample / "train.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))[9::40][:14]
    with (folder / "list.csv").open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["path", "speaker", "split"])
        for place, row in enumerate(rows):
            table.writerow(
                [digits_sample / row["path"], row["speaker"], "valid" if place % 5 == 0 else "train"]
            )
    command = ["quantize", "--manifest", str(folder / "list.csv"), "--stack", str(tiny_stack), "--f0"]
    assert run([*command, "--out", str(folder / "units")]) == 0
    return folder / "units"


def test_f0_of_real_words_is_in_the_store(real_units: Path) -> None:
    rows = list(UnitStore(real_units).rows())
    voiced = np.concatenate([row.f0[row.f0 > 0] for row in rows if row.f0 is not None])
    assert all(row.f0 is not None and row.durations is not None for row in rows)
    assert 70 < np.median(voiced) < 260
    row = rows[0]
    assert row.f0 is not None and row.durations is not None
    assert unit_f0(row.f0, row.durations).shape == row.units.shape


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("gslm", GSLM),
        ("unit-mbart", UnitMBart),
        ("pgslm", PGSLM),
    ],
)
def test_the_verb_trains_every_family_on_real_words(
    family: str, kind: type, real_units: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--layers", "1", "--width", "16", "--heads", "2", "--ffn", "32", "--max-positions", "128"]
    command = ["pretrain", "--lm", family, "--units", str(real_units), "--out", str(tmp_path / "lm"), *size]
    command += ["--steps", "12", "--check-every", "3", "--warmup-steps", "0", "--json"]
    assert run(command) == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert printed.err == ""  # no bar when this is no terminal
    assert record == json.loads((tmp_path / "lm" / "pretraining.json").read_text())
    result = record["result"]
    assert (record["n_train"], record["n_valid"], result["steps"]) == (11, 3, 12)
    assert 1 < result["valid_perplexity"] == result["perplexity"]
    assert type(load_lm(tmp_path / "lm")) is kind
    assert [int(line["step"]) for line in log_of(tmp_path / "lm")] == [3, 6, 9, 12]
    assert run(command) == 0  # done already
    assert json.loads(capsys.readouterr().out)["result"] == result


def test_a_store_without_f0_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with UnitStoreWriter(tmp_path / "units", SPEC) as writer:
        writer.add(UnitRow("a", np.array([1, 2, 3])))
        writer.add(UnitRow("b", np.array([1, 2, 3])))
    command = ["pretrain", "--lm", "pgslm", "--units", str(tmp_path / "units"), "--out", str(tmp_path / "lm")]
    assert run(command) == 2
    assert "quantize --f0" in capsys.readouterr().err
    assert not (tmp_path / "lm").exists()


def test_the_documented_commands_run(
    real_units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "pretraining.md").read_text(encoding="utf-8")
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("speechprompt pretrain")]
    (tmp_path / "units").symlink_to(real_units, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    small = ["--layers", "1", "--width", "8", "--heads", "2", "--ffn", "8", "--steps", "1", "--json"]
    assert [run([*line[1:], *small]) for line in lines] == [0, 0, 0]
    assert [type(load_lm(tmp_path / name)) for name in ("gslm", "unit_mbart", "pgslm")] == [
        GSLM,
        UnitMBart,
        PGSLM,
    ]
