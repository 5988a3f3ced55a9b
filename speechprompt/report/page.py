"""The self-contained HTML report: everything, sounds included, in one file that opens without a network."""

from __future__ import annotations

import base64
import io
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import soundfile

from speechprompt.report.charts import confusion_table, curves_svg, parameters_bar, scores_table
from speechprompt.report.content import Clip, ClipSection, Report
from speechprompt.report.timeline import timeline_svg
from units.atomic import atomic_path

_WIDE, _NARROW = 1040, 340  # pixels, of a timeline's drawing


def write_report(path: str | Path, report: Report) -> None:
    """Write `report` as one HTML file, atomically. Raises OSError where the folder cannot be written."""
    html = render_report(report)
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def render_report(report: Report) -> str:
    """Give the whole page as text. Labels and captions may hold any character; they are escaped."""
    return fill_template(
        "page.html",
        title=escape(report.title),
        summary=escape(report.summary),
        facts="".join(
            f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for value, name in report.facts
        ),
        scores=scores_table(report.scores),
        curves="".join(
            f"<figure><figcaption>{escape(title)}</figcaption>"
            f"{curves_svg(curves, title=title, x_label='epoch', percent=percent)}</figure>"
            for title, percent, curves in report.curves
        ),
        confusion=confusion_table(report.confusion, report.labels),
        parameters=parameters_bar(report.trainable_parameters, report.frozen_parameters),
        sections="".join(_section(section, report.colours) for section in report.sections),
        steps="".join(f"<li>{escape(step)}</li>" for step in report.steps),
        commands=escape("\n".join(report.commands)),
        details="".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in report.details.items()
        ),
    )


def fill_template(name: str, **parts: str) -> str:
    """A page of this package with the style sheet and `parts`, which are HTML, put in."""
    page = files("speechprompt.report").joinpath(name).read_text(encoding="utf-8")
    return Template(page).substitute(parts, style=style_sheet())


def style_sheet() -> str:
    """The style sheet of all pages and drawings."""
    return files("speechprompt.report").joinpath("style.css").read_text(encoding="utf-8")


def audio_address(wave: np.ndarray, sample_rate: int) -> str:
    """Encode a wave (n_samples,) as a `data:audio/flac` address, 16-bit, clipped to [-1, 1]."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wave, -1.0, 1.0), sample_rate, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _section(section: ClipSection, colours: list[str]) -> str:
    clips = "".join(_clip(clip, colours, _NARROW if section.narrow else _WIDE) for clip in section.clips)
    return (
        f"<section><h2>{escape(section.title)}</h2><p>{escape(section.lead)}</p>"
        f'<div class="{"clips narrow" if section.narrow else "clips"}">{clips}</div></section>'
    )


def _clip(clip: Clip, colours: list[str], width: int) -> str:
    seconds = len(clip.wave) / clip.sample_rate
    description = f"{clip.title}: spectrogram of {seconds:.2f} s, {len(clip.units.deduplicate())} units"
    drawing = timeline_svg(
        clip.wave,
        clip.sample_rate,
        clip.units,
        colours,
        description=description,
        width=width,
        boundary_s=clip.boundary_s,
    )
    mark = {True: ' <span class="right">✓</span>', False: ' <span class="wrong">✗</span>', None: ""}[
        clip.right
    ]
    guesses = "".join(
        f'<li style="--share:{probability:.3f}"><bdi>{escape(label)}</bdi>'
        f"<span>{100 * probability:.1f}%</span></li>"
        for label, probability in clip.guesses
    )
    return (
        f'<figure class="clip"><h3><bdi>{escape(clip.title)}</bdi>{mark}</h3>'
        f'<div class="scroll">{drawing}</div>'
        f'<audio controls preload="none" aria-label="{escape(clip.title)}" '
        f'src="{audio_address(clip.wave, clip.sample_rate)}"></audio>'
        + (f'<ol class="guesses">{guesses}</ol>' if guesses else "")
        + f"<figcaption>{escape(clip.caption)}</figcaption></figure>"
    )
