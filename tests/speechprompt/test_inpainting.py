"""Inpainting: a prompt learns what belongs into a gap; recordings keep every bit outside it; the verbs do it all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from scripts import bench_speed, inpainting_table
from speechprompt.cli import run as run_command_line
from speechprompt.generate import damaged as damaged_module
from speechprompt.generate.corruption import CorruptionConfig
from speechprompt.generate.damaged import Damaged
from speechprompt.generate.gap_filling import runs
from speechprompt.generate.inpainter import GapReading, Inpainter, InpaintingConfig
from speechprompt.generate.inpainting import inpaint_speech
from speechprompt.generate.inpainting_evaluation import compare
from speechprompt.generate.inpainting_run import load_inpainting_run, plain_inpainter
from speechprompt.generate.inpainting_training import damaged
from speechprompt.generate.measured_gaps import unit_measures
from speechprompt.judge import OFFLINE, load_judge
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.lm.unit_mbart import UnitMBart
from speechprompt.pretrain import PretrainConfig, pretrain
from speechprompt.pretraining.denoise import Denoise
from speechprompt.run import load_run
from speechprompt.run_record import RunError
from speechprompt.seq2seq.config import Seq2SeqPromptConfig
from speechprompt.seq2seq.decoding import WritingConfig
from speechprompt.seq2seq.objective import PairObjective
from speechprompt.seq2seq.prompted import build_prompted
from speechprompt.stack import StackError
from speechprompt.stack_folder import load_stack
from speechprompt.train_config import TrainConfig
from speechprompt.vocab import MBartVocab
from tasks import get_task
from tasks.spoken_digits import READ_SENTENCE
from units.audio import read_audio
from units.errors import InputError
from units.recording import read_recording

N_UNITS = 12
VOCAB = MBartVocab([str(unit) for unit in range(N_UNITS)], ["und"])


# --- what is learned, on planted units ---


def planted(n: int, seed: int) -> list[Damaged]:
    """Units that count upwards, two frames each, but 7, 3, 7, 3 in the gap, where unit 0 is heard."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(n):
        n_frames, start = int(rng.integers(28, 40)), int(rng.integers(N_UNITS))
        clean = (start + np.arange(n_frames) // 2) % N_UNITS
        first = int(rng.integers(6, 12))
        heard = clean.copy()
        heard[first : first + 8] = 0
        clean[first : first + 8] = np.repeat([7, 3, 7, 3], 2)
        rows.append(Damaged(str(number), heard, clean, ((first, first + 8),), ((0, 1),)))
    return rows


def test_a_prompt_fills_gaps_that_the_plain_model_does_not(tmp_path: Path) -> None:
    side = TransformerConfig(2, 32, 4, 64, 0.1, "gelu", 64, "learned")
    train, valid = planted(120, 0), planted(30, 1)
    config = PretrainConfig(steps=150, batch_tokens=400, lr=5e-3, warmup_steps=5, check_every=150)
    units = [runs(row.clean)[0] for row in train]
    denoise = Denoise(MBartConfig(side, side), VOCAB, [units], config, language="und", n_sentences=1)
    pretrain(denoise, tmp_path, config)
    lm = UnitMBart.load(tmp_path).freeze()

    shown = GapReading(InpaintingConfig(guard=0, gap_weight=2.0), VOCAB, None, deduplicate=True)
    prompted = build_prompted(lm, Seq2SeqPromptConfig(length=4))
    plain = build_prompted(lm, Seq2SeqPromptConfig("none", 0)).eval()
    pairs = [[shown.pair(row) for row in rows] for rows in (train, valid)]
    objective = PairObjective(prompted, pairs[:1], pairs[1], TrainConfig(batch_rows=16), marked_weight=2.0)
    import torch

    optimizer = torch.optim.Adam(prompted.trainable_parameters(), lr=2e-2)
    prompted.train()
    for epoch in range(12):
        for batch in objective.batches.epoch(epoch):
            loss = objective.loss(prompted(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def gap_errors(inpainter: Inpainter) -> float:
        return float(unit_measures(valid, inpainter(valid))["gap_unit_error_rate"])

    after, before = (
        gap_errors(Inpainter(model, shown, writing=WritingConfig())) for model in (prompted.eval(), plain)
    )
    as_heard = float(unit_measures(valid, [row.heard for row in valid])["gap_unit_error_rate"])
    assert after < 0.5 * min(before, as_heard), (after, before, as_heard)
    filled = Inpainter(prompted, shown, writing=WritingConfig())(valid)
    for row, frames in zip(valid, filled, strict=True):
        [(start, stop)] = row.gaps
        assert len(frames) == len(row.heard)
        np.testing.assert_array_equal(frames[:start], row.heard[:start])
        np.testing.assert_array_equal(frames[stop:], row.heard[stop:])


# --- real recordings, by a stack in small ---


def test_a_run_records_what_it_is(inpainting_run: Path, seq2seq_stack: Path) -> None:
    run = load_inpainting_run(inpainting_run)
    record = run.record
    assert (record.task, record.status, record.labels) == ("inpainting", "finished", ())
    assert run.config == InpaintingConfig(CorruptionConfig(0.2, 0.4))
    assert record.trainable_parameters == 3 * 32 * (2 * 2 + 2) == run.prompted.n_trainable
    assert {"loss", "gap_loss", "gap_accuracy"} <= record.metrics["valid"].keys()
    assert len(run.history) == 2
    with pytest.raises(RunError, match="load_inpainting_run"):
        load_run(inpainting_run)
    other = load_stack(seq2seq_stack)
    other.seq2seq.decoder.layer_norm.weight.data += 1
    with pytest.raises(RunError, match="stack it was trained with"):
        load_inpainting_run(inpainting_run, stack=other)


def test_units_of_damage_come_from_the_encoder_and_then_from_the_cache(
    speech: Path, seq2seq_stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, task = load_stack(seq2seq_stack), get_task("inpainting", speech)
    config = InpaintingConfig(CorruptionConfig(0.2, 0.4, n_spans=2, fill="noise", margin_s=0.05))
    rows = damaged(task, "test", stack, config)
    for row, utterance in zip(rows, task.utterances("test"), strict=True):
        wave = read_audio(utterance.path)  # type: ignore[arg-type]
        assert row.clean.tolist() == stack.quantizer([wave])[0].units.tolist()
        assert len(row.heard) == len(row.clean) and len(row.gaps) == 2
        inside = [frame for start, stop in row.gaps for frame in range(start, stop)]
        assert (row.heard[inside] != row.clean[inside]).mean() > 0.3
    monkeypatch.setattr(damaged_module, "_quantized", None)  # nothing is quantized twice
    again = damaged(task, "test", load_stack(seq2seq_stack), config)
    assert [row.heard.tolist() for row in again] == [row.heard.tolist() for row in rows]
    with pytest.raises(TypeError):
        damaged(task, "test", stack, config, version=1)  # another version is other damage


@pytest.mark.parametrize(("rate", "subtype", "channels"), [(16_000, "PCM_16", 1), (22_050, "PCM_24", 2)])
def test_the_verb_leaves_every_bit_outside_the_gap(
    rate: int,
    subtype: str,
    channels: int,
    inpainting_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples, _ = soundfile.read(READ_SENTENCE, dtype="float64")
    samples = np.stack([samples / max(abs(samples)) * 0.99] * channels, axis=1)
    soundfile.write(tmp_path / "in.wav", samples, rate, subtype=subtype)
    command = ["inpaint", str(tmp_path / "in.wav"), "--run", str(inpainting_run)]
    out = tmp_path / "out.wav"
    assert (
        run_command_line([*command, "--start-s", "1.2", "--end-s", "1.8", "--out", str(out), "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    before, after = read_recording(tmp_path / "in.wav"), read_recording(out)
    assert (after.sample_rate, after.subtype) == (rate, subtype)
    start, stop = round(1.2 * rate), round(1.8 * rate)
    np.testing.assert_array_equal(after.samples_NC[:start], before.samples_NC[:start])
    np.testing.assert_array_equal(after.samples_NC[stop:], before.samples_NC[stop:])
    assert (after.samples_NC[start:stop] != before.samples_NC[start:stop]).mean() > 0.9
    assert 30 <= len(told["units"]) <= 36
    whole = [*command, "--start-s", "1.2", "--end-s", "1.8", "--whole", "--beam", "2", "--out", str(out)]
    assert run_command_line(whole) == 0
    anew = read_recording(out)
    assert anew.sample_rate == 16_000
    assert abs(len(anew.samples_NC) / 16_000 - len(samples) / rate) < 0.05


def test_what_stands_in_the_gap_is_not_heard(inpainting_run: Path) -> None:
    run = load_inpainting_run(inpainting_run)
    wave = read_audio(READ_SENTENCE)
    other = wave.copy()
    other[16_000:24_000] = np.random.default_rng(0).normal(0, 0.1, 8_000)
    first, second = (inpaint_speech(run.stack, run.inpainter(), w, [(1.0, 1.5)]) for w in (wave, other))
    assert first.units.units.tolist() == second.units.units.tolist()
    [(start, stop)] = first.regions
    assert (start, stop) == (48, 77)
    several = inpaint_speech(run.stack, run.inpainter(), wave, [(1.0, 1.3), (2.0, 2.2)])
    assert len(several.regions) == 2
    np.testing.assert_array_equal(several.recording.samples_NC[20_800:32_000, 0], wave[20_800:32_000])


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ([(1.0, 0.5)], "start before its end"),
        ([(-1.0, 0.5)], "start before its end"),
        ([(5.0, 6.0)], "start before its end"),
        ([(1.0, 2.0), (1.5, 3.0)], "start before its end"),
        ([(float("nan"), 1.0)], "start before its end"),
        ([], "got none"),
    ],
)
def test_gaps_that_cannot_be_are_refused(
    gaps: list[tuple[float, float]], said: str, inpainting_run: Path
) -> None:
    run = load_inpainting_run(inpainting_run)
    with pytest.raises(InputError, match=said):
        inpaint_speech(run.stack, run.inpainter(), READ_SENTENCE, gaps)
    wave = read_audio(READ_SENTENCE)
    with pytest.raises(InputError, match="some speech around"):
        inpaint_speech(run.stack, run.inpainter(), wave, [(0.0, len(wave) / 16_000)])


def test_long_recordings_are_shown_in_part_and_too_long_gaps_refused(inpainting_run: Path) -> None:
    run = load_inpainting_run(inpainting_run)  # whose model reads 320 tokens: 6.3 s
    wave = np.tile(read_audio(READ_SENTENCE), 2)
    result = inpaint_speech(run.stack, run.inpainter(), wave, [(5.0, 5.5)])
    assert len(result.recording.samples_NC) == len(wave)
    with pytest.raises(InputError, match="reads at once"):
        inpaint_speech(run.stack, run.inpainter(), wave, [(1.0, 8.0)])


def test_evaluation_and_table_measure_every_method_on_the_same_gaps(
    inpainting_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["evaluate", str(inpainting_run), "--json"]) == 0
    measures = json.loads(capsys.readouterr().out)
    for name in (
        "gap_unit_error_rate",
        "unit_error_rate",
        "gap_mel_cepstral_distance",
        "mel_cepstral_distance",
    ):
        low, high = measures[f"{name}_interval_95"]
        assert 0 < low <= measures[name] <= high
    assert load_inpainting_run(inpainting_run).record.metrics["test"] == measures
    assert run_command_line(["evaluate", str(inpainting_run), "--split", "valid", "--beam", "2"]) == 0
    assert "gap unit error rate" in capsys.readouterr().out

    inpainting_table.main(inpainting_run, tmp_path / "table", audio=True)
    table = json.loads((tmp_path / "table" / "table.json").read_text())["measures"]
    assert table["prompt"] == measures
    for row in table.values():
        assert 0 <= row["gap_voicing_error"] <= 1
    assert table["original"]["mel_cepstral_distance"] == 0 == table["original"]["unit_error_rate"]
    assert table["resynthesized"]["unit_error_rate"] == 0 < table["corrupted"]["gap_unit_error_rate"]
    assert len((tmp_path / "table" / "table.md").read_text().splitlines()) == 2 + len(table) == 9
    kept = sorted(
        path.relative_to(tmp_path).parts[-2] for path in (tmp_path / "table" / "audio").rglob("*.flac")
    )
    assert set(kept) == set(table)
    with pytest.raises(InputError, match="expected one of corrupted"):
        compare(load_inpainting_run(inpainting_run), "test", ["magic"])


def test_a_table_that_was_interrupted_keeps_what_it_had_measured(
    inpainting_run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "table.json"
    inpainting_table.main(inpainting_run, tmp_path, methods="resynthesized,corrupted")
    measured = json.loads(file.read_text())
    measured["measures"]["corrupted"]["gap_unit_error_rate"] = (
        0.125  # told from what it would be if measured again
    )
    file.write_text(json.dumps(measured))
    inpainting_table.main(inpainting_run, tmp_path, methods="corrupted,prompt,resynthesized")
    rows = json.loads(file.read_text())["measures"]
    assert rows["corrupted"] == measured["measures"]["corrupted"] and "prompt" in rows
    titles = [line.split(" | ")[0] for line in (tmp_path / "table.md").read_text().splitlines()[2:]]
    assert titles == ["| damaged, as it is", "| prompt", "| clean units, resynthesized"]
    inpainting_table.main(inpainting_run, tmp_path, methods="corrupted", split="valid")
    rows = json.loads(file.read_text())["measures"]
    assert list(rows) == ["corrupted"] and rows["corrupted"]["gap_unit_error_rate"] != 0.125


def test_candidates_are_drawn_and_their_median_is_taken(
    inpainting_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gap = [str(READ_SENTENCE), "--start-s", "1", "--end-s", "1.5", "--run", str(inpainting_run)]
    drawn = ["--candidates", "4", "--temperature", "1.5", "--json"]
    said = []
    for seed in ("0", "0", "1"):
        command = ["inpaint", *gap, "--out", str(tmp_path / "mended.wav"), *drawn, "--seed", seed]
        assert run_command_line(command) == 0
        said.append(json.loads(capsys.readouterr().out)["units"])
    assert said[0] == said[1] != said[2]
    both = ["--candidates", "4", "--beam", "2", "--out", str(tmp_path / "x.wav")]
    assert run_command_line(["inpaint", *gap, *both]) == 2
    assert "leave one out" in capsys.readouterr().err
    inpainting_table.main(inpainting_run, tmp_path / "table", methods="prompt", candidates=3)
    about = json.loads((tmp_path / "table" / "table.json").read_text())
    assert about["writing"]["candidates"] == 3 and about["measures"]["prompt"]["gap_unit_error_rate"] > 0


def test_the_table_may_fine_tune_the_whole_model_for_the_same_gaps(
    inpainting_run: Path, tmp_path: Path
) -> None:
    run, out = load_inpainting_run(inpainting_run), tmp_path / "table"
    before = run.stack.seq2seq.fingerprint()
    inpainting_table.main(inpainting_run, out, methods="prompt", finetune=True, finetune_lr=1e-3)
    lines = (out / "table.md").read_text().splitlines()
    finetuned = load_inpainting_run(out / "finetuned")
    n_trained = finetuned.record.trainable_parameters
    assert n_trained == sum(weight.numel() for weight in run.stack.seq2seq.parameters())
    assert finetuned.record.frozen_parameters == 0 and finetuned.config == run.config
    assert [line.split(" | ")[1] for line in lines[2:]] == [
        f"{run.record.trainable_parameters:,}",
        f"{n_trained:,}",
    ]
    written = (out / "finetuned" / "prompt.safetensors").stat()
    inpainting_table.main(inpainting_run, out, methods="prompt", finetune=True)
    assert (out / "finetuned" / "prompt.safetensors").stat().st_mtime_ns == written.st_mtime_ns
    assert (out / "table.md").read_text().splitlines() == lines
    assert load_inpainting_run(inpainting_run).stack.seq2seq.fingerprint() == before
    other = replace(run, config=replace(run.config, corruption=replace(run.config.corruption, n_spans=2)))
    with pytest.raises(InputError, match="same settings"):
        compare(run, "test", ["finetune"], finetuned=other)


def test_a_judge_compares_words_with_texts_or_with_what_it_hears_in_the_original(
    inpainting_run: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(speech.glob("*.wav"))[:3]
    for file in files:
        (tmp_path / file.name).symlink_to(file)
    splits = ("train", "valid", "test")
    for texts in (["one two"] * 3, ["", "", ""]):
        rows = [f"{f.name},{s},{t}" for f, s, t in zip(files, splits, texts, strict=True)]
        (tmp_path / "list.csv").write_text("\n".join(["path,split,label", *rows]) + "\n")
        command = ["evaluate", str(inpainting_run), "--data", str(tmp_path / "list.csv"), "--judge", OFFLINE]
        assert run_command_line([*command, "--json"]) == 0
        measures = json.loads(capsys.readouterr().out)
        assert measures["judge_reference"] == ("text" if texts[0] else "clean")
        low, high = measures["judge_wer_interval_95"]
        assert low <= measures["judge_wer"] <= high and measures["judge"] == OFFLINE
    with pytest.raises(InputError, match="by a stack that speaks"):
        compare(
            load_inpainting_run(inpainting_run), "test", ["corrupted"], audio=False, judge=load_judge(OFFLINE)
        )


def test_a_stack_may_bring_its_own_prompt_and_loads_the_model_when_it_is_used(
    inpainting_run: Path,
    seq2seq_stack: Path,
    tiny_stack: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "stack"
    shutil.copytree(seq2seq_stack, folder)
    command = ["inpaint", str(READ_SENTENCE), "--start-s", "1", "--end-s", "1.5", "--stack", str(folder)]
    out = ["--out", str(tmp_path / "out.flac")]
    assert run_command_line([*command, *out]) == 2
    assert "train --task inpainting" in " ".join(capsys.readouterr().err.split())
    assert run_command_line([*command, *out, "--plain", "--temperature", "0.8"]) == 0
    shutil.copytree(inpainting_run, folder / "prompts" / "inpainting")
    content = json.loads((folder / "stack.json").read_text())
    content["seq2seq"]["prompts"] = {"inpainting": "prompts/inpainting"}
    (folder / "stack.json").write_text(json.dumps(content))
    assert run_command_line([*command, *out]) == 0

    stack = load_stack(folder)
    assert "seq2seq" not in vars(stack) and stack.lm.family == "gslm" and "seq2seq" not in vars(stack)
    assert stack.seq2seq.family == "unit_mbart" and stack.seq2seq_deduplicates
    with pytest.raises(StackError, match="unit mBART"):
        load_stack(tiny_stack).seq2seq  # noqa: B018
    content["seq2seq"]["family"] = "gslm"
    (folder / "stack.json").write_text(json.dumps(content))
    with pytest.raises(StackError, match="'gslm'"):
        load_stack(folder)
    content["seq2seq"] = {"family": "unit_mbart", "folder": "gone"}
    (folder / "stack.json").write_text(json.dumps(content))
    with pytest.raises(StackError, match="gone"):
        load_stack(folder)


def test_a_model_of_frames_is_shown_frames(seq2seq_stack: Path) -> None:
    stack = load_stack(seq2seq_stack)
    assert stack.seq2seq_part is not None
    frames = replace(stack, seq2seq_part={**stack.seq2seq_part, "deduplicate": False})
    wave = read_audio(READ_SENTENCE)[:48_000]
    inpainter = plain_inpainter(frames, InpaintingConfig(masked=True), WritingConfig())
    assert not inpainter.reading.deduplicate
    result = inpaint_speech(frames, inpainter, wave, [(1.0, 1.5)])
    assert len(result.units) == len(frames.quantize([wave], deduplicate=False)[0])


def test_how_fast_gaps_are_filled_is_measured_where_a_stack_can(seq2seq_stack: Path) -> None:
    assert bench_speed.inpainting_rtf(load_stack(seq2seq_stack), 1) > 0
