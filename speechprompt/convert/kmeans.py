"""A published km.bin into our codebook file."""

from __future__ import annotations

from pathlib import Path

from speechprompt.convert.base import Converted
from units.kmeans import codebook_id, save_codebook
from units.safe_pickle import read_joblib_kmeans
from units.types import UnitSpec

CODEBOOK_FILE = "codebook.safetensors"


def convert(path: Path, to: Path, *, encoder: str, layer: int, frame_rate: float) -> Converted:
    """Write `to`/codebook.safetensors.

    encoder, layer, frame_rate: what the features were that it was fitted on; the file does not say.
    Raises InputError: missing, unsafe or damaged, or no k-means model.
    """
    centroids_KD = read_joblib_kmeans(path)
    spec = UnitSpec(
        encoder=encoder,
        layer=layer,
        n_units=len(centroids_KD),
        frame_rate=frame_rate,
        codebook=codebook_id(centroids_KD),
    )
    save_codebook(to / CODEBOOK_FILE, centroids_KD, spec)
    return Converted(
        kind="kmeans",
        to=to,
        dimensions={"n_units": len(centroids_KD), "width": centroids_KD.shape[1]},
        n_parameters=centroids_KD.size,
        spec=spec,
    )
