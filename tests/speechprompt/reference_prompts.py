"""Golden SpeechPrompt prompts as several tests read them: folders, language models, the reference's loss."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from speechprompt.convert.gslm import read_gslm
from speechprompt.convert.prompts import INFIX, KEY, LINEAR, PREFIX, SEPARATOR, VALUE, read_prompt
from speechprompt.fairseq import read_fairseq
from speechprompt.lm.base import UnitLM
from speechprompt.prompted import PromptedLM

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(os.environ.get("SPEECHPROMPT_GOLDEN", ROOT.parent / "shared" / "golden"))
VARIANTS = sorted(str(file.parent.relative_to(GOLDEN)) for file in GOLDEN.glob("speechprompt_v*/*/spec.json"))
VARIANTS = VARIANTS or ["speechprompt_v2/deep"]


def notes(golden: Path, variant: str) -> str:
    """What spec.json says in words."""
    return " ".join(json.loads((golden / variant / "spec.json").read_text(encoding="utf-8"))["notes"])


def language_model(golden: Path, variant: str) -> UnitLM:
    """The language model of a golden prompt: in the base model beside it, or where its notes say."""
    folder = golden / variant
    base = folder / "base_prompt_model.pt"
    if not base.is_file():
        said = notes(golden, variant).split("language model weights are those of ")[1].split()[0]
        base = (folder / said).resolve()
    extra = {
        "decoder.prefix_": "prompt",
        "decoder.infix_": "prompt",
        "decoder.deep_": "prompt",
        "decoder.sep_": "prompt",
    }
    checkpoint = read_fairseq(base)
    return read_gslm(
        checkpoint, dictionary=folder / "dict.txt", extra={**extra, "decoder.prompt_": "verbalizer"}
    )[0].freeze()


def prompted_and_linear(golden: Path, variant: str) -> tuple[PromptedLM, Tensor | None]:
    """The imported prompt on its language model, and the whole linear verbalizer where there is one."""
    lm = language_model(golden, variant)
    imported = read_prompt(read_fairseq(golden / variant / "checkpoint_best.pt"), lm)
    linear = None if imported.linear is None else imported.linear.clone().requires_grad_()
    return imported.prompted(lm), linear


def reference_loss(prompted: PromptedLM, linear: Tensor | None, data: Mapping[str, Any]) -> Tensor:
    """Summed cross entropy of predicting `<s>` and all after it, for the batch src_tokens and target."""
    lm = prompted.lm
    ids_BT, target_BT = torch.from_numpy(data["src_tokens"]), torch.from_numpy(data["target"])
    hidden_BSD, column_BT = prompted.hidden(ids_BT)
    logits_BSC = lm.logits(hidden_BSD)
    if linear is not None:
        logits_BSC = F.linear(logits_BSC, linear)
    # `<s>` is predicted by what stands directly before it: an infix prompt's last row, where there is one.
    is_separator_BT = target_BT.eq(lm.vocab.bos)
    counted_BT = is_separator_BT.cumsum(1).bool() & target_BT.ne(lm.vocab.pad)
    source_BT = torch.where(is_separator_BT, column_BT + prompted.prompt.infix_length, column_BT)
    rows_BT = torch.arange(len(ids_BT))[:, None].expand_as(source_BT)
    return F.cross_entropy(
        logits_BSC[rows_BT[counted_BT], source_BT[counted_BT]], target_BT[counted_BT], reduction="sum"
    )


def by_reference_name(prompted: PromptedLM, linear: Tensor | None) -> dict[str, tuple[Tensor, Tensor]]:
    """Trained values and their gradients, as the reference names them. The values share memory with the prompt."""

    def pair(parameter: Tensor) -> tuple[Tensor, Tensor]:
        assert parameter.grad is not None
        return parameter.detach(), parameter.grad

    separator, gradient = pair(prompted.separator)
    found = {SEPARATOR: (separator[None], gradient[None])}
    for name, parameter in prompted.prompt.named_parameters():
        if name in ("key", "value"):
            root = KEY if name == "key" else VALUE
            for i, rows in enumerate(zip(*pair(parameter), strict=True)):
                found[f"{root}.{i}.weight"] = rows
        else:
            found[PREFIX if name == "input" else INFIX] = pair(parameter)
    if linear is not None:
        found[LINEAR] = pair(linear)
    return found
