"""Speech for pretraining, spoken by flite and espeak-ng from public-domain text.

Both synthesizers are Debian packages; their output carries no licence of theirs. Every line gets one
voice, one speaking rate and one pitch, drawn from its own seed, so that any subset can be made again.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import soundfile
import soxr
from rich.progress import track

from scripts.mini import espeak
from scripts.mini.corpus import write_table
from scripts.mini.syllables import made_up_lines
from units.atomic import atomic_path

SAMPLE_RATE = 16_000
HELD_OUT_EVERY = 50  # every 50th line of a text is never spoken into the training set
N_CHECKED_LINES = 120  # of them, by which the weights of language models are chosen

FLITE_VOICES = ("rms", "slt", "awb", "kal16")
ESPEAK_ENGLISH = tuple(
    f"{accent}+{variant}"
    for accent in ("en-us", "en", "en-gb-scotland", "en-gb-x-rp")
    for variant in (
        "m1",
        "m3",
        "m7",
        "f2",
        "f4",
        "f5",
        "klatt",
        "klatt4",
        "Andy",
        "Alicia",
        "Michael",
        "steph",
    )
)
# English spelling read by other languages' rules: sounds that English lacks (trills, front rounded
# vowels, uvulars, pure vowels), for units that are to serve other languages.
ESPEAK_OTHER = tuple(
    f"{language}+{variant}"
    for language in ("es", "it", "de", "tr", "fi", "sw", "pl", "cs", "hu", "id", "nl", "pt")
    for variant in ("m3", "f2", "klatt", "f4")
)
ESPEAK_ARABIC = tuple(
    f"ar+{variant}" for variant in ("m1", "m3", "m7", "f2", "f4", "f5", "klatt", "klatt4", "Andy", "steph")
)


@dataclass(frozen=True)
class Line:
    """One line of text with the voice that is to speak it."""

    id: str
    text: str
    engine: str
    voice: str


def read_lines(text_dir: Path, *, held_out: bool) -> list[tuple[str, str]]:
    """Lines of every ``*.txt`` as (id, text); only the held-out ones, or all the others."""
    lines = []
    for path in sorted(text_dir.glob("*.txt")):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines()):
            if ((number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == held_out) and text.strip():
                lines.append((f"{path.stem}_{number:05d}", text.strip()))
    return lines


def cast_voices(lines: Sequence[tuple[str, str]], n_lines: int, seed: int) -> list[Line]:
    """Choose ``n_lines`` at random: 50% flite, 35% espeak-ng English, 15% espeak-ng other languages."""
    rng = random.Random(seed)
    chosen = rng.sample(list(lines), min(n_lines, len(lines)))
    cast = []
    for id_, text in chosen:
        draw = rng.random()
        if draw < 0.5:
            cast.append(Line(id_, text, "flite", rng.choice(FLITE_VOICES)))
        else:
            voices = ESPEAK_ENGLISH if draw < 0.85 else ESPEAK_OTHER
            cast.append(Line(id_, text, "espeak-ng", rng.choice(voices)))
    return cast


def _flite(line: Line, scratch: Path) -> tuple[np.ndarray, int, list[tuple[str, float]]]:
    """Samples, rate, and phones with the second at which each begins, as ``espeak.speak`` gives them."""
    rng = random.Random(line.id)
    options = ["--setf", f"duration_stretch={rng.uniform(0.8, 1.2):.3f}"]
    if line.voice in ("rms", "kal16"):  # the other voices carry their own pitch contour
        options += ["--setf", f"int_f0_target_mean={rng.uniform(80, 160):.0f}"]
    wav = scratch / "a.wav"
    command = ["flite", "-voice", line.voice, *options, "-psdur", "-t", line.text + " ", "-o", str(wav)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120, text=True)
    samples, rate = soundfile.read(wav, dtype="int16")
    ends = [phone.rsplit(":", 1) for phone in done.stdout.split()]
    # The diphone voice's printed times run up to 3% ahead of its samples.
    scale = len(samples) / rate / float(ends[-1][1])
    begins = [0.0, *(float(end) * scale for _, end in ends[:-1])]
    names = ("" if name == "pau" else name for name, _ in ends)
    return samples, rate, list(zip(names, begins, strict=True))


def speak(line: Line, out_dir: Path) -> tuple[str, str, str, float]:
    """Speak one line into ``out_dir/ID.flac`` (16 kHz) and its phones into ``ID.json``; returns its manifest row."""
    path, phones_path = out_dir / f"{line.id}.flac", out_dir / f"{line.id}.json"
    if not phones_path.exists():  # written last
        with tempfile.TemporaryDirectory(dir=out_dir) as scratch:
            if line.engine == "flite":
                samples, rate, phones = _flite(line, Path(scratch))
            else:
                rng = random.Random(line.id)
                samples, rate, phones = espeak.speak(
                    line.text, line.voice, pitch=rng.randint(15, 85), words_per_minute=rng.randint(120, 200)
                )
            wave = samples.astype(np.float32) / max(float(np.abs(samples.astype(np.int32)).max()), 1.0)
            with atomic_path(path) as temporary:
                soundfile.write(
                    temporary, 0.5 * soxr.resample(wave, rate, SAMPLE_RATE), SAMPLE_RATE, format="FLAC"
                )
        with atomic_path(phones_path) as temporary:
            temporary.write_text(json.dumps({"inventory": line.engine, "phones": phones}))
    return path.name, line.voice, line.text, soundfile.info(path).duration


def on_all_cores(jobs: Sequence[Any], description: str) -> Iterator[Any]:
    """What joblib's delayed calls give, in their order, with a bar."""
    results = joblib.Parallel(n_jobs=-1, return_as="generator")(jobs)
    yield from track(results, description=description, total=len(jobs))


def synthesize(
    text_dir: Path, out_dir: Path, n_lines: int, *, n_made_up: int = 0, seed: int = 0, held_out: bool = False
) -> Path:
    """Speak ``n_lines`` lines, then ``n_made_up`` lines of made-up syllables; resumes where a killed run stopped.

    Returns:
        Path of ``manifest.csv`` (path, speaker, text, duration_s).

    Raises:
        FileNotFoundError: flite or espeak-ng is not installed.
    """
    for program in ("flite", "espeak-ng"):
        if shutil.which(program) is None:
            raise FileNotFoundError(f"{program} is not installed: apt-get install {program}")
    out_dir.mkdir(parents=True, exist_ok=True)
    cast = cast_voices(read_lines(text_dir, held_out=held_out), n_lines, seed)
    rng = random.Random(seed)
    cast += [
        Line(id_, text, "espeak-ng", rng.choice(ESPEAK_ARABIC))
        for id_, text in made_up_lines(n_made_up, seed)
    ]
    rows = on_all_cores([joblib.delayed(speak)(line, out_dir) for line in cast], "speaking")
    manifest = out_dir / "manifest.csv"
    write_table(manifest, ["path", "speaker", "text", "duration_s"], rows)
    return manifest
