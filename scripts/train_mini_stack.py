"""Train the embedded stack `mini` from speech to a stack folder: one command, resumable stage by stage.

    python -m scripts.train_mini_stack --data ../shared/data --build build/mini --out speechprompt/assets/mini

Every stage leaves its result in the build folder and is skipped when it is there; a long stage that is killed
continues from its last checkpoint. Needs flite and espeak-ng (Debian packages). About three hours on two cores.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from scripts.mini.assembly import PROSODY_NAME, add_inpainting_prompt, assemble, assemble_prosodic
from scripts.mini.clustering import fit_clusters, label_corpus, layer_features, mfcc_features
from scripts.mini.corpus import PackedCorpus, pack, training_clips
from scripts.mini.denoiser import second_reading, train_denoiser
from scripts.mini.hubert_pretraining import HubertSettings, pretrain_hubert
from scripts.mini.inpainting_prompt import train_prompt
from scripts.mini.language import train_language_model, unit_sequences
from scripts.mini.phones import label_phones
from scripts.mini.prosodic import load_quantizer, pitched_store, train_prosodic
from scripts.mini.synthesis import N_CHECKED_LINES, synthesize
from scripts.mini.targets import Targets
from scripts.mini.unit_judge import judge_units
from scripts.mini.unit_training import BY_SPEAKER, UnitSettings, train_units
from scripts.mini.voice import BEGINNING, PITCHED, TRAINING, train_voice
from speechprompt.lm.folder import read_config
from speechprompt.lm.prosody import ProsodyConfig
from units.encoders.hubert import HubertEncoder
from units.kmeans import load_codebook, save_codebook
from units.quantizer import CodebookQuantizer
from vocoder.base import UnitVocoder
from vocoder.unit_loss import CodebookUnitLoss

NAME = "mini-hubert"
N_UNITS = 100
FIRST = HubertSettings(steps=1200, n_targets=100)
SECOND = HubertSettings(steps=2000, n_targets=200, seed=1)
THIRD = HubertSettings(
    steps=4000, n_layers=6, n_targets=200, mask_start=0.02, dropout=0.0, convolutions_frozen=True, seed=2
)
MAX_HOURS = 6.0  # of each source that is labelled with a layer's clusters
FIRST_LAYER = 6  # of the first iteration, clustered into the targets of the second
SECOND_LAYER = 5  # of the second iteration, clustered into the targets of the third
VOICE_LAYER = 8  # of the first iteration: its units begin the vocoder
UNITS = UnitSettings(n_units=N_UNITS)
UNITS_BY_SPEAKER = UnitSettings(n_units=N_UNITS, groups=BY_SPEAKER, word_weight=1.0, n_copies=4, steps=1300)
FINAL_UNITS = replace(
    UNITS_BY_SPEAKER, first_layer=4, steps=600, learning_rate=7e-4, unit_learning_rate=2e-3, seed=2
)
N_LINES = 8000
N_MADE_UP_LINES = 1500

console = Console()


class Stages:
    """The build folder: what each stage reads and leaves behind."""

    def __init__(self, data: Path, build: Path) -> None:
        self.data, self.build = data, build
        self.codebook = build / "codebook.safetensors"
        self.unit_encoder = build / "unit_layer" / "encoder"

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Announce a stage, and note in times.jsonl how long it took, also where it broke off."""
        console.rule(name)
        began = time.monotonic()
        try:
            yield
        finally:
            with (self.build / "times.jsonl").open("a") as file:
                file.write(json.dumps({"stage": name, "seconds": round(time.monotonic() - began)}) + "\n")

    def corpus(self) -> PackedCorpus:
        """Speak the text and pack it with the real speech."""
        with self.timed("speech"):
            synthesize(self.data / "text", self.build / "speech", N_LINES, n_made_up=N_MADE_UP_LINES)
            synthesize(self.data / "text", self.build / "speech_heldout", N_CHECKED_LINES, held_out=True)
            return pack(training_clips(self.data, self.build / "speech"), self.build / "packed")

    def encoder(self, corpus: PackedCorpus) -> Path:
        """Two iterations of HuBERT, and a third that also names the phones of the synthesizers."""
        with self.timed("hubert, first iteration"):
            targets = label_corpus(corpus, mfcc_features, self.build / "mfcc100.npz", FIRST)
            first = pretrain_hubert(corpus, targets, FIRST, self.build / "it1")
        with self.timed("hubert, second iteration"):
            targets = self._layer_targets(corpus, first, FIRST_LAYER, SECOND)
            second = pretrain_hubert(corpus, targets, SECOND, self.build / "it2", start_from=first)
        with self.timed("hubert, third iteration, guided by phones"):
            targets = self._layer_targets(corpus, second, SECOND_LAYER, THIRD)
            phones = label_phones(corpus, self.build / "phones.npz")
            return pretrain_hubert(corpus, targets, THIRD, self.build / "it3", second, phones)

    def _layer_targets(
        self, corpus: PackedCorpus, folder: Path, layer: int, settings: HubertSettings
    ) -> Targets:
        features = layer_features(HubertEncoder(folder, layer, name="earlier", dtype=torch.bfloat16))
        path = self.build / f"layer_{folder.parent.name}.npz"
        return label_corpus(corpus, features, path, settings, MAX_HOURS)

    def quantizer(self, corpus: PackedCorpus, folder: Path) -> CodebookQuantizer:
        """The encoder's last layers trained on through their own units, and the units as a codebook."""
        with self.timed("units"):
            if not self.codebook.exists():
                folder, centroids = train_units(corpus, folder, UNITS, self.build / "unit_layer_by_source")
                for settings, out in (
                    (UNITS_BY_SPEAKER, self.build / "unit_layer_by_speaker"),
                    (FINAL_UNITS, self.unit_encoder.parent),
                ):
                    folder, centroids = train_units(corpus, folder, settings, out, centroids)
                quantizer = CodebookQuantizer(self._final_encoder(), centroids)
                figures = judge_units(quantizer, self.data)
                (self.build / "units.json").write_text(json.dumps(figures))
                save_codebook(self.codebook, centroids, quantizer.spec)
            return self.quantizer_maker()()

    def quantizer_maker(self) -> partial[CodebookQuantizer]:
        """What loads the trained units, also in another process."""
        return partial(load_quantizer, self.unit_encoder, FINAL_UNITS.last_layer, NAME, self.codebook)

    def _final_encoder(self) -> HubertEncoder:
        return HubertEncoder(self.unit_encoder, FINAL_UNITS.last_layer, name=NAME, dtype=torch.bfloat16)

    def languages(self, corpus: PackedCorpus, quantizer: CodebookQuantizer) -> None:
        """The unit LM, the unit mBART and the pGSLM."""
        held_out = self.build / "speech_heldout"
        with self.timed("unit language model"):
            sequences = unit_sequences(corpus, quantizer, self.build / "units", held_out)
            language = train_language_model(sequences, N_UNITS, self.build / "lm")
            console.print(f"perplexity {language.perplexity:.2f}, unigram {language.unigram_perplexity:.2f}")
        with self.timed("unit mBART"):
            corpora = {"everything": corpus, "again": second_reading(self.data / "text", self.build)}
            console.print(train_denoiser(corpora, quantizer, self.build, held_out).measures)
        with self.timed("pGSLM"):
            store = pitched_store(corpus, self.quantizer_maker(), self.build / "pitched")
            console.print(train_prosodic(store, self.build / "pgslm").measures)

    def vocoder(self, corpus: PackedCorpus, quantizer: CodebookQuantizer) -> UnitVocoder:
        """First spectral losses on the first iteration's units, then all losses on the final ones.

        The first part needs no second iteration, so it can run beside it; only the unit table has to be
        learned anew.
        """
        with self.timed("vocoder, first iteration's units"):
            path = self.build / "codebook_it1.safetensors"
            encoder = HubertEncoder(
                self.build / "it1" / "encoder", VOICE_LAYER, name="first", dtype=torch.bfloat16
            )
            if not path.exists():
                centroids = fit_clusters(corpus, layer_features(encoder), N_UNITS, FIRST)
                save_codebook(path, centroids, CodebookQuantizer(encoder, centroids).spec)
            first = CodebookQuantizer(encoder, load_codebook(path)[0])
            begun = train_voice(corpus, first, self.build / "voice_it1", self.data, BEGINNING)
        with self.timed("vocoder"):
            spoken = train_voice(
                corpus,
                quantizer,
                self.build / "voice",
                self.data,
                TRAINING,
                begun.vocoder,
                self._heard(),
            )
        return spoken.vocoder

    def pitched_vocoder(
        self, corpus: PackedCorpus, quantizer: CodebookQuantizer, spoken: UnitVocoder
    ) -> UnitVocoder:
        """From the vocoder of the same units, one that also reads the F0 that the pGSLM says."""
        prosody = ProsodyConfig(**read_config(self.build / "pgslm")["prosody"])
        with self.timed("vocoder with pitch"):
            out = self.build / "voice_pitched"
            return train_voice(
                corpus, quantizer, out, self.data, PITCHED, spoken, self._heard(), prosody
            ).vocoder

    def _heard(self) -> CodebookUnitLoss:
        return CodebookUnitLoss(
            self._final_encoder().features, torch.from_numpy(load_codebook(self.codebook)[0])
        )


def main(
    data: Annotated[
        Path, typer.Option(help="Folder with fsdd, arabic_sc, librispeech_9, read_sentences_141, text.")
    ],
    build: Annotated[Path, typer.Option(help="Where stages leave their results.")] = Path("build/mini"),
    out: Annotated[Path, typer.Option(help="Stack folder to write.")] = Path("speechprompt/assets/mini"),
) -> None:
    """Train encoder, codebook, unit LM and vocoder, and put them together."""
    build.mkdir(parents=True, exist_ok=True)
    stages = Stages(data, build)
    corpus = stages.corpus()
    quantizer = stages.quantizer(corpus, stages.encoder(corpus))
    stages.languages(corpus, quantizer)
    vocoder = stages.vocoder(corpus, quantizer)
    assemble(build, stages.unit_encoder, stages.codebook, quantizer, vocoder, out)
    assemble_prosodic(build, stages.pitched_vocoder(corpus, quantizer, vocoder), out.parent / PROSODY_NAME)
    with stages.timed("prompt for inpainting"):
        add_inpainting_prompt(train_prompt(out, data / "text", build), quantizer.spec, out)
    megabytes = sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6
    console.print(f"{out}: {megabytes:.1f} MB; how long each stage took: {build / 'times.jsonl'}")


if __name__ == "__main__":
    typer.run(main)
