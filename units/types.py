"""What audio becomes (`UnitSequence`), in which inventory (`UnitSpec`), and who makes and reads it (protocols).

Shapes: T units, n_frames frames (T <= n_frames), B waves in a batch, F frames, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from units.errors import InputError, UnitSpecMismatch

if TYPE_CHECKING:  # reading or storing units needs no torch: the import costs more than a second
    from torch import Tensor

Wave = NDArray[np.float32]  # (n_samples,), mono, in [-1, 1]


@dataclass(frozen=True)
class UnitSpec:
    """Which unit inventory; every artefact that holds or reads units carries one.

    encoder: name of the model whose features were clustered, "hubert-base-ls960".
    layer: 1-based transformer layer whose output was clustered (0: an encoder without layers).
    n_units: size of the codebook.
    frame_rate: frames per second, Hz.
    codebook: sha256 of the centroids, first 12 hex digits (`units.kmeans.codebook_id`).
    """

    encoder: str
    layer: int
    n_units: int
    frame_rate: float
    codebook: str

    def __post_init__(self) -> None:
        if self.n_units < 1 or self.frame_rate <= 0 or self.layer < 0:
            raise InputError(
                f"UnitSpec: expected n_units >= 1, frame_rate > 0, layer >= 0, got {self}; check its source"
            )

    def to_dict(self) -> dict[str, Any]:
        """Give the five fields as a plain dict, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> UnitSpec:
        """Read what `to_dict` gave. Raises InputError naming missing and unknown fields, or for what is no number."""
        names = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping):
            raise InputError(f"UnitSpec: expected fields {sorted(names)}, got {type(data).__name__}")
        if set(data) != names:
            missing, unknown = sorted(names - set(data)), sorted(set(data) - names)
            raise InputError(
                f"UnitSpec: expected fields {sorted(names)}, got {missing} missing and {unknown} unknown; "
                "write it with UnitSpec.to_dict"
            )
        try:
            return cls(
                encoder=str(data["encoder"]),
                layer=int(data["layer"]),
                n_units=int(data["n_units"]),
                frame_rate=float(data["frame_rate"]),
                codebook=str(data["codebook"]),
            )
        except InputError:
            raise
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"UnitSpec: expected numbers for layer, n_units and frame_rate, got {error}; "
                "write it with UnitSpec.to_dict"
            ) from error

    def require_equal(self, other: UnitSpec, what_self: str, what_other: str) -> None:
        """Raise UnitSpecMismatch, naming both artefacts and what differs, unless the specs are equal."""
        if self == other:
            return
        mine, theirs = self.to_dict(), other.to_dict()
        differing = ", ".join(
            f"{key} {mine[key]!r} against {theirs[key]!r}" for key in mine if mine[key] != theirs[key]
        )
        raise UnitSpecMismatch(
            f"{what_self} and {what_other}: expected one UnitSpec, got {differing}; "
            "use parts made with the same codebook"
        )


@dataclass(frozen=True, eq=False)
class UnitSequence:
    """Discrete units of one utterance, checked when made.

    units: (T,) int64 in [0, spec.n_units).
    spec: their inventory.
    durations: (T,) int64, frames per unit, each >= 1; None means one unit per frame, or durations not known.
    f0_hz: (n_frames,) float32, 0 where unvoiced; None where not measured.

    Raises InputError where a shape or a range is wrong.
    """

    units: NDArray[np.int64]
    spec: UnitSpec
    durations: NDArray[np.int64] | None = None
    f0_hz: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", _integers(self.units, "units"))
        if self.units.size and (self.units.min() < 0 or self.units.max() >= self.spec.n_units):
            raise InputError(
                f"units: expected ids in [0, {self.spec.n_units}), got {self.units.min()} to "
                f"{self.units.max()}; they belong to another codebook"
            )
        if self.durations is not None:
            object.__setattr__(self, "durations", _integers(self.durations, "durations"))
            if self.durations.shape != self.units.shape or (self.durations < 1).any():
                raise InputError(
                    f"durations: expected {len(self.units)} counts >= 1, one per unit, got "
                    f"{len(self.durations)} of at least {self.durations.min(initial=1)}; "
                    "make them with UnitSequence.deduplicate"
                )
        if self.f0_hz is not None:
            object.__setattr__(self, "f0_hz", np.asarray(self.f0_hz, dtype=np.float32))
            if self.f0_hz.shape != (self.n_frames,):
                raise InputError(
                    f"f0_hz: expected shape ({self.n_frames},), got {self.f0_hz.shape}; one value per frame"
                )

    def __len__(self) -> int:
        return len(self.units)

    @property
    def n_frames(self) -> int:
        """Encoder frames covered: the sum of the durations, or one frame per unit."""
        return int(self.durations.sum()) if self.durations is not None else len(self.units)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_frames / self.spec.frame_rate

    def deduplicate(self) -> UnitSequence:
        """Collapse every run of one unit into one unit; its duration is the run's total: no unit follows itself."""
        if not self.units.size:
            return replace(self, durations=np.zeros(0, dtype=np.int64))
        starts = np.flatnonzero(np.concatenate([[True], self.units[1:] != self.units[:-1]]))
        frames = self.durations if self.durations is not None else np.ones(len(self.units), dtype=np.int64)
        return replace(self, units=self.units[starts], durations=np.add.reduceat(frames, starts))

    def expand(self) -> UnitSequence:
        """Repeat every unit by its duration: one unit per frame, `durations` None. Undoes `deduplicate`."""
        if self.durations is None:
            return self
        return replace(self, units=np.repeat(self.units, self.durations), durations=None)


def _integers(values: object, what: str) -> NDArray[np.int64]:
    """Take a one-dimensional array of whole numbers as int64; anything else (floats, a matrix) is refused."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise InputError(
            f"{what}: expected a one-dimensional integer array, got {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.int64, copy=False)


@runtime_checkable
class Encoder(Protocol):
    """Waves to features.

    name, layer: identity, copied to the UnitSpec. sample_rate: Hz that the waves must have.
    hop_length: samples between frames, so that the frame rate is sample_rate / hop_length.
    """

    name: str
    layer: int
    sample_rate: int
    hop_length: int

    def n_frames(self, n_samples: int) -> int:
        """Frames given for a wave of `n_samples` samples."""
        ...

    def encode(self, waves: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Encode B waves, each (n_samples,) float32, padded together.

        Returns features (B, F, D) float32, zero beyond each row's frames, and frame counts (B,) int64. A
        row's features must not depend on the other rows.
        """
        ...


@runtime_checkable
class Quantizer(Protocol):
    """Waves to units, one unit per frame. spec: of the result. sample_rate: Hz that the waves must have."""

    spec: UnitSpec
    sample_rate: int

    def __call__(self, waves: Sequence[np.ndarray]) -> list[UnitSequence]:
        """Quantize waves, each (n_samples,) float32, in order, frame by frame; the caller deduplicates."""
        ...


@runtime_checkable
class Vocoder(Protocol):
    """Units to a wave. spec: of the units it speaks. sample_rate: Hz of the result."""

    spec: UnitSpec
    sample_rate: int

    def __call__(self, units: UnitSequence, speaker: str | None = None) -> np.ndarray:
        """Speak the units: (n_samples,) float32. Raises UnitSpecMismatch on units of another inventory."""
        ...
