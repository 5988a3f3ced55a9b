"""One colour per unit: neighbours in the codebook get neighbouring hues, in changing lightness."""

from __future__ import annotations

import colorsys

import numpy as np

_LIGHTNESS = (
    0.42,
    0.58,
    0.74,
)  # in turn: units of nearly one hue still differ side by side


def unit_colours(n_units: int, centroids: np.ndarray | None = None) -> list[str]:
    """Give `n_units` colours as "#rrggbb".

    centroids: (n_units, D) float; hues then follow the order around the codebook's two main directions
    (principal components), equalised, so that units that sound alike look alike. Without them, hues run by id.
    """
    order = (
        np.arange(n_units) if centroids is None else _order_around(np.asarray(centroids, dtype=np.float64))
    )
    colours = [""] * n_units
    for rank, unit in enumerate(order):
        red, green, blue = colorsys.hls_to_rgb(rank / n_units, _LIGHTNESS[rank % len(_LIGHTNESS)], 0.55)
        colours[unit] = f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
    return colours


def ink_on(colour: str) -> str:
    """Give black or white, whichever is easier to read on `colour` ("#rrggbb"): WCAG 2 relative luminance."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return "#000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#fff"


def _order_around(centroids_KD: np.ndarray) -> np.ndarray:
    """Unit ids, sorted by angle in the plane of the first two principal components."""
    centred_KD = centroids_KD - centroids_KD.mean(axis=0)
    _, _, axes = np.linalg.svd(centred_KD, full_matrices=False)
    plane = centred_KD @ np.pad(axes, ((0, max(0, 2 - len(axes))), (0, 0)))[:2].T
    return np.argsort(np.arctan2(plane[:, 1], plane[:, 0]), kind="stable")
