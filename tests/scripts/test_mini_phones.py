"""Labels from synthesizers' phones: names, frames, and made-up syllables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from scripts.mini import espeak
from scripts.mini.corpus import Clip, pack
from scripts.mini.phones import frame_symbols, label_phones, plain_symbol
from scripts.mini.syllables import CONSONANTS, made_up_lines
from scripts.mini.synthesis import Line, speak


@pytest.mark.parametrize(
    ("name", "plain"), [("s̪", "s"), ("a.", "a"), ("ɑː", "ɑː"), ("(en)", ""), ("", ""), ("ħ", "ħ")]
)
def test_diacritics_go_and_lengths_stay(name: str, plain: str) -> None:
    assert plain_symbol(name) == plain


def test_a_frame_is_labelled_by_the_phone_at_its_middle() -> None:
    phones = [("", 0.0), ("s", 0.031), ("a", 0.09)]
    assert frame_symbols(phones, 6) == ["", "", "s", "s", "a", "a"]  # middles at 10, 30, 50, 70, 90, 110 ms


def test_inventories_stay_apart_and_rare_phones_unlabelled(tmp_path: Path) -> None:
    wave = np.zeros(320 * 3000, np.float32)
    many = [["a", 0.0], ["b", 30.0], ["rare", 59.98]]  # 1 frame of 3,000 is below the limit
    for name, inventory, phones in (("x", "one", many), ("y", "two", [["a", 0.0]])):
        soundfile.write(tmp_path / f"{name}.flac", wave, 16_000)
        (tmp_path / f"{name}.json").write_text(json.dumps({"inventory": inventory, "phones": phones}))
    soundfile.write(tmp_path / "real.flac", wave[:3200], 16_000)
    clips = [Clip("s", "s", tmp_path / f"{name}.flac") for name in ("x", "real", "y")]
    phones = label_phones(pack(clips, tmp_path / "packed"), tmp_path / "phones.npz")
    assert phones.inventory_P.tolist() == [0, 0, 1]
    assert phones.targets.of(0)[[0, 1499, 1500, 2998, 2999]].tolist() == [0, 0, 1, 1, -1]
    assert set(phones.targets.of(1).tolist()) == {-1}
    assert set(phones.targets.of(2).tolist()) == {2}


def test_syllables_are_reproducible_and_of_the_alphabet() -> None:
    lines = made_up_lines(20, seed=3)
    assert lines == made_up_lines(20, seed=3) != made_up_lines(20, seed=4)
    assert all(any(c in text for c in CONSONANTS) for _, text in lines)


@pytest.mark.skipif(espeak.find_library("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_tells_when_its_phones_begin() -> None:
    samples, rate, phones = espeak.speak("Sasa.", "en-us", pitch=50, words_per_minute=120)
    begins = [begin for _, begin in phones]
    assert [name for name, _ in phones][:3] == ["s", "ɑː", "s"]
    assert begins == sorted(begins) and begins[-1] <= len(samples) / rate + 0.01
    hiss = samples[int(begins[0] * rate) : int(begins[1] * rate)].astype(np.int32)
    vowel = samples[int(begins[1] * rate) : int(begins[2] * rate)].astype(np.int32)
    crossings = [np.mean(np.diff(np.sign(part)) != 0) for part in (hiss, vowel)]
    assert crossings[0] > 2 * crossings[1]  # s hisses, a does not


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_flite_tells_when_its_phones_begin(tmp_path: Path) -> None:
    speak(Line("one", "Sasa. And more!", "flite", "slt"), tmp_path)
    described = json.loads((tmp_path / "one.json").read_text())
    names = [name for name, _ in described["phones"]]
    begins = [begin for _, begin in described["phones"]]
    assert names[0] == names[-1] == "" and names[1] == "s"
    assert begins == sorted(begins) and begins[0] == 0.0
    assert begins[-1] < soundfile.info(tmp_path / "one.flac").duration
