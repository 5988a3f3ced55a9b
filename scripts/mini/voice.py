"""The mini vocoder, and the one that also reads pitch: their speakers and their training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from scripts.mini.corpus import PackedCorpus, held_out_sentences
from speechprompt.lm.pgslm_speech import f0_for_vocoder, relative_f0
from speechprompt.lm.prosody import ProsodyConfig
from units.audio import read_audio
from units.pitch import with_f0
from units.quantizer import CodebookQuantizer
from vocoder.base import UnitVocoder
from vocoder.config import DurationPredictorConfig, HiFiGANConfig
from vocoder.schedule import VocoderTraining
from vocoder.segments import VocoderExample
from vocoder.train import VocoderTrainingResult, train_vocoder
from vocoder.trainer import UnitLoss

HOP = 320
DEFAULT_SPEAKER = "reader"  # the first speaker: a natural voice with running speech
MAX_HOURS = {"fsdd": 0.06, "arabic_sc": 0.045, "librispeech_9": 0.1, "spoken": 0.08}  # per speaker
ARABIC_SPEAKERS = 4
SPOKEN_SPEAKERS = ("slt", "rms", "awb", "kal16")

BEGINNING = VocoderTraining(
    steps=1250,
    batch_size=16,
    segment_frames=32,
    lr=1e-3,
    warmup_steps=100,
    final_lr_ratio=1.0,
    clip_norm=10.0,
    ema_decay=0.998,
    adversarial_from_step=10**9,
    stft_weight=2.0,
    valid_every=1000,
    checkpoint_every=250,
    bf16=True,
)
TRAINING = replace(
    BEGINNING,
    steps=2300,
    lr=1.2e-3,
    discriminator_lr=5e-4,
    warmup_steps=30,
    final_lr_ratio=0.05,
    clip_norm=500.0,
    adversarial_from_step=1600,
    discriminator_every=2,
    discriminator_width=0.125,
    periods=(2, 3, 5, 7),
    n_scales=1,
    unit_weight=4.0,
    valid_every=500,
)
PITCHED = replace(
    TRAINING, steps=600, adversarial_from_step=150, valid_every=200
)  # from a vocoder of these units


def generator_config(n_units: int, n_speakers: int, n_f0_bins: int = 0) -> HiFiGANConfig:
    """Half the published width and two of its three residual kernels: a sixth of the operations."""
    return HiFiGANConfig(
        num_embeddings=n_units,
        embedding_dim=128,
        upsample_initial_channel=256,
        resblock_kernel_sizes=(3, 7),
        resblock_dilation_sizes=((1, 3, 5), (1, 3, 5)),
        multispkr=True,
        num_speakers=n_speakers,
        dur_predictor_params=DurationPredictorConfig(),
        f0=n_f0_bins > 0,
        f0_quant_num_bin=n_f0_bins,
    )


def choose_speakers(corpus: PackedCorpus) -> dict[str, np.ndarray]:
    """Clips per speaker, the reader first; at most ``MAX_HOURS`` of each, so that the reader is heard most."""
    sources, speakers = np.asarray(corpus.sources), np.asarray(corpus.speakers)
    lengths_h = np.diff(corpus.starts) / 16_000 / 3600
    chosen = {DEFAULT_SPEAKER: np.flatnonzero(sources == "read_sentences")}
    arabic = sorted(set(speakers[sources == "arabic_sc"]))[:ARABIC_SPEAKERS]
    wanted = [("fsdd", s) for s in sorted(set(speakers[sources == "fsdd"]))]
    wanted += [("spoken", s) for s in SPOKEN_SPEAKERS]
    wanted += [("librispeech_9", s) for s in sorted(set(speakers[sources == "librispeech_9"]))]
    wanted += [("arabic_sc", s) for s in arabic]
    rng = np.random.default_rng(0)
    for source, speaker in wanted:
        clips = rng.permutation(np.flatnonzero((sources == source) & (speakers == speaker)))
        within = np.cumsum(lengths_h[clips]) <= MAX_HOURS[source]
        chosen[f"arabic-{speaker}" if source == "arabic_sc" else str(speaker)] = clips[within]
    return chosen


def examples_of(
    wave_list: list[np.ndarray],
    quantizer: CodebookQuantizer,
    speaker: int,
    prosody: ProsodyConfig | None = None,
) -> list[VocoderExample]:
    """Waves with their units, cut to whole frames; with `prosody` also each unit's F0, as a pGSLM would say it."""
    made = []
    for wave, sequence in zip(wave_list, quantizer(wave_list), strict=True):
        n_frames, f0_F = min(sequence.n_frames, len(wave) // HOP), None
        pcm = np.round(wave[: n_frames * HOP] * 32767).astype(np.int16)
        if prosody is not None:
            heard = with_f0(sequence, wave, quantizer.sample_rate).deduplicate()
            assert heard.durations is not None
            f0_T = relative_f0(heard, prosody)
            f0_F = f0_for_vocoder(f0_T, heard.durations, prosody, n_bins=prosody.n_f0_bins)[:n_frames]
        made.append(VocoderExample(pcm, sequence.units[:n_frames], speaker, f0_F))
    return made


def train_voice(
    corpus: PackedCorpus,
    quantizer: CodebookQuantizer,
    out: Path,
    data: Path,
    training: VocoderTraining,
    initial: UnitVocoder | None = None,
    unit_loss: UnitLoss | None = None,
    prosody: ProsodyConfig | None = None,
) -> VocoderTrainingResult:
    """Train a vocoder of these units; continues where a killed run stopped.

    corpus: speech. quantizer: its units. out: folder for the vocoder and its checkpoints. data: folder with
    read_sentences_141, whose held-out sentences tell how it goes. initial: a vocoder of other units to begin with,
    whose unit table has to be learned anew; or of these, without F0. unit_loss: keeps the message, see
    `vocoder.unit_loss`. prosody: of the pGSLM whose F0 it is to read; None for none.
    """
    speakers = choose_speakers(corpus)
    examples = [
        example
        for number, clips in enumerate(speakers.values())
        for batch in corpus.batches(clips, 60.0)
        for example in examples_of([corpus.wave(int(clip)) for clip in batch], quantizer, number, prosody)
    ]
    sentences = [read_audio(path) for path in held_out_sentences(data)[:6]]
    valid = examples_of(sentences, quantizer, 0, prosody)
    n_bins = 0 if prosody is None else prosody.n_f0_bins
    return train_vocoder(
        generator_config(quantizer.spec.n_units, len(speakers), n_bins),
        examples,
        out,
        training,
        spec=quantizer.spec,
        speakers=list(speakers),
        valid_examples=valid,
        initial=initial,
        unit_loss=unit_loss,
        on_log=lambda row: Console().print({name: round(value, 4) for name, value in row.items()}),
    )
