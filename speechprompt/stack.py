"""A stack: encoder, codebook, unit LM and vocoder that speak one unit inventory, loaded part by part when needed.

What its folder holds is described, read and written in `speechprompt.stack_folder`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from speechprompt.lm.base import UnitLM
from speechprompt.lm.folder import read_config
from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.pgslm_speech import prosodic_row
from speechprompt.named_stacks import RECIPES, stack_folder
from speechprompt.stack_parts import StackError, load_encoder, load_lm
from speechprompt.views import AS_IS, View, view_quantizer
from speechprompt.voice import Voice
from units.audio import read_audio
from units.kmeans import load_codebook
from units.quantizer import CodebookQuantizer
from units.types import UnitSequence, UnitSpec, Wave
from vocoder.base import UnitVocoder

ASSETS = Path(__file__).parent / "assets"  # stacks that ship with the package, one folder each

if TYPE_CHECKING:
    from speechprompt.lm.unit_mbart import UnitMBart

Audio = str | Path | np.ndarray  # a file, or a wave (n_samples,) float32 at the quantizer's sample rate
_FILES_AT_ONCE = 64  # read before they are quantized together


@dataclass(frozen=True, eq=False)
class Stack:
    """Parts of one unit inventory; `quantizer`, `lm` and `vocoder` are loaded at first use and then kept.

    name: as in stack.json. folder: where the parts lie. spec: the inventory of every part.
    encoder, codebook, lm_part, vocoder_part: the entries of stack.json; without encoder and codebook the stack takes
    units only. deduplicate: whether the LM reads one unit for every run of it, or one for every frame. device: where
    the parts run. seq2seq_part: an encoder-decoder beside the LM, with the prompts that come with it by task.
    precision: of the products in LM (`lm.rounded`), HuBERT-family encoder and vocoder, "float32" or "bf16".
    """

    name: str
    folder: Path
    spec: UnitSpec
    encoder: Mapping[str, Any] | None
    codebook: str | None
    lm_part: Mapping[str, Any]
    vocoder_part: Mapping[str, Any] | None
    deduplicate: bool = True
    device: str = "cpu"
    seq2seq_part: Mapping[str, Any] | None = None
    precision: str = "float32"

    def __getstate__(self) -> dict[str, Any]:
        """Leave loaded parts out of a pickle: another process loads its own."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def source(self) -> str:
        """What `load_stack` needs to find this stack again: its name where it has one, else its path."""
        official = self.name in RECIPES and self.folder == stack_folder(self.name)
        return self.name if official or self.folder == ASSETS / self.name else str(self.folder.resolve())

    @cached_property
    def quantizer(self) -> CodebookQuantizer:
        """Audio to units. Raises StackError in a stack for units only, UnitSpecMismatch where parts do not fit."""
        if self.encoder is None or self.codebook is None:
            raise StackError(
                f"stack {self.name}: expected an encoder and a codebook to hear audio with, got a stack for units only "
                f"in {self.folder}; give units, or use another stack"
            )
        encoder = load_encoder(self.encoder, self.folder, self.spec, self.device, self.precision)
        centroids_KD, spec = load_codebook(self.folder / self.codebook)
        self.spec.require_equal(spec, f"stack {self.name}", self.codebook)
        quantizer = CodebookQuantizer(encoder, centroids_KD)
        self.spec.require_equal(quantizer.spec, f"stack {self.name}", "its encoder with its codebook")
        return quantizer

    @cached_property
    def lm(self) -> UnitLM:
        """The unit LM, in evaluation mode.

        Raises StackError where its vocabulary has another number of units; InputError where it cannot be rounded.
        """
        lm: UnitLM = load_lm(self.lm_part, self.folder, self.spec, self.device, self.precision)
        return lm

    @property
    def reads_prosody(self) -> bool:
        """Whether the LM reads durations and F0 beside units. Raises InputError: F0 bins without known borders."""
        return self.lm.reads_prosody

    @cached_property
    def seq2seq(self) -> UnitMBart:
        """The encoder-decoder: the entry `seq2seq`, else the LM. Raises StackError where neither is a unit mBART."""
        part = self.seq2seq_part or self.lm_part
        if part["family"] != "unit_mbart":
            raise StackError(
                f"stack {self.name}: expected a unit mBART, as its LM or as its entry seq2seq, got neither in "
                f"{self.folder}; make one with speechprompt pretrain --lm unit-mbart, or use another stack"
            )
        if self.seq2seq_part is None:
            return cast("UnitMBart", self.lm)
        lm: UnitMBart = load_lm(part, self.folder, self.spec, self.device)
        return lm

    @property
    def seq2seq_deduplicates(self) -> bool:
        """Whether the encoder-decoder reads one unit for every run of it; the stack's way where its entry says none."""
        return bool((self.seq2seq_part or {}).get("deduplicate", self.deduplicate))

    @property
    def seq2seq_masks_each(self) -> bool:
        """Whether the encoder-decoder was trained with a mask for every missing unit; False: one for a whole span."""
        return bool((self.seq2seq_part or {}).get("mask_each", False))

    def shipped_prompt(self, task: str) -> Path | None:
        """The run folder of a prompt that comes with the encoder-decoder, None where there is none for this task."""
        folder = (self.seq2seq_part or {}).get("prompts", {}).get(task)
        return None if folder is None else self.folder / folder

    @cached_property
    def lm_fingerprint(self) -> str:
        """Which language model this is, see UnitLM; computed once, because the stack's own never changes."""
        return self.lm.fingerprint()

    @cached_property
    def vocoder(self) -> UnitVocoder:
        """Units to audio. Raises StackError where the stack has none, UnitSpecMismatch where it speaks other units."""
        if self.vocoder_part is None:
            raise StackError(
                f"stack {self.name}: expected a vocoder, got none in {self.folder}; use another stack"
            )
        vocoder = UnitVocoder.load(
            self.folder / self.vocoder_part["folder"], device=self.device, precision=self.precision
        )
        self.spec.require_equal(vocoder.spec, f"stack {self.name}", "its vocoder")
        return vocoder

    @property
    def unit_vocoder(self) -> UnitVocoder:
        """The vocoder, where units are all that it needs. Raises StackError also where it needs F0 beside them."""
        if self.vocoder.generator.config.f0:
            raise StackError(
                f"stack {self.name}: expected a vocoder that speaks from units alone, got one that also needs F0; "
                "quantize with f0 and call stack.voice.speak, or use another stack"
            )
        return self.vocoder

    @cached_property
    def voice(self) -> Voice:
        """The vocoder with the scale of its F0: as its entry `prosody` says, else as the stack's pGSLM has it."""
        vocoder, scale = self.vocoder, (self.vocoder_part or {}).get("prosody")
        if scale is None and self.lm_part["family"] == "pgslm" and "folder" in self.lm_part:
            scale = read_config(self.folder / self.lm_part["folder"]).get("prosody")
        return Voice(self.name, vocoder, scale)

    def quantize(
        self,
        audio: Audio | Sequence[Audio],
        *,
        deduplicate: bool | None = None,
        f0: bool = False,
    ) -> list[UnitSequence]:
        """Quantize one or many files or waves, in order.

        deduplicate: runs of one unit become one unit with a duration; None for what the LM reads.
        f0: measure it as well, one value per frame.
        Returns one UnitSequence each. Raises AudioError: a file that cannot be used.
        """
        quantizer = view_quantizer(self.quantizer, AS_IS, f0=f0)
        sequences = [sequence for waves in self._groups(audio) for sequence in quantizer(waves)]
        if self.deduplicate if deduplicate is None else deduplicate:
            return [sequence.deduplicate() for sequence in sequences]
        return sequences

    def units_in_views(
        self, audio: Audio | Sequence[Audio], views: Sequence[View], *, prosody: bool = True
    ) -> list[list[np.ndarray]]:
        """Rows of each recording as the language model reads them (`read_rows`), one list for every view.

        A recording is read once, however many views there are; F0, where it is read, is measured in every view.
        prosody: False for units alone, whatever the language model reads.
        Raises AudioError: a file that cannot be used; InputError as `reads_prosody`.
        """
        f0 = prosody and self.reads_prosody
        rows_of_view: list[list[np.ndarray]] = [[] for _ in views]
        for waves in self._groups(audio):
            for rows, view in zip(rows_of_view, views, strict=True):
                rows += [self.as_read(s) for s in view_quantizer(self.quantizer, view, f0=f0)(waves)]
        return rows_of_view

    def _groups(self, audio: Audio | Sequence[Audio]) -> Iterator[list[Wave]]:
        """Waves of one or many recordings in order, some at a time, so that memory is bounded."""
        items: Sequence[Audio] = [audio] if isinstance(audio, str | Path | np.ndarray) else audio
        for start in range(0, len(items), _FILES_AT_ONCE):
            yield [self.read(item) for item in items[start : start + _FILES_AT_ONCE]]

    def as_read(self, units: np.ndarray | UnitSequence, *, deduplicate: bool | None = None) -> np.ndarray:
        """A row of units as the language model reads it, see `speechprompt.read_rows`.

        units: of every frame (T,), or a sequence; prosody is in the row where that has F0 and it is read.
        deduplicate: as of `quantize`. Raises as UnitSequence.
        """
        runs_as_one = self.deduplicate if deduplicate is None else deduplicate
        sequence = units if isinstance(units, UnitSequence) else UnitSequence(units=units, spec=self.spec)
        sequence = sequence.deduplicate() if runs_as_one else sequence
        if sequence.f0_hz is not None and isinstance(self.lm, PGSLM) and self.lm.reads_prosody:
            return prosodic_row(sequence, self.lm.prosody)
        return sequence.units

    def resynthesize(self, audio: Audio, speaker: str | None = None) -> Wave:
        """Say the same units again, with their durations, and with their F0 where the vocoder reads it.

        Returns (n_samples,) float32 at `vocoder.sample_rate`.
        """
        [units] = self.quantize(audio, f0=self.voice.needs_f0)
        return self.voice.speak(units, speaker)

    def read(self, audio: Audio) -> Wave:
        """Read a file at the quantizer's sample rate; a wave (n_samples,) passes as float32."""
        if isinstance(audio, np.ndarray):
            return np.asarray(audio, dtype=np.float32)
        return read_audio(audio, self.quantizer.sample_rate)
