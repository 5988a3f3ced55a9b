"""The report is one file that needs nothing else, says what it was given, and draws units where they sound."""

from __future__ import annotations

import base64
import io
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt.report import (
    Clip,
    ClipSection,
    Curve,
    Report,
    Score,
    render_report,
    unit_colours,
    write_report,
)
from speechprompt.report.charts import confusion_table, curves_svg, parameters_bar
from speechprompt.report.colours import ink_on
from speechprompt.report.spectrogram import encode_grey_png, spectrogram_db
from speechprompt.report.timeline import timeline_svg
from units.types import UnitSequence, UnitSpec

SPEC = UnitSpec("test", 2, 10, 50.0, "0123456789ab")
RATE = 16_000
VOID = {"meta", "link", "br", "hr", "img", "input"}


def tone(hz: float, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def make_report(label: str = "7", caption: str = "a clip") -> Report:
    units = UnitSequence(np.array([1, 2, 1]), SPEC, durations=np.array([10, 5, 10]))
    clip = Clip(label, caption, tone(440, 0.5), RATE, units, guesses=[(label, 0.9), ("b", 0.1)], right=True)
    spoken = Clip("again", caption, tone(440, 0.5), RATE, units, boundary_s=0.3)
    return Report(
        title="A title",
        summary="A summary.",
        facts=[("95%", "accuracy")],
        scores=[Score("prompt", "five positions", 0.95, (0.9, 0.98), 0.94, 1000, ours=True)],
        labels=[label, "b"],
        confusion=np.array([[19, 1], [0, 20]]),
        curves=[("Loss", False, [Curve("train", [1, 2, 3], [2.0, 1.0, 0.5], mark=2)])],
        trainable_parameters=1000,
        frozen_parameters=99_000,
        sections=[
            ClipSection("Clips", "Three.", [clip], narrow=True),
            ClipSection("Speech", "Two.", [spoken]),
        ],
        steps=["did this"],
        commands=["speechprompt quickstart --out here"],
        colours=unit_colours(SPEC.n_units),
        details={"seed": "0"},
    )


class Balance(HTMLParser):
    """Collects tags, and fails on one that is closed out of order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = parsed(render_report(make_report()))
    for _, attributes in page.seen:
        for name in ("src", "href", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    html = render_report(make_report())
    assert "@import" not in html and "url(" not in html and "http" not in html


def test_players_hold_the_sound() -> None:
    page = parsed(render_report(make_report()))
    players = [attributes["src"] for tag, attributes in page.seen if tag == "audio"]
    assert len(players) == 2
    for source in players:
        assert source is not None
        wave, rate = soundfile.read(io.BytesIO(base64.b64decode(source.split(",", 1)[1])), dtype="float32")
        assert rate == RATE
        np.testing.assert_allclose(wave, tone(440, 0.5), atol=2 / 32768)


def test_every_drawing_has_a_description() -> None:
    html = render_report(make_report())
    drawings = re.findall(r'<svg[^>]*role="img"[^>]*>(.{0,7})', html)
    assert len(drawings) == html.count("<svg") == 5
    assert set(drawings) == {"<title>"}


@pytest.mark.parametrize("wild", ["<script>alert(1)</script>", "$title ${x}", 'a"b', "تكبير", "零 & <b>"])
def test_text_of_users_is_shown_as_it_is(wild: str) -> None:
    page = parsed(render_report(make_report(label=wild, caption=wild)))
    assert wild in "".join(page.text)
    assert sum(tag == "script" for tag, _ in page.seen) == 1  # ours


def test_write_report_replaces_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "report.html"
    write_report(file, make_report())
    assert file.read_text(encoding="utf-8") == render_report(make_report())
    assert [path.name for path in file.parent.iterdir()] == ["report.html"]


def test_units_are_drawn_where_they_sound() -> None:
    units = UnitSequence(np.array([3, 3, 7, 7, 7, 7, 3, 3]), SPEC)  # 2 + 4 + 2 frames of 20 ms
    svg = timeline_svg(tone(440, 0.16), RATE, units, unit_colours(10), description="d", width=1040)
    drawn = [
        (float(x), float(width), colour)
        for x, width, colour in re.findall(
            r'class="unit" x="([\d.]+)" y="[\d.]+" width="([\d.]+)".*?fill="(#\w+)"', svg
        )
    ]
    assert [colour for _, _, colour in drawn] == [unit_colours(10)[u] for u in (3, 7, 3)]
    widths = np.array([width for _, width, _ in drawn])
    np.testing.assert_allclose(widths / widths.sum(), [0.25, 0.5, 0.25], atol=1e-3)
    image = re.search(r'<image[^>]* x="([\d.]+)"[^>]* width="([\d.]+)"', svg)
    assert image is not None
    assert drawn[0][0] == float(image[1])  # one time axis
    assert drawn[-1][0] + drawn[-1][1] == pytest.approx(float(image[1]) + float(image[2]), abs=0.1)
    assert "unit 7, 0.04 to 0.12 s" in svg


@given(n_units=st.integers(1, 300), planted=st.booleans())
@settings(max_examples=30, deadline=None)
def test_each_unit_has_its_own_colour(n_units: int, planted: bool) -> None:
    centroids = np.random.default_rng(n_units).normal(size=(n_units, 4)) if planted else None
    colours = unit_colours(n_units, centroids)
    assert len(set(colours)) == len(colours) == n_units
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


def test_neighbours_in_the_codebook_get_neighbouring_hues() -> None:
    angle = np.random.default_rng(0).permutation(30) * 2 * np.pi / 30
    circle = np.stack([3 * np.cos(angle), 2 * np.sin(angle), 0 * angle], axis=1)
    order = [unit_colours(30).index(colour) for colour in unit_colours(30, circle)]  # hue rank of each unit
    steps = np.diff(np.array(order)[np.argsort(angle)])
    assert set(np.mod(steps, 30)) in ({1}, {29})  # around the circle, one way or the other


def test_ink_is_legible() -> None:
    assert ink_on("#ffffff") == "#000" and ink_on("#000000") == "#fff"


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 48_000])
def test_a_tone_is_one_dark_line(sample_rate: int) -> None:
    wave = np.sin(2 * np.pi * 1000 * np.arange(sample_rate) / sample_rate)
    level = spectrogram_db(wave, sample_rate, n_rows=96)
    loudest = level.mean(axis=1).argmax()
    mel = 2595 * np.log10(1 + np.array([1000, sample_rate / 2]) / 700)
    assert abs(loudest - 96 * (1 - mel[0] / mel[1])) <= 1.5
    assert level.max() == 0 and level.min() >= -65


@pytest.mark.parametrize("n_samples", [400, 1, 16_000 * 20])
def test_spectrogram_of_any_length_stays_small(n_samples: int) -> None:
    level = spectrogram_db(np.zeros(n_samples, dtype=np.float32), RATE)
    assert level.shape[0] == 96 and 1 <= level.shape[1] <= 641
    assert np.isfinite(level).all()


def test_png_holds_the_pixels() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    png = encode_grey_png(pixels)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    length = int.from_bytes(png[33:37], "big")
    lines = np.frombuffer(zlib.decompress(png[41 : 41 + length]), dtype=np.uint8).reshape(3, 5)
    assert (lines[:, 0] == 0).all() and (lines[:, 1:] == pixels).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_curves_stay_inside_their_axes(values: list[float], percent: bool) -> None:
    ys = [abs(v) / 1e6 for v in values] if percent else values
    svg = curves_svg([Curve("a", range(len(ys)), ys)], title="t", x_label="epoch", percent=percent)
    path = re.search(r'points="([^"]+)"', svg)
    assert path is not None
    for point in path[1].split():
        x, y = map(float, point.split(","))
        assert 44 <= x <= 500 and 13.5 <= y <= 206.5


def test_confusion_shows_every_count() -> None:
    counts = np.array([[19, 1], [0, 20]])
    page = parsed(confusion_table(counts, ["a", "b"]))
    titles = [attributes["title"] for tag, attributes in page.seen if "title" in attributes]
    assert titles == ["a heard as a: 19", "a heard as b: 1", "b heard as a: 0", "b heard as b: 20"]


def test_parameters_are_to_scale() -> None:
    svg = parameters_bar(25_000, 75_000)
    assert 'width="250.00"' in svg and "25,000 trainable (25%)" in svg
