"""LoRA: low-rank changes of the attention's projections, by peft, in place of a prompt.

The language model's own weights are shared with the stack, not copied, and never change: only the tree of modules is
new, in which peft puts its layers.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models": queries and values, alpha twice the rank.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn

from speechprompt.lm.base import UnitLM
from speechprompt.methods.base import Job, MethodError, Outcome
from speechprompt.methods.settings import by_validation, take
from speechprompt.methods.unit_classifier import tune_on_units
from speechprompt.prompt_config import PromptConfig
from speechprompt.sequence.decoding import DecodingConfig
from speechprompt.sequence.objective import SequenceObjective
from speechprompt.train_config import TrainConfig
from speechprompt.train_prompt import LabelObjective

QUERIES_AND_VALUES = ("q_proj", "v_proj")
FUSED = ("c_attn", "query_key_value", "qkv_proj")  # queries, keys and values by one matrix


@dataclass(frozen=True)
class LoraSettings:
    """Beside these: the fields of PromptConfig (kind "none" by default) and TrainConfig (lr 2e-3).

    rank: of each change. alpha: changes are scaled by alpha / rank. lora_dropout: on what the changes read.
    targets: last parts of the names of the linear layers to change; empty for queries and values, or the fused
        projection of a model that has only that.
    """

    rank: int = 8
    alpha: int = 16
    lora_dropout: float = 0.1
    targets: tuple[str, ...] = ()


def lora(job: Job) -> Outcome:
    """Train low-rank changes, the separator and the verbalizer."""

    def run(job: Job) -> Outcome:
        defaults = LoraSettings(), PromptConfig(kind="none", length=0), TrainConfig(lr=2e-3), DecodingConfig()
        settings, prompt, config, decoding = take(job, "lora", *defaults)

        def adapt(objective: LabelObjective | SequenceObjective) -> None:
            add_lora(objective.module.lm, settings, job.seed)

        lm, more = job.stack.lm.shared_copy(), asdict(settings)
        return tune_on_units(job, "lora", lm, prompt, config, decoding, more_settings=more, adapt=adapt)

    return by_validation(job, [2e-3], run)


def add_lora(lm: UnitLM, settings: LoraSettings, seed: int) -> None:
    """Put LoRA layers around the model's projections; they alone then require gradients.

    The model says the same as before: one factor of every change begins as zeros.

    Raises: MethodError for a rank below 1, or a model without such layers.
    """
    from peft import LoraConfig, inject_adapter_in_model  # imported where it is needed: it takes seconds

    targets = _targets(lm, tuple(settings.targets))
    if settings.rank < 1:
        raise MethodError(f"rank: expected at least 1, got {settings.rank}; correct the setting")
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(targets),
        fan_in_fan_out=not any(
            isinstance(module, nn.Linear) for module in targets.values()
        ),  # GPT-2's Conv1D
    )
    with torch.random.fork_rng([lm.device] if lm.device.type == "cuda" else []):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, lm)
    lm.eval()


def _targets(lm: UnitLM, endings: tuple[str, ...]) -> dict[str, nn.Module]:
    """The layers to change, by their full names."""
    named = {name: module for name, module in lm.named_modules() if not list(module.children())}
    for choice in [endings] if endings else [QUERIES_AND_VALUES, FUSED]:
        found = {name: module for name, module in named.items() if name.rpartition(".")[2] in choice}
        if found:
            return found
    names = sorted(
        {name.rpartition(".")[2] for name, module in named.items() if isinstance(module, nn.Linear)}
    )
    raise MethodError(
        f"targets: expected names of linear layers, got {', '.join(endings) or 'none known here'}; "
        f"choose out of {', '.join(names)}"
    )
