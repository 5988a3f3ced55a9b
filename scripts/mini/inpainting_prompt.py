"""The prompt for inpainting of the stack `mini`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scripts.mini.sentences import N_TRAIN, speak_sentences
from speechprompt.generate.inpainter import InpaintingConfig
from speechprompt.generate.inpainting_training import train_inpainting
from speechprompt.generate.pair_training import TRAINING
from speechprompt.run_record import is_finished
from speechprompt.seq2seq.config import Seq2SeqPromptConfig
from tasks.registry import get_task

PROMPT = Seq2SeqPromptConfig(length=20)
CONFIG = InpaintingConfig(masked=True)
EPOCHS = 8  # the loss in validation gaps is flat by then


def train_prompt(stack: Path, text_dir: Path, build: Path) -> Path:
    """Train it on spoken sentences; a finished one is kept, an unfinished one continued. Gives its run folder."""
    out = build / "inpainting"
    table = speak_sentences(text_dir, build / "sentences", N_TRAIN)
    if not is_finished(out):
        train_inpainting(
            get_task("inpainting", table),
            stack,
            out,
            prompt=PROMPT,
            config=CONFIG,
            training=replace(TRAINING, max_epochs=EPOCHS),
            progress=True,
        )
    return out
