from __future__ import annotations

import json
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from speechprompt.cli import run as run_command_line
from speechprompt.generate.continuation import continue_speech
from speechprompt.generate.corruption import corrupted
from speechprompt.generate.inpainting import inpaint_speech
from speechprompt.generate.inpainting_run import load_inpainting_run
from speechprompt.seq2seq.config import published_parameter_count
from speechprompt.stack import Stack, StackError
from speechprompt.stack_folder import load_stack, stack_names, write_stack_json
from tasks import get_task
from tasks.spoken_digits import READ_SENTENCE
from units.audio import read_audio, write_audio
from units.errors import AudioError, InputError, UnitSpecMismatch
from vocoder.base import UnitVocoder
from vocoder.config import HiFiGANConfig
from vocoder.hifigan import UnitHiFiGAN

PARTS = ("quantizer", "lm", "vocoder")


@pytest.fixture
def folder(tiny_stack: Path, tmp_path: Path) -> Path:
    """A copy of the tiny stack that may be spoilt."""
    return Path(shutil.copytree(tiny_stack, tmp_path / "stack"))


@pytest.fixture(scope="module")
def stack(tiny_stack: Path) -> Stack:
    return load_stack(tiny_stack)


@pytest.fixture(scope="module")
def clips() -> list[Path]:
    return [u.path for u in get_task("spoken_digits").utterances("test")[::60] if u.path is not None]


def rewrite(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_parts_are_loaded_when_needed_only(tiny_stack: Path, clips: list[Path]) -> None:
    stack = load_stack(tiny_stack)
    assert not set(PARTS) & set(vars(stack))
    stack.quantize(clips[:1])
    assert set(PARTS) & set(vars(stack)) == {"quantizer"}
    assert stack.lm is stack.lm


def test_a_vocoder_that_needs_f0_is_told_before_any_work(
    folder: Path, clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = load_stack(folder).spec
    sizes = HiFiGANConfig(
        num_embeddings=spec.n_units,
        embedding_dim=8,
        upsample_initial_channel=32,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1,),),
        f0=True,
        f0_quant_num_bin=4,
    )
    shutil.rmtree(folder / "vocoder")
    UnitVocoder(UnitHiFiGAN(sizes), spec).save(folder / "vocoder")
    stack = load_stack(folder)
    for speak, told in (
        (stack.resynthesize, "tell how its F0 is scaled"),
        (
            partial(continue_speech, stack, seed_s=0.1, length_s=0.1),
            "from units alone, got one that also needs F0",
        ),
    ):
        with pytest.raises(InputError, match=told):
            speak(clips[0])
    assert "lm" not in vars(stack)
    [units] = stack.quantize(clips[:1])
    assert len(stack.vocoder(units, f0=np.zeros(units.n_frames, dtype=np.int64))) > 0
    out = tmp_path / "again.wav"
    for verb, *lengths in (["resynthesize"], ["continue", "--seed-s", "0.1", "--length-s", "0.1"]):
        assert (
            run_command_line([verb, str(clips[0]), "--out", str(out), "--stack", str(folder), *lengths]) == 2
        )
        assert capsys.readouterr().err.count("\n") == 1 and not out.exists()


def test_a_pickle_holds_no_weights_and_opens_the_same_stack(stack: Stack, clips: list[Path]) -> None:
    stack.quantize(clips[0])
    content = pickle.dumps(stack)
    assert len(content) < 2000
    again = pickle.loads(content)
    assert not set(PARTS) & set(vars(again))
    assert (again.quantize(clips[0])[0].units == stack.quantize(clips[0])[0].units).all()


def test_parts_fit_and_the_language_model_is_frozen(stack: Stack) -> None:
    assert stack.quantizer.spec == stack.vocoder.spec == stack.spec
    assert stack.lm.vocab.n_units == stack.spec.n_units
    assert not stack.lm.training
    assert not any(parameter.requires_grad for parameter in stack.lm.parameters())


def test_files_and_waves_one_or_many_give_the_same_units(stack: Stack, clips: list[Path]) -> None:
    together = stack.quantize(clips)
    alone = [stack.quantize(read_audio(clip))[0] for clip in clips]
    for one, other in zip(together, alone, strict=True):
        assert one.units.tolist() == other.units.tolist()
        assert one.durations is not None
        assert (one.units[1:] != one.units[:-1]).all()
    frames = stack.quantize(str(clips[0]), deduplicate=False)[0]
    assert frames.durations is None
    assert frames.units.tolist() == together[0].expand().units.tolist()
    assert stack.quantize([]) == []


def test_resynthesis_lasts_as_long_as_its_frames(stack: Stack, clips: list[Path]) -> None:
    wave = stack.resynthesize(clips[0])
    [units] = stack.quantize(clips[0])
    assert wave.dtype == np.float32
    assert len(wave) == units.n_frames * stack.vocoder.sample_rate / stack.spec.frame_rate


def test_bad_audio_is_named(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("not audio")
    with pytest.raises(AudioError, match=r"a\.wav"):
        stack.quantize(tmp_path / "a.wav")
    write_audio(tmp_path / "b.wav", np.zeros(80, dtype=np.float32))
    with pytest.raises(AudioError, match=r"b\.wav.*25 ms"):
        stack.quantize([tmp_path / "b.wav"])


def test_a_stack_is_found_again_by_its_source(stack: Stack) -> None:
    assert load_stack(stack.source).spec == stack.spec
    assert Path(stack.source).is_absolute()
    for name in stack_names():
        assert load_stack(name).source == name


def test_mini_prosody_hears_and_speaks_as_mini_and_says_durations_itself(clips: list[Path]) -> None:
    mini, prosodic = load_stack("mini"), load_stack("mini-prosody")
    assert prosodic.spec == mini.spec and prosodic.lm.family == "pgslm" and prosodic.reads_prosody
    [there], [here] = prosodic.quantize(clips[0]), mini.quantize(clips[0], deduplicate=True)
    assert there.units.tolist() == here.units.tolist()
    said = continue_speech(prosodic, clips[0], seed_s=0.2, length_s=0.5)
    assert said.units.durations is not None and len(said.wave) > 0


@pytest.mark.parametrize("name", ["no-such-stack", ".", "stack.json"])
def test_an_unknown_stack_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StackError, match=r"stack\.json"):
        load_stack(name)


def test_a_codebook_of_another_spec_is_refused_naming_both(folder: Path) -> None:
    from units.kmeans import load_codebook, save_codebook

    file = folder / "codebook.safetensors"
    centroids_KD, spec = load_codebook(file)
    other_KD = centroids_KD + 1
    from dataclasses import replace

    from units.kmeans import codebook_id

    save_codebook(file, other_KD, replace(spec, codebook=codebook_id(other_KD)))
    with pytest.raises(UnitSpecMismatch) as caught:
        load_stack(folder)
    for name in ("stack.json", "codebook.safetensors", spec.codebook, codebook_id(other_KD)):
        assert name in str(caught.value)


def test_a_vocoder_of_another_spec_is_refused_naming_both(folder: Path) -> None:
    config = folder / "vocoder" / "config.json"
    spec = json.loads(config.read_text())["spec"]
    rewrite(config, spec={**spec, "codebook": "ffffffffffff"})
    with pytest.raises(UnitSpecMismatch, match=r"stack\.json.*vocoder.*ffffffffffff"):
        load_stack(folder)


def test_an_encoder_of_another_width_or_name_is_refused(folder: Path) -> None:
    spec = json.loads((folder / "stack.json").read_text())["spec"]
    rewrite(folder / "stack.json", encoder={"family": "logmel", "settings": {"n_mels": 32}})
    assert spec["encoder"] == "tiny"
    with pytest.raises(UnitSpecMismatch, match="logmel-32"):
        load_stack(folder).quantizer  # noqa: B018 (loading is what is tested)


def test_an_encoder_cut_at_another_layer_is_refused(folder: Path) -> None:
    rewrite(folder / "stack.json", encoder={"family": "hubert", "folder": "encoder", "layer": 1})
    with pytest.raises(UnitSpecMismatch, match="layer 2 against 1"):
        load_stack(folder).quantizer  # noqa: B018


def test_a_language_model_of_other_units_is_refused(folder: Path) -> None:
    from speechprompt.lm.gslm import GSLM
    from speechprompt.lm.transformer import TransformerConfig
    from speechprompt.vocab import UnitVocab

    config = TransformerConfig(n_layers=1, d_model=8, n_heads=2, d_ffn=8, max_positions=64)
    GSLM(config, UnitVocab.from_n_units(50)).initialise().save(folder / "lm")
    with pytest.raises(StackError, match="100 units.*got 50"):
        load_stack(folder).lm  # noqa: B018


@pytest.mark.parametrize("part", ["encoder", "codebook.safetensors", "lm", "vocoder", "vocoder/config.json"])
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    path = folder / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(StackError, match=str(path)):
        load_stack(folder)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"name": "x"}',
        "\x00",
        '{"name": "x", "spec": 3, "encoder": {}, "codebook": "c", "lm": {}}',
    ],
)
def test_a_stack_json_of_another_form_is_refused_in_one_line(folder: Path, content: str) -> None:
    (folder / "stack.json").write_text(content)
    with pytest.raises(InputError) as caught:
        load_stack(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"lm": {"family": "gpt", "folder": "lm"}}, {"encoder": {"family": "mfcc"}}]
)
def test_unknown_families_are_refused_with_the_choices(folder: Path, change: dict) -> None:
    rewrite(folder / "stack.json", **change)
    with pytest.raises(StackError, match=r"hubert or cpc or logmel.*gslm"):
        load_stack(folder)


def test_an_encoder_needs_a_folder_or_a_source(folder: Path) -> None:
    rewrite(folder / "stack.json", encoder={"family": "hubert"})
    with pytest.raises(StackError, match="source"):
        load_stack(folder)


def test_a_stack_without_vocoder_quantizes_and_says_why_it_cannot_speak(
    folder: Path, clips: list[Path]
) -> None:
    rewrite(folder / "stack.json", vocoder=None)
    stack = load_stack(folder)
    assert len(stack.quantize(clips[0])) == 1
    with pytest.raises(StackError, match="vocoder"):
        stack.resynthesize(clips[0])


def test_a_weightless_encoder_makes_a_stack(folder: Path, clips: list[Path]) -> None:
    from units.encoders.logmel import LogMelEncoder
    from units.kmeans import fit_codebook, save_codebook
    from units.quantizer import CodebookQuantizer

    encoder = LogMelEncoder(n_mels=16)
    features_BFD, counts_B = encoder.encode([read_audio(clip) for clip in clips])
    frames = [row[:count].numpy() for row, count in zip(features_BFD, counts_B, strict=True)]
    centroids_KD = fit_codebook(frames, 8)
    spec = CodebookQuantizer(encoder, centroids_KD).spec
    save_codebook(folder / "logmel.safetensors", centroids_KD, spec)
    write_stack_json(
        folder,
        name="logmel",
        spec=spec,
        encoder={"family": "logmel", "settings": {"n_mels": 16}},
        codebook="logmel.safetensors",
        lm={"family": "gslm", "folder": "lm"},
        vocoder=None,
    )
    stack = load_stack(folder)
    assert stack.spec == stack.quantize(clips)[0].spec == spec


def test_mini_fills_a_gap_by_the_prompt_that_comes_with_it(tmp_path: Path) -> None:
    stack = load_stack("mini")
    folder = stack.shipped_prompt("inpainting")
    assert folder is not None
    run = load_inpainting_run(folder, stack=stack)
    assert run.record.stack == "mini" and run.record.data is None
    assert run.record.trainable_parameters == published_parameter_count(20, 4, 4, 256)
    wave_N, gap = stack.read(READ_SENTENCE), (22_400, 32_000)
    damaged_N = corrupted(wave_N, [gap], run.config.corruption)
    clean, heard = stack.quantize([wave_N, damaged_N], deduplicate=False)
    filled = inpaint_speech(stack, run.inpainter(), READ_SENTENCE, [(1.4, 2.0)])
    [(start, stop)] = filled.regions
    assert (filled.units.units[:start] == heard.units[:start]).all()
    assert (filled.units.units[stop:] == heard.units[stop:]).all()
    same = filled.units.units == clean.units  # the encoder hears the gap in all frames, a little
    assert same[:start].mean() > 0.9 and same[stop:].mean() > 0.9
    assert len(set(filled.units.units[start:stop].tolist())) >= 5  # it speaks
