"""What an imported prompt's record says about its training: what the checkpoint states, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from speechprompt.convert.prompt_training import training_of

PARTS: dict[str, Any] = {
    "common": {"bf16": False, "fp16": False, "seed": 3},
    "dataset": {"max_tokens": 2048, "batch_size": 4},
    "optimization": {"lr": [0.003], "clip_norm": 0.5, "max_epoch": 20, "update_freq": [1]},
    "checkpoint": {"patience": 2},
    "optimizer": {"_name": "adam", "adam_betas": "(0.8, 0.95)"},
    "lr_scheduler": {"_name": "fixed", "warmup_updates": 7},
    "model": {"_name": "GSLM_SpeechPrompt_v1", "dropout": 0.0},
}
EXPECTED = {
    "lr": 0.003,
    "betas": (0.8, 0.95),
    "clip": 0.5,
    "schedule": "constant",
    "warmup_steps": 7,
    "batch_tokens": 2048,
    "batch_rows": 4,
    "max_epochs": 20,
    "patience": 2,
    "mixed_precision": "no",
    "seed": 3,
}


def changed(part: str, **values: Any) -> dict[str, Any]:
    return PARTS | {part: PARTS[part] | values}


def test_every_part_is_read() -> None:
    assert training_of(PARTS) == EXPECTED


def test_a_flat_namespace_is_read() -> None:
    flat = {name: value for part in PARTS.values() for name, value in part.items() if name != "_name"}
    flat |= {
        "_name": "transformer_lm_big_prompt",
        "lr_scheduler": "fixed",
        "max_sentences": flat.pop("batch_size"),
    }
    assert training_of({"model": flat, "task": flat}) == EXPECTED


@pytest.mark.parametrize(
    ("part", "values", "missing"),
    [
        ("optimization", {"clip_norm": 0.0}, "clip"),  # fairseq: no clipping
        ("optimization", {"max_epoch": 0}, "max_epochs"),  # without end
        ("optimization", {"lr": [0.003, 0.001]}, "lr"),  # another one in every epoch
        ("optimization", {"lr": "fast"}, "lr"),
        ("checkpoint", {"patience": -1}, "patience"),  # never
        ("lr_scheduler", {"_name": "inverse_sqrt"}, "schedule"),
        ("dataset", {"batch_size": None}, "batch_rows"),
        ("dataset", {"max_tokens": [1]}, "batch_tokens"),
        ("common", {"fp16": True}, "mixed_precision"),
        ("common", {"bf16": [], "fp16": []}, "mixed_precision"),
        ("optimizer", {"adam_betas": "(0.9, none)"}, "betas"),
        ("optimizer", {"adam_betas": 0.9}, "betas"),
    ],
)
def test_what_has_no_name_here_is_left_out(part: str, values: dict[str, Any], missing: str) -> None:
    expected = {name: value for name, value in EXPECTED.items() if name != missing}
    assert training_of(changed(part, **values)) == expected


def test_a_step_holds_all_that_it_accumulated() -> None:
    training = training_of(changed("optimization", update_freq=[4]))
    assert (training["batch_tokens"], training["batch_rows"]) == (8192, 16)
    varied = training_of(changed("optimization", update_freq=[4, 1]))
    assert not {"batch_tokens", "batch_rows"} & varied.keys()


def test_bfloat16_is_named() -> None:
    assert training_of(changed("common", bf16=True))["mixed_precision"] == "bf16"


@pytest.mark.parametrize(
    "config", [{}, {"model": {}, "task": {}}, {"model": {"_name": "x"}, "optimization": None}]
)
def test_a_file_without_settings_gives_none(config: dict[str, Any]) -> None:
    assert training_of(config) == {}
