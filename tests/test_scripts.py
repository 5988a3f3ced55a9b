"""The scripts that check and measure: what they print is what a decision stands on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import bench_speed, check_quickstart
from speechprompt.stack_folder import load_stack

GOOD = {
    "accuracy": 0.96,
    "baseline_majority": 0.1,
    "baseline_ngram": 0.94,
    "trainable_parameters": 5_000,
    "frozen_parameters": 9_000_000,
    "seconds": 200.0,
}


def test_good_figures_pass(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(GOOD), encoding="utf-8")
    assert check_quickstart.main(file) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accuracy": 0.949}, "0.95"),
        ({"accuracy": 0.97, "baseline_ngram": 0.97}, "n-gram"),
        ({"accuracy": float("nan")}, "0.95"),
    ],
)
def test_figures_below_the_promise_fail(
    change: dict[str, float], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(GOOD | change), encoding="utf-8")
    assert check_quickstart.main(file) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("key", GOOD)
def test_missing_figure_is_named(key: str) -> None:
    (said,) = check_quickstart.shortfalls({name: value for name, value in GOOD.items() if name != key})
    assert said.endswith(f"lacks {key}")


def test_median_leaves_the_first_call_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 0.0, 2.0, 0.0, 9.0])
    monkeypatch.setattr(bench_speed.time, "perf_counter", lambda: next(clock))
    calls: list[None] = []
    assert bench_speed.median_s(lambda: calls.append(None), repeats=3) == 2.0
    assert len(calls) == 4


def test_bench_measures_every_figure(tiny_stack: Path) -> None:
    figures = bench_speed.measure(load_stack(tiny_stack), bench_speed.LEAST_REPEATS)
    assert figures["stack"] == "tiny"
    measured = {name.removesuffix("_rtf") for name in figures if name.endswith("_rtf")}
    assert measured == set(bench_speed.RTFS) - {"inpainting"}  # it has no encoder-decoder
    assert all(figures[f"{name}_rtf"] > 0 for name in measured) and figures["training_tokens_per_s"] > 0
