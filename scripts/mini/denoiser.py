"""The mini unit mBART: runs of units of all the speech, the texts' lines in two readings, and its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from scripts.mini.corpus import Clip, PackedCorpus, pack, read_table
from scripts.mini.language import corpus_units, spoken_units
from scripts.mini.synthesis import synthesize
from speechprompt.generate.gap_filling import runs
from speechprompt.lm.denoising import DenoisingConfig
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.pretraining.config import PretrainConfig, PretrainResult
from speechprompt.pretraining.denoise import Denoise
from speechprompt.pretraining.loop import pretrain
from speechprompt.vocab import MBartVocab
from units.quantizer import CodebookQuantizer

SIDE = TransformerConfig(
    n_layers=4,
    d_model=256,
    n_heads=4,
    d_ffn=1024,
    dropout=0.0,  # every line is seen three times
    max_positions=1024,
    activation="gelu",
    positions="learned",
)
LANGUAGE = "und"  # a mix
# Spans as long as the gaps that are to be filled, and about a mask for every unit: how much is missing is roughly known
# there. Little damage at first, so that copying is learned before anything else.
NOISE = DenoisingConfig(masked=0.35, random=0.0, mean_span=14, mask_each=True, shaken=0.2)
MILD_NOISE, MILD_BATCHES = replace(NOISE, masked=0.1, shaken=0.0), 300
PRETRAINING = PretrainConfig(  # Muon learns in half the steps, and these are three passes
    steps=2_500,
    batch_tokens=4096,
    lr=1.5e-3,
    warmup_steps=150,
    optimizer="muon",
    check_every=100,
    bf16=True,
)
ALL_LINES = 10**6
READING_SEED = 1  # of the second reading's voices


def second_reading(text_dir: Path, build: Path) -> PackedCorpus:
    """Every line of the texts spoken once more, by other voices: what is said there is learned by heart less."""
    folder = build / "speech_again"
    synthesize(text_dir, folder, ALL_LINES, seed=READING_SEED)
    clips = [
        Clip("spoken", row["speaker"], folder / row["path"]) for row in read_table(folder / "manifest.csv")
    ]
    return pack(clips, build / "packed_again")


class GrowingDamage(Denoise):
    """A denoiser whose first batches are damaged less."""

    def noise_at(self, epoch: int, number: int) -> DenoisingConfig:
        """See Denoise."""
        return MILD_NOISE if epoch == 0 and number < MILD_BATCHES else self.noise


def train_denoiser(
    corpora: dict[str, PackedCorpus], quantizer: CodebookQuantizer, build: Path, held_out: Path
) -> PretrainResult:
    """Train the mini unit mBART; continues where a killed run stopped.

    corpora: by the name under which their units are kept in `build`. held_out: folder of spoken lines to check on.
    """
    rows = [
        runs(units)[0]
        for name, corpus in corpora.items()
        for units in corpus_units(corpus, quantizer, np.arange(len(corpus)), build / "units" / f"{name}.npz")
    ]
    objective = GrowingDamage(
        MBartConfig(SIDE, SIDE),
        MBartVocab([str(unit) for unit in range(quantizer.spec.n_units)], [LANGUAGE]),
        [rows],
        PRETRAINING,
        language=LANGUAGE,
        noise=NOISE,
        n_sentences=1,
        valid=[runs(units)[0] for units in spoken_units(held_out, quantizer)],
        spec=quantizer.spec,
    )
    return pretrain(objective, build / "unit_mbart", PRETRAINING, half=True)
