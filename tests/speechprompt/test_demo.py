"""What the demonstration page shows, without a browser: recordings checked, gaps, takes, labels, pictures, notes."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from speechprompt.cli import run as run_command_line
from speechprompt.cli.serve_verb import is_local
from speechprompt.demo.classification import heard_by
from speechprompt.demo.clip import ClipError, open_clip
from speechprompt.demo.continuation import N_TAKES, takes
from speechprompt.demo.drawing import extremes, picture, waveform_svg
from speechprompt.demo.gap_picker import gap_picker
from speechprompt.demo.inpaint import fill_gap, first_gap
from speechprompt.demo.launch import free_port, own_folder
from speechprompt.demo.limits import Limits
from speechprompt.demo.notice import problem, told
from speechprompt.demo.resynthesis import drawn, respoken
from speechprompt.demo.shelf import Shelf
from speechprompt.demo.studio import Studio, open_studio
from speechprompt.report.timeline import LEFT, RIGHT
from speechprompt.run import load_run
from speechprompt.run_record import RunError
from tasks.spoken_digits import READ_SENTENCE
from units.errors import AudioError, InputError
from units.recording import read_recording
from units.types import UnitSequence, UnitSpec

RATE = 16_000
SPEC = UnitSpec(encoder="e", layer=1, n_units=10, frame_rate=50.0, codebook="0" * 12)


@pytest.fixture(scope="module")
def studio(inpainting_run: Path, word_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """A page's parts with everything: a prompt that fills gaps, and a run that labels."""
    opened = open_studio(
        None, tmp_path_factory.mktemp("results"), inpaint_run=inpainting_run, runs=f"words={word_run}"
    )
    opened.warm_up()
    return opened


def noise(seconds: float, level: float = 0.2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-level, level, round(seconds * RATE)).astype(np.float32)


# --- recordings ---


def test_a_recording_is_read_at_the_stacks_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a b.wav", np.stack([noise(1.0)] * 2, axis=1), 8_000)
    clip = open_clip(tmp_path / "a b.wav", RATE, Limits())
    assert (clip.title, clip.sample_rate, clip.wave_N.shape) == ("a b", RATE, (2 * RATE,))
    assert clip.seconds == 2.0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("silence.wav", np.zeros(RATE, dtype=np.float32), "is silent"),
        ("hum.wav", noise(1.0, 1e-3), "is silent"),
        ("short.wav", noise(0.2), "too short: 0.20 s"),
        ("long.flac", noise(2.5), "too long: 2.5 s, and this page takes 2 s"),
        ("large.wav", np.tile(noise(2.5), 16), "too large: 1 MiB"),
        ("text.wav", b"no sound at all", "not audio"),
        ("empty.wav", b"", "not audio"),
    ],
)
def test_what_cannot_be_used_is_told_in_words(
    name: str, content: bytes | np.ndarray, said: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        soundfile.write(file, content, RATE)
    with pytest.raises(ClipError, match=said) as raised:
        open_clip(file, RATE, Limits(audio_s=2, file_mib=1))
    assert str(raised.value).startswith(name) and str(tmp_path) not in str(raised.value)


def test_a_recording_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="no recording yet"):
        open_clip(None, RATE, Limits())
    with pytest.raises(
        ClipError, match="give it again"
    ):  # the page was left open until its uploads were deleted
        open_clip(tmp_path / "gone.wav", RATE, Limits())


def test_problems_name_no_folder_and_carry_no_markup(tmp_path: Path) -> None:
    file = tmp_path / "<b>.wav"

    def fail() -> None:
        raise AudioError(f"{file}: expected <audio>, got none; mend it")

    nothing, html = told(file, fail)
    assert nothing is None
    assert html == problem("<b>.wav: expected <audio>, got none; mend it")
    assert "<b>" not in html and str(tmp_path) not in html and 'role="alert"' in html
    assert told(file, lambda: 3) == (3, "")


@pytest.mark.parametrize(
    "wrong", [{"audio_s": 0}, {"new_s": float("nan")}, {"silent_db": 1}, {"audio_s": 0.1}]
)
def test_limits_make_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        Limits(**wrong)  # type: ignore[arg-type]


def test_the_shelf_keeps_the_newest(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 3)
    places = [shelf.place("same.wav") for _ in range(5)]
    for place in places[2:]:
        place.write_bytes(b"x")
    assert len(set(places)) == 5
    assert [place.exists() for place in places] == [False, False, True, True, True]


# --- pictures ---


@given(st.integers(0, 300), st.integers(0, 80))
def test_extremes_hold_every_sample(n_samples: int, n_columns: int) -> None:
    wave = np.random.default_rng(n_samples).normal(size=n_samples).astype(np.float32)
    low, high = extremes(wave, n_columns)
    assert low.shape == high.shape == (n_columns,) and (low <= high).all()
    if n_samples and n_columns:
        assert low.min() >= wave.min() and high.max() <= wave.max()
    if n_samples >= n_columns > 0:
        assert low.min() == wave.min() and high.max() == wave.max()


def test_the_generated_part_is_coloured_where_it_is() -> None:
    units = UnitSequence(np.repeat(np.arange(10), 10), SPEC)
    html = picture(
        noise(2.0),
        RATE,
        units,
        ["#808080"] * 10,
        description="a <tone>",
        generated_s=[(0.5, 1.0)],
        generated_units_s=[(0.46, 1.04)],
    )
    per_second = (1040 - LEFT - RIGHT) / 2
    shapes = {
        name: (float(x), float(width))
        for name, x, width in re.findall(
            r'<rect class="(generated[-\w]*)" x="([\d.]+)".*? width="([\d.]+)"', html
        )
    }
    assert shapes["generated"] == pytest.approx((LEFT + 0.5 * per_second, 0.5 * per_second), abs=0.01)
    assert shapes["generated-units"] == pytest.approx((LEFT + 0.46 * per_second, 0.58 * per_second), abs=0.01)
    kinds = re.findall(r'<path class="(\w+)" d="M([\d.]+) ', html)
    assert [kind for kind, _ in kinds] == ["given", "new", "given"]
    assert [float(x) for _, x in kinds] == pytest.approx(
        [LEFT, LEFT + 0.5 * per_second, LEFT + per_second], abs=1
    )
    assert "a &lt;tone&gt;" in html and "NaN" not in html


def test_a_wave_of_nothing_is_drawn_too() -> None:
    for wave in (np.zeros(0, dtype=np.float32), np.zeros(5, dtype=np.float32)):
        assert waveform_svg(wave, RATE, 0.001).startswith("<svg")


# --- inpaint ---


@given(st.floats(0.3, 600))
def test_the_first_gap_lies_within_the_recording(seconds: float) -> None:
    start_s, end_s = first_gap(seconds)
    assert 0 < start_s < end_s < seconds and end_s - start_s <= 0.61


def test_the_picker_says_where_its_axis_is() -> None:
    html = gap_picker("<svg></svg>", 5.1234, (1.0, 1.5))
    facts = dict(re.findall(r'data-(\w+)="([^"]+)"', html))
    assert float(facts["left"]) * 1040 == pytest.approx(LEFT, abs=0.01)
    assert (float(facts["left"]) + float(facts["plot"])) * 1040 == pytest.approx(1040 - RIGHT, abs=0.01)
    assert (facts["seconds"], facts["start"], facts["end"]) == ("5.1234", "1.00", "1.50")
    assert html.count('role="slider"') == 3 == html.count('tabindex="0"') == html.count("aria-label=")


def test_a_gap_is_filled_and_the_rest_keeps_its_bits(studio: Studio) -> None:
    clip = studio.clip(READ_SENTENCE)
    take = fill_gap(studio, clip, 1.2, 1.8, whole=False)
    assert take.file.name == "read_sentence-inpainted.flac"
    before, after = read_recording(READ_SENTENCE), read_recording(take.file)
    start, stop = round(1.2 * before.sample_rate), round(1.8 * before.sample_rate)
    np.testing.assert_array_equal(after.samples_NC[:start], before.samples_NC[:start])
    np.testing.assert_array_equal(after.samples_NC[stop:], before.samples_NC[stop:])
    assert (after.samples_NC[start:stop] != before.samples_NC[start:stop]).mean() > 0.9
    assert "as it was" in take.caption and take.picture.count('class="generated"') == 1
    whole = fill_gap(studio, clip, 1.2, 1.8, whole=True)
    assert "spoken anew" in whole.caption and whole.file != take.file
    assert re.findall(r'<path class="(\w+)"', whole.picture) == ["new"]


@pytest.mark.parametrize(
    ("start_s", "end_s", "said"),
    [
        (None, 1.0, "beginning and an end"),
        (1.0, 0.5, "cannot be filled"),
        (1.0, 1.01, "0.05 s or more"),
        (4.0, 9.0, "within the recording's 5.15 s"),
        (float("nan"), 1.0, "cannot be filled"),
    ],
)
def test_gaps_that_cannot_be_are_told(
    start_s: float | None, end_s: float | None, said: str, studio: Studio
) -> None:
    with pytest.raises(ClipError, match=said):
        fill_gap(studio, studio.clip(READ_SENTENCE), start_s, end_s, whole=False)


def test_a_stack_that_cannot_inpaint_says_what_is_needed(
    tiny_stack: Path, seq2seq_stack: Path, tmp_path: Path
) -> None:
    without = open_studio(str(tiny_stack), tmp_path)
    assert without.inpainter is None
    for words in ("unit mBART", "tiny has none", "--inpaint-run", "docs/inpainting.md"):
        assert words in without.inpainter_note
    with pytest.raises(ClipError, match="unit mBART"):
        fill_gap(without, without.clip(READ_SENTENCE), 1.0, 1.5, whole=False)
    plain = open_studio(str(seq2seq_stack), tmp_path)
    assert plain.inpainter is not None and "plain language model" in plain.inpainter_note
    assert fill_gap(plain, plain.clip(READ_SENTENCE), 1.0, 1.5, whole=False).file.is_file()


# --- continue, classify, resynthesize ---


def test_three_takes_differ_and_their_seeds_repeat_them(studio: Studio) -> None:
    clip = studio.clip(READ_SENTENCE)
    settings = {"seed_s": 1.0, "length_s": 0.5, "temperature": 1.0}
    three = list(takes(studio, clip, seed=4, **settings))  # type: ignore[arg-type]
    assert [take.file.name for take in three] == [f"read_sentence-continued-{seed}.wav" for seed in (4, 5, 6)]
    assert len({take.file.read_bytes() for take in three}) == N_TAKES
    again = next(takes(studio, clip, seed=5, **settings))  # type: ignore[arg-type]
    assert again.file.read_bytes() == three[1].file.read_bytes()
    assert "1.0 s given, 0.5 s continued" in again.caption
    for wrong, said in (({"seed_s": 9.0}, "Hear less"), ({"length_s": 60.0}, "adds up to 10 s")):
        with pytest.raises(ClipError, match=said):
            next(takes(studio, clip, seed=0, **{**settings, **wrong}))  # type: ignore[arg-type]


def test_labels_are_those_of_the_run(studio: Studio, word_run: Path, two_words: Path) -> None:
    clip = studio.clip(min(two_words.glob("*_*_*")))
    html = heard_by(studio, clip, "words")
    shown = re.findall(r"<bdi>([^<]*)</bdi><span>([\d.]+)%", html)
    assert {label for label, _ in shown} == set(load_run(word_run).record.labels)
    assert sum(float(share) for _, share in shown) == pytest.approx(100, abs=0.2)


def test_a_run_shares_the_pages_stack_where_it_is_the_same(word_run: Path, tmp_path: Path) -> None:
    stack = json.loads((word_run / "run.json").read_text())["stack"]
    same = open_studio(stack, tmp_path, runs=str(word_run))
    assert same.run(word_run.name).stack is same.stack
    other = open_studio("mini", tmp_path, runs=str(word_run))
    assert other.run(word_run.name).stack.name == "tiny"


def test_runs_are_looked_into_before_the_page_is_shown(
    word_run: Path, inpainting_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="twice"):
        open_studio(None, tmp_path, runs=f"a={word_run},a={word_run}")
    with pytest.raises(RunError, match="--inpaint-run"):
        open_studio(None, tmp_path, runs=str(inpainting_run))
    with pytest.raises(RunError, match="expected a run folder"):
        open_studio(None, tmp_path, runs=str(tmp_path))


def test_a_recording_is_spoken_again(studio: Studio) -> None:
    clip = studio.clip(READ_SENTENCE)
    take = respoken(studio, clip, None)
    assert abs(soundfile.info(take.file).duration - clip.seconds) < 0.05
    assert re.findall(r'<path class="(\w+)"', take.picture) == ["new"]
    assert re.findall(r'<path class="(\w+)"', drawn(studio, clip)) == ["given"]
    with pytest.raises(InputError, match="speaker"):
        respoken(studio, clip, "nobody")


# --- page and verb ---


def test_the_page_says_what_it_lacks(tiny_stack: Path, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    from speechprompt.demo.page import new_page

    config = new_page(open_studio(str(tiny_stack), tmp_path)).get_config_file()
    text = json.dumps(config)
    assert "Inpainting needs a unit mBART" in text and "No trained run was given" in text
    assert "up to 16 MiB" in text
    # no visitor can call more than the page calls
    assert {dependency["api_visibility"] for dependency in config["dependencies"]} == {"private"}


def test_uploads_and_results_end_with_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")
    with own_folder() as folder:
        (folder / "result.wav").write_bytes(b"x")
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stack", "nowhere"], "expected the name of a stack"),
        (["--runs", "=a"], "NAME=FOLDER"),
        (["--inpaint-run", "nowhere"], "expected a run folder"),
        (["--max-audio-s", "0"], "audio_s"),
        (["--host", "not.an.address.invalid"], "expected an address to listen at"),
    ],
)
def test_the_verb_refuses_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")
    assert run_command_line(["demo", "--port", "0", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_told() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(InputError, match="choose another --host or --port"),
    ):
        free_port("127.0.0.1", taken.getsockname()[1])
    assert free_port("127.0.0.1", 0) > 0


def test_the_page_knows_who_can_reach_it() -> None:
    hosts = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.1.2", "example.org")
    assert [is_local(host) for host in hosts] == [True, True, True, False, False, False]
