"""Cost curves as one SVG that needs nothing beside it: seconds on the left, memory on the right, a row for a size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from scripts.bench.straight_line import Line
from speechprompt.report.axes import nice_range

_WIDTH, _HEIGHT = 520.0, 320.0  # of a panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 18.0, 68.0, 48.0
_COLOURS = ("#0b6a72", "#b4471f", "#6a4c93", "#2f6f3e")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1c1b19}.title{font-size:14px;font-weight:600}"
    ".grid{stroke:#dedad0}.axis{stroke:#66625a}.fit{stroke-width:1.6;stroke-dasharray:5 4}"
)
_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "MiB": ((1024.0, "GiB"), (1.0, "MiB"), (2.0**-10, "KiB"), (2.0**-20, "B")),
}


@dataclass(frozen=True)
class Points:
    """What was measured of one work. name: of it. ys: one for each size. line: fitted to them."""

    name: str
    ys: Sequence[float]
    line: Line


@dataclass(frozen=True)
class Panel:
    """One drawing. title, what: above it, and along its x axis. unit: "s" or "MiB". per: one step along x, in words.

    xs: sizes. series: empty where nothing could be measured.
    """

    title: str
    what: str
    unit: str
    per: str
    xs: Sequence[float]
    series: Sequence[Points]


def scaled(value: float, unit: str) -> str:
    """A number with the unit that suits its size, three digits.

    Args:
        value: in `unit`.
        unit: "s" or "MiB".
    """
    scales = _SCALES[unit]
    factor, name = next(((f, n) for f, n in scales if abs(value) >= f), scales[-1])
    return f"{value / factor:.3g} {name}"


def described(points: Points, unit: str, per: str) -> str:
    """What a fitted line says, in words.

    Args:
        points: with their line.
        unit: of their values.
        per: one step along x.
    """
    line = points.line
    fits = "no variation" if line.r_squared is None else f"R² {line.r_squared:.3f}"
    return f"{points.name}: {scaled(line.slope, unit)} per {per}, {scaled(line.intercept, unit)} at 0, {fits}"


def chart(panels: Sequence[Panel], note: str) -> str:
    """Draw panels, two in a row.

    Args:
        panels: in order.
        note: on what it was measured, at the bottom.
    """
    n_columns = min(2, len(panels))
    width, height = n_columns * _WIDTH, -(-len(panels) // 2) * _HEIGHT + 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}"><title>Cost curves</title><style>{_STYLE}</style>'
        '<rect width="100%" height="100%" fill="#ffffff"/>'
    ]
    for place, panel in enumerate(panels):
        x, y = place % 2 * _WIDTH, place // 2 * _HEIGHT
        parts.append(f'<g transform="translate({x:.0f} {y:.0f})">{_panel(panel)}</g>')
    parts.append(f'<text x="{_LEFT:.0f}" y="{height - 10:.0f}">{escape(note)}</text></svg>\n')
    return "".join(parts)


def _panel(panel: Panel) -> str:
    parts = [f'<text class="title" x="{_LEFT}" y="20">{escape(panel.title)}</text>']
    if not panel.series:
        return parts[0] + f'<text x="{_LEFT}" y="40">not measured</text>'
    values = [value for points in panel.series for value in points.ys]
    low, high, y_ticks = nice_range(min(0.0, *values), max(values), top=None)
    x_low, x_high, x_ticks = nice_range(0.0, max(panel.xs), top=None)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT),
            _TOP + (high - y) / (high - low) * (_HEIGHT - _TOP - _BOTTOM),
        )

    (left, bottom), (right, top) = at(x_low, low), at(x_high, high)
    for tick in y_ticks:
        y = at(x_low, tick)[1]
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for tick in x_ticks:
        x = at(tick, low)[0]
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{tick:g}</text>')
    middle = (top + bottom) / 2
    parts.append(
        f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
        f'<line class="axis" x1="{left}" x2="{left}" y1="{top}" y2="{bottom}"/>'
        f'<text x="{(left + right) / 2:.1f}" y="{bottom + 36:.1f}" text-anchor="middle">{escape(panel.what)}</text>'
        f'<text transform="translate(14 {middle:.1f}) rotate(-90)" text-anchor="middle">{_axis(panel.unit)}</text>'
    )
    for place, points in enumerate(panel.series):
        colour = _COLOURS[place % len(_COLOURS)]
        text = escape(described(points, panel.unit, panel.per))
        (x1, y1), (x2, y2) = (at(x, points.line.at(x)) for x in (panel.xs[0], panel.xs[-1]))
        parts.append(
            f'<text x="{_LEFT}" y="{38 + 15 * place}" style="fill:{colour}">{text}</text>'
            f'<line class="fit" stroke="{colour}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
        )
        for x, y in (at(*point) for point in zip(panel.xs, points.ys, strict=True)):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
    return "".join(parts)


def _axis(unit: str) -> str:
    return {"s": "seconds (median)", "MiB": "MiB above what was resident"}[unit]
