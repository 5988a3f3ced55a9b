"""The recipes of the papers: their settings, and scripts that run as they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import ablations, paper_recipes, papers_table, recipe
from scripts.paper_recipes import RECIPES, paper_settings, papers_of
from speechprompt.prompt import published_parameter_count
from speechprompt.prompt_config import PromptConfig
from speechprompt.suite.published import ALL_PUBLISHED
from speechprompt.train_config import TrainConfig
from tasks.registry import TASKS
from units.errors import InputError


def test_every_task_has_a_recipe() -> None:
    # SpeechGen published no settings beyond its prompt's length.
    spoken = {"continuation", "inpainting", "translation"}
    for task in set(TASKS) - spoken:
        for paper in papers_of(task):
            assert paper_settings(task, paper, "gslm-hubert100")["lr"] == 5e-3
    assert set(RECIPES) <= set(TASKS)


@pytest.mark.parametrize("task", RECIPES)
def test_settings_are_of_the_prompt_and_its_training(task: str) -> None:
    for paper in papers_of(task):
        settings = paper_settings(task, paper, "gslm-hubert100")
        prompt = PromptConfig(**{k: v for k, v in settings.items() if k in PromptConfig().to_dict()})
        rest = {name: value for name, value in settings.items() if name not in prompt.to_dict()}
        config = TrainConfig.from_dict(rest)
        assert (config.betas, config.clip, config.schedule, config.max_epochs) == (
            (0.9, 0.98),
            1.0,
            "constant",
            300,
        )
        assert config.average_epochs == 1 and config.augmentation is None


@pytest.mark.parametrize(
    ("task", "stack", "place"),
    [
        ("keyword_spotting", "gslm-hubert100", 0),
        ("keyword_spotting", "gslm-cpc100", 1),
        ("intent_classification", "gslm-hubert100", 0),
        ("intent_classification", "gslm-cpc100", 1),
    ],
)
def test_v1s_lengths_have_the_parameters_that_v1_prints(task: str, stack: str, place: int) -> None:
    printed = [f for f in ALL_PUBLISHED if f.task == task and f.system.startswith("prompt, ")]
    count = published_parameter_count(paper_settings(task, "v1", stack)["length"], n_layers=12, d_model=1024)
    assert count == pytest.approx(printed[place].trainable_parameters, abs=5_000)


def test_an_intents_slots_are_said_one_after_the_other_as_published() -> None:
    papers = papers_of("intent_classification")
    assert papers == ["v1", "v2"]
    for paper in papers:
        assert paper_settings("intent_classification", paper, "gslm-hubert100")["slots"] == "sequential"
        assert paper_settings("keyword_spotting", paper, "gslm-hubert100").get("slots", "joint") == "joint"


def test_a_paper_without_the_task_is_refused() -> None:
    with pytest.raises(InputError, match="--paper: expected v2 for grabo, got 'v1'"):
        paper_settings("grabo", "v1", "mini")


def test_list_shows_every_task(capsys: pytest.CaptureFixture[str]) -> None:
    recipe.main(show=True)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(RECIPES)


def test_ablations_differ_in_one_thing() -> None:
    variants = {v.name: v for v in ablations.variants_of(ablations.QUESTIONS, 12, {"max_epochs": 3})}
    assert len(variants) == 1 + 4 + 2 + 3 + 2 + 5 + 2 + 2
    assert all(variant.settings["max_epochs"] == 3 for variant in variants.values())
    assert variants["depth-input-as-many-weights"].settings["length"] == 2 * 12 * PromptConfig().length


def test_ablations_measure_the_default_once_and_others_beside_it() -> None:
    variants = {v.name: v for v in ablations.variants_of(["length"], 12, {"length": 20})}
    assert list(variants) == ["default", "length-1", "length-2", "length-5", "length-10"]
    assert variants["default"].settings == {"length": 20}


def test_a_table_holds_the_papers_prompts_and_what_they_are_compared_with(
    tiny_stack: Path, two_words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = paper_recipes.PUBLISHED.to_dict() | {"max_epochs": 1}
    monkeypatch.setattr(paper_recipes, "PUBLISHED", TrainConfig.from_dict(short))
    data = [f"csv_classification={two_words}"]
    papers_table.main(data, tmp_path, stack=str(tiny_stack), methods="majority", seeds="0,1", workers=0)
    rows = json.loads((tmp_path / "suite.json").read_text(encoding="utf-8"))["rows"]
    assert {(row["method"], row["n_cells"]) for row in rows} == {
        ("prompt-v1", 2),
        ("prompt-v2", 2),
        ("majority", 2),
    }
    verbalizers = {row["settings"].get("verbalizer") for row in rows}
    assert verbalizers == {"random", "learnable", None}
