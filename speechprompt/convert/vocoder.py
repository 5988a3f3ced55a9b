"""Published unit HiFi-GANs into vocoder folders.

Source: checkpoints of fairseq's CodeHiFiGANVocoder, of textless-lib and of speech-resynthesis: `{"generator": ...}`,
with a config.json beside, and for several speakers sometimes their names, one per line, in speakers.txt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from speechprompt.convert.base import Converted
from speechprompt.fairseq import CheckpointError
from units.errors import InputError
from units.safe_pickle import read_torch_file
from units.types import UnitSpec
from vocoder.base import UnitVocoder
from vocoder.published import read_generator

UNKNOWN = "unknown"  # encoder and codebook of a vocoder converted without saying whose units it speaks


def convert(
    path: str | Path,
    to: str | Path,
    *,
    config: str | Path | None = None,
    spec: UnitSpec | None = None,
    speakers: Sequence[str] = (),
) -> Converted:
    """Convert a generator checkpoint.

    Args:
        path: the checkpoint.
        to: folder to write.
        config: its config.json; None for the one beside it.
        spec: the units it was trained on. None where that is not known: the folder then names encoder and codebook
            "unknown", and joins no stack.
        speakers: names of the speaker table's first rows. None given: those of speakers.txt beside the checkpoint,
            else "0", "1", ...

    Raises: InputError: no such file, an unsafe one, or one that does not fit its config.json or `spec`.
    """
    path, to = Path(path), Path(to)
    described = _read_config(path, None if config is None else Path(config))
    generator, left_out = read_generator(described, _state(read_torch_file(path), path))
    sizes = generator.config
    if spec is None:
        rate = sizes.sampling_rate / (sizes.hop_length * sizes.frames_per_unit)
        spec = UnitSpec(UNKNOWN, 0, sizes.num_embeddings, rate, UNKNOWN)
    names = list(speakers) or _speaker_names(path) if sizes.multispkr else []
    if sizes.multispkr and not names:
        names = [str(row) for row in range(sizes.num_speakers)]
    UnitVocoder(generator, spec, names).save(to)
    return Converted(
        kind="vocoder",
        to=to,
        dimensions=sizes.to_dict(),
        n_parameters=sum(tensor.numel() for tensor in generator.state_dict().values()),
        spec=spec,
        ignored=left_out,
    )


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    state = content.get("generator") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{path}: expected a vocoder checkpoint with its tensors in `generator`, got {keys}; choose another file"
        )
    return state


def _read_config(path: Path, config: Path | None) -> dict[str, Any]:
    """Read config.json: the one given, or the one beside the checkpoint under either of its usual names."""
    usual = [path.with_name("config.json"), path.with_name(f"{path.stem}_config.json")]
    file = config or next((file for file in usual if file.is_file()), usual[0])
    if not file.is_file():
        raise InputError(
            f"{file}: expected the config.json that is published with {path.name}, got no such file; put it there"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{file}: expected a vocoder's configuration in JSON, got {error}; fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a JSON object, got {type(content).__name__}; fetch it again")
    return content


def _speaker_names(path: Path) -> list[str]:
    file = path.with_name("speakers.txt")
    if not file.is_file():
        return []
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
