"""The run folder of an inpainting prompt, opened: the model, and what it was trained to fill."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speechprompt.generate.filling import FILLING
from speechprompt.generate.inpainter import GapReading, Inpainter, InpaintingConfig
from speechprompt.generate.pair_training import open_pair_run
from speechprompt.opened_run import OpenedRun
from speechprompt.seq2seq.config import Seq2SeqPromptConfig
from speechprompt.seq2seq.decoding import WritingConfig
from speechprompt.seq2seq.prompted import PromptedMBart, build_prompted
from speechprompt.stack import Stack

TASK = "inpainting"


@dataclass(frozen=True, eq=False)
class InpaintingRun(OpenedRun):
    """What `train_inpainting` gives and `load_inpainting_run` opens.

    stack: with encoder, codebook, encoder-decoder. prompted: in evaluation mode, with the best epoch's weights.
    config: what it was trained to fill.
    """

    prompted: PromptedMBart
    config: InpaintingConfig

    def inpainter(self, writing: WritingConfig | None = None) -> Inpainter:
        """What fills gaps as this run learned it."""
        return inpainter_of(self.stack, self.prompted, self.config, writing)


def plain_inpainter(
    stack: Stack, config: InpaintingConfig, writing: WritingConfig | None = None
) -> Inpainter:
    """The stack's encoder-decoder without a prompt, shown gaps as `config` says."""
    prompted = build_prompted(stack.seq2seq, Seq2SeqPromptConfig("none", 0)).eval()
    return inpainter_of(stack, prompted, config, writing)


def inpainter_of(
    stack: Stack, prompted: PromptedMBart, config: InpaintingConfig, writing: WritingConfig | None = None
) -> Inpainter:
    """Join a model with the stack's way of reading units and, where there is one, its vocoder's durations."""
    vocoder = None if stack.vocoder_part is None else stack.vocoder
    return Inpainter(prompted, reading_of(stack, prompted, config), vocoder, writing or FILLING)


def reading_of(stack: Stack, prompted: PromptedMBart, config: InpaintingConfig) -> GapReading:
    """How the stack's encoder-decoder is shown gaps."""
    deduplicates, masks_each = stack.seq2seq_deduplicates, stack.seq2seq_masks_each
    return GapReading(config, prompted.lm.vocab, prompted.language, deduplicates, masks_each)


def load_inpainting_run(
    folder: str | Path, *, stack: Stack | str | Path | None = None, device: str = "cpu"
) -> InpaintingRun:
    """Open a run, finished or not (then with the best prompt so far).

    stack: None for the one the run names; give it where that one has moved. Raises: as `load_run`.
    """
    record, opened, prompted = open_pair_run(folder, "corruption", TASK, stack=stack, device=device)
    config = InpaintingConfig.from_dict(dict(record.generation))
    return InpaintingRun(Path(folder), record, opened, prompted, config)
