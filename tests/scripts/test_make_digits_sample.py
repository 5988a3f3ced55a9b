"""The script behind the bundled digits: it keeps the sound, balances, and repeats itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from scripts.make_digits_sample import choose_training_clips, encode_clip, table_text, write_digits
from tasks.csv_table import TableRow, read_table
from tasks.spoken_digits import BUNDLED
from units.errors import InputError

RATE_HZ = 16_000


def tone(path: Path, frequency_hz: float, rate_hz: int = RATE_HZ) -> Path:
    path.parent.mkdir(exist_ok=True)
    time_s = np.arange(rate_hz // 4) / rate_hz
    fade = np.hanning(len(time_s))
    soundfile.write(path, 0.5 * fade * np.sin(2 * np.pi * frequency_hz * time_s), rate_hz, subtype="PCM_16")
    return path


def test_only_clips_that_8_khz_can_hold_are_stored(tmp_path: Path) -> None:
    (tmp_path / "low.flac").write_bytes(encode_clip(tone(tmp_path / "low_source.flac", 1000), lossless=True))
    stored, rate = soundfile.read(tmp_path / "low.flac", dtype="int16")
    source, _ = soundfile.read(tmp_path / "low_source.flac", dtype="int16")
    assert rate == 8000 and np.array_equal(stored, source[::2])
    with pytest.raises(InputError, match="no energy above 4000 Hz"):
        encode_clip(tone(tmp_path / "high.flac", 5000), lossless=False)
    with pytest.raises(InputError, match="got 8000"):
        encode_clip(tone(tmp_path / "narrow.flac", 1000, 8000), lossless=True)


def test_choice_is_balanced_and_spread() -> None:
    rows = [
        TableRow(Path("t.csv"), 2, f"{digit}_{speaker}_{index}.flac", digit, speaker)
        for digit in "01"
        for speaker in ("ann", "bob")
        for index in range(5, 50)
    ]
    chosen = choose_training_clips(rows, 4)
    assert set(Counter((row.label, row.speaker) for row in chosen).values()) == {4}
    assert sorted(int(row.path.stem[6:]) for row in chosen if row.label == "0" and row.speaker == "ann") == [
        5,
        20,
        34,
        49,
    ]


def test_sample_fits_and_two_runs_write_the_same_sounds(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for split, indices in (("test", range(2)), ("train", range(5, 11))):
        rows = [
            TableRow(source / "t.csv", 2, f"recordings/{d}_ann_{i}.flac", d, "ann")
            for d in "01"
            for i in indices
        ]
        for row in rows:
            tone(row.path, 300 + 50 * int(row.label))
        (source / f"{split}.csv").write_text(table_text(rows, split))
    whole = write_digits(source, tmp_path / "whole", max_bytes=10**6)
    limit = whole - 1
    assert write_digits(source, tmp_path / "first", limit) <= limit
    write_digits(source, tmp_path / "second", limit)
    first, second = (
        {path.relative_to(out): soundfile.read(path)[0].tobytes() for path in (out / "recordings").iterdir()}
        for out in (tmp_path / "first", tmp_path / "second")
    )
    assert first == second
    assert sum(path.stat().st_size for path in (tmp_path / "first").rglob("*") if path.is_file()) <= limit
    assert len(read_table(tmp_path / "first" / "train.csv")) == 10  # five of six clips of each digit
    with pytest.raises(InputError, match="at most 10 bytes"):
        write_digits(source, tmp_path / "none", 10)


def test_bundled_clips_are_what_the_script_makes(shared_data: Path) -> None:
    for row in read_table(BUNDLED / "test.csv")[::30]:
        bundled, _ = soundfile.read(row.path, dtype="int16")
        source, _ = soundfile.read(shared_data / "fsdd" / row.relative, dtype="int16")
        assert np.array_equal(bundled, source[::2])
    for row in read_table(BUNDLED / "train.csv")[::60]:
        bundled, rate = soundfile.read(row.path)
        source, _ = soundfile.read((shared_data / "fsdd" / row.relative).with_suffix(".flac"))
        assert rate == 8000
        noise = np.mean((bundled - source[::2]) ** 2) / np.mean(source**2)
        assert noise < 0.2  # Opus keeps the spectrum, not the wave: 16 dB in the median
