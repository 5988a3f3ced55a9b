"""What a prompt's length, its depth, its first values, how labels are read, and its training are worth, on one task.

    python -m scripts.ablations spoken_digits --out tables/ablations
    python -m scripts.ablations keyword_spotting --data ROOT --stack STACK --of length,verbalizer --out tables/ks

Each question changes one thing; all else is this package's default.

    length       1, 2, 5, 10 and 20 positions in every layer
    depth        vectors in every layer against rows before the first, with equally many positions, and as many vectors
    verbalizer   label units at random or by frequency, a learnable map from the logits (SpeechPrompt v2) or from the
                 hidden state they come from
    init         what the prompt starts as
    reading      one to three separators, or the mean of all states; scaled to equal length or not
    schedule     the learning rate's
    averaging    over the ends of how many epochs
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.recipe import Data, DeviceName, Out, Seeds, StackName, WorkerCount, task_source
from speechprompt.cli.boundary import guarded
from speechprompt.prompt_config import INITS, PromptConfig
from speechprompt.stack_folder import load_stack
from speechprompt.suite.command import run_command
from speechprompt.suite.plan import Variant, plan_cells, require_known
from speechprompt.suite.settings import method_settings, numbers, split_names
from speechprompt.train_config import SCHEDULES

LENGTHS = (1, 2, 5, 10, 20)
VERBALIZERS: dict[str, dict[str, Any]] = {
    "random": {"verbalizer": "random"},
    "frequency": {"verbalizer": "frequency"},
    "learnable-logits": {"verbalizer": "learnable", "read": "logits"},
    "learnable-hidden": {"verbalizer": "learnable", "read": "hidden"},
}
READINGS: dict[str, dict[str, Any]] = {
    "separators-1": {"n_separators": 1},
    "separators-2": {"n_separators": 2},
    "separators-3": {"n_separators": 3},
    "scaled": {"length_normalization": True},
    "mean": {"pool": "mean"},
    "mean-scaled": {"pool": "mean", "length_normalization": True},
}
AVERAGED = (1, 2, 4)  # epochs
QUESTIONS = ("length", "depth", "verbalizer", "init", "reading", "schedule", "averaging")


def variants_of(questions: Sequence[str], n_layers: int, shared: dict[str, Any]) -> list[Variant]:
    """Prompts that differ in one thing. n_layers: of the language model. shared: settings of all."""
    length = PromptConfig().length
    variants: dict[str, tuple[str, dict[str, Any]]] = {}
    if "length" in questions:
        variants |= {f"length-{n}": ("prompt", {"length": n}) for n in LENGTHS}
    if "depth" in questions:
        variants["depth-all-layers"] = ("prompt", {"length": length})
        variants["depth-input"] = ("input-prompt", {"length": length})
        variants["depth-input-as-many-weights"] = ("input-prompt", {"length": 2 * n_layers * length})
    choices: dict[str, dict[str, dict[str, Any]]] = {
        "verbalizer": VERBALIZERS,
        "init": {name: {"init": name} for name in INITS},
        "reading": READINGS,
        "schedule": {name: {"schedule": name} for name in SCHEDULES},
        "averaging": {str(n): {"average_epochs": n} for n in AVERAGED},
    }
    for question, named in choices.items():
        if question in questions:
            variants |= {f"{question}-{name}": ("prompt", settings) for name, settings in named.items()}
    return [Variant(name, method, shared | settings) for name, (method, settings) in variants.items()]


def main(
    task: Annotated[str, typer.Argument(help="A task.")],
    out: Out = Path("tables"),
    of: Annotated[str, typer.Option(metavar="A,B", help=", ".join(QUESTIONS) + ".")] = ",".join(QUESTIONS),
    data: Data = None,
    stack: StackName = "mini",
    settings: Annotated[
        list[str], typer.Option(metavar="prompt.NAME=VALUE", help="A setting of all prompts.")
    ] = [],  # noqa: B006 (typer copies it)
    seeds: Seeds = "0,1,2",
    workers: WorkerCount = 1,
    device: DeviceName = "cpu",
) -> None:
    """Measure what each part of a prompt is worth."""
    questions = split_names("--of", of)
    for question in questions:
        require_known("--of", question, QUESTIONS)
    shared = method_settings(settings, ["prompt"])["prompt"]
    n_layers = load_stack(stack).lm.n_layers
    cells = plan_cells(
        [task_source(task, data, stack)], variants_of(questions, n_layers, shared), numbers("--seeds", seeds)
    )
    result = run_command(cells, out, n_workers=workers, device=device)
    print(f"{out / 'suite.md'}: {result.n_done} cells")


if __name__ == "__main__":
    sys.exit(guarded(lambda: typer.run(main)))
