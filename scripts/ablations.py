"""What a prompt's length, its depth, its first values, how labels are read, and its training are worth, on one task.

    python -m scripts.ablations spoken_digits --out tables/ablations
    python -m scripts.ablations keyword_spotting --data ROOT --stack STACK --of length,verbalizer --out tables/ks

Each question changes one thing; all else is this package's default, which is measured once.

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
from speechprompt.train_config import SCHEDULES, TrainConfig

CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "length": {str(n): {"length": n} for n in (1, 2, 5, 10, 20)},
    "verbalizer": {
        "random": {"verbalizer": "random"},
        "frequency": {"verbalizer": "frequency"},
        "learnable-logits": {"verbalizer": "learnable", "read": "logits"},
        "learnable-hidden": {"verbalizer": "learnable", "read": "hidden"},
    },
    "init": {name: {"init": name} for name in INITS},
    "reading": {
        "separators-1": {"n_separators": 1},
        "separators-2": {"n_separators": 2},
        "separators-3": {"n_separators": 3},
        "scaled": {"length_normalization": True},
        "mean": {"pool": "mean"},
        "mean-scaled": {"pool": "mean", "length_normalization": True},
    },
    "schedule": {name: {"schedule": name} for name in SCHEDULES},
    "averaging": {str(n): {"average_epochs": n} for n in (1, 2, 4)},  # epochs
}
QUESTIONS = ("depth", *CHANGES)


def variants_of(questions: Sequence[str], n_layers: int, shared: dict[str, Any]) -> list[Variant]:
    """`default`, and what differs from it in one thing. n_layers: of the language model. shared: settings of all."""
    default = PromptConfig().to_dict() | TrainConfig().to_dict() | shared
    length = default["length"]
    variants = [Variant("default", "prompt", shared)]
    if "depth" in questions:
        rows = {"input": length, "input-as-many-weights": 2 * n_layers * length}
        variants += [
            Variant(f"depth-{name}", "input-prompt", shared | {"length": n}) for name, n in rows.items()
        ]
    variants += [
        Variant(f"{question}-{name}", "prompt", shared | settings)
        for question, named in CHANGES.items()
        for name, settings in named.items()
        if question in questions and default | settings != default
    ]
    return variants


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
