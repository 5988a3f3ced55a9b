"""CPC features of a converted checkpoint against those that the reference reader computed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechprompt.convert.cpc import convert
from units.audio import read_audio
from units.encoders.cpc import CPCEncoder
from units.encoders.cpc_network import n_frames

FEATURES = re.compile(
    r"feats_(?P<wave>a\d+)(?:first(?P<first>\d+))?_(?P<level>layer\d+|encoder)(?P<options>.*)"
)


@pytest.fixture(scope="module")
def spec(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "cpc" / "spec.json").read_text())


@pytest.fixture(scope="module")
def folder(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("cpc") / "encoder"
    convert(golden / "cpc" / "checkpoint.pt", to)
    return to


def test_the_conversion_reports_what_the_file_holds(
    golden: Path, spec: dict[str, Any], tmp_path: Path
) -> None:
    converted = convert(golden / "cpc" / "checkpoint.pt", tmp_path / "encoder")
    config = spec["config"]
    assert converted.dimensions == {
        "hidden_encoder": config["hiddenEncoder"],
        "hidden_context": config["hiddenGar"],
        "n_levels": config["nLevelsGRU"],
        "context": config["arMode"],
        "norm": config["normMode"],
    }
    assert not converted.ignored


def test_features_are_the_reference_s(golden: Path, folder: Path) -> None:
    data = np.load(golden / "cpc" / "golden.npz")
    n_compared = 0
    for name, expected in data.items():
        match = FEATURES.fullmatch(name)
        assert match, f"{name}: a kind of array that this test does not know"
        wave = read_audio(golden / "audio" / f"{match['wave']}.wav", 16_000)[: int(match["first"] or 10**9)]
        chunk = re.search(r"_chunk(\d+)", match["options"])
        max_chunk = int(chunk.group(1)) if chunk else 64_000
        layer = 0 if match["level"] == "encoder" else int(match["level"].removeprefix("layer"))
        encoder = CPCEncoder(
            folder, layer, max_chunk=max_chunk, normalize="_norm" in match["options"], name="golden"
        )
        features_1FD, counts_1 = encoder.encode([wave])
        got = features_1FD[0].numpy()
        assert len(got) == int(counts_1[0]) == encoder.n_frames(len(wave))
        rest = len(wave) % max_chunk if len(wave) >= max_chunk else 0
        if 0 < rest < len(wave) // n_frames(len(wave)):
            # The reference repeats the whole wave where the remainder is too short for a frame; ours adds nothing.
            assert len(expected) > len(got)
            expected = expected[: len(got)]
        np.testing.assert_allclose(got, expected, atol=1e-4, rtol=1e-4, err_msg=name)
        n_compared += 1
    assert n_compared >= 5
