"""Imported SpeechPrompt prompts trained a few steps, against what the reference's trainer made of them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from speechprompt.convert.prompts import INFIX, PREFIX
from tests.speechprompt.reference_prompts import (
    VARIANTS,
    by_reference_name,
    notes,
    prompted_and_linear,
    reference_loss,
)

LONGEST_DISTANCE = 5e-6  # of any value after the steps, as the golden README found


def said(pattern: str, text: str, default: float | None = None) -> float:
    """A number of the notes."""
    found = re.search(pattern, text)
    assert found or default is not None, f"no {pattern!r} in the notes"
    return float(found[1]) if found else float(default or 0)


class ReferenceAdam:
    """Adam as the reference has it: eps is added before bias correction (torch.optim.Adam adds it after)."""

    def __init__(self, lr: float, betas: tuple[float, float], eps: float) -> None:
        self.lr, self.betas, self.eps = lr, betas, eps
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}

    def step(self, t: int, name: str, value: Tensor, gradient: Tensor) -> None:
        b1, b2 = self.betas
        m, v = self.moments.setdefault(name, (torch.zeros_like(value), torch.zeros_like(value)))
        m.mul_(b1).add_(gradient, alpha=1 - b1)
        v.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
        size = self.lr * math.sqrt(1 - b2**t) / (1 - b1**t)
        value.addcdiv_(m, v.sqrt().add_(self.eps), value=-size)


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_parameters_after_steps(variant: str, golden: Path) -> None:
    prompted, linear = prompted_and_linear(golden, variant)
    data, text = np.load(golden / variant / "golden.npz"), notes(golden, variant)
    adam = ReferenceAdam(
        said(r"lr ([\d.e-]*\d)", text),
        (said(r"betas \(?([\d.]*\d),", text), said(r"betas \(?[\d.]+, ([\d.]*\d)", text)),
        said(r"eps ([\d.e-]*\d)", text, default=1e-8),
    )
    longest_norm = said(r"clip(?:ped to norm)? ([\d.]*\d)", text)
    recorded = {int(found[1]) for name in data if (found := re.match(r"step(\d+)/", name))}
    assert recorded
    norms = []
    for step in range(1, max(recorded) + 1):
        for parameter in [*prompted.trainable_parameters(), *([] if linear is None else [linear])]:
            parameter.grad = None
        loss = reference_loss(prompted, linear, data)
        loss.backward()
        if f"step{step}_log" in data:  # written with three decimals
            per_token = float(loss.detach()) / int(data["sample_size"]) / math.log(2)
            np.testing.assert_allclose([per_token, adam.lr], data[f"step{step}_log"], atol=6e-4)
        trained = by_reference_name(prompted, linear)
        gradients = {name: gradient / int(data["sample_size"]) for name, (_, gradient) in trained.items()}
        norm = float(torch.stack([gradient.norm() for gradient in gradients.values()]).norm())
        norms.append(norm)
        for name, (value, _) in trained.items():
            adam.step(step, name, value, gradients[name] * min(1.0, longest_norm / (norm + 1e-6)))
        if step in recorded:
            expected = {n.split("/")[1]: data[n] for n in data if n.startswith(f"step{step}/")}
            for name in expected.keys() - trained.keys():
                # No rows, or input rows dead beside a deep prompt: the reference leaves them as they were.
                assert name in (PREFIX, INFIX)
                np.testing.assert_array_equal(expected[name], data[f"param/{name}"])
            assert trained.keys() <= expected.keys()
            for name, (value, _) in trained.items():
                got = value.numpy()
                np.testing.assert_allclose(
                    got, expected[name], rtol=0, atol=LONGEST_DISTANCE, err_msg=f"{name}, step {step}"
                )
    if "steps_gnorm" in data:  # fairseq's meter of `gnorm` averages what train_step logs, before clipping
        np.testing.assert_allclose(np.mean(norms), float(data["steps_gnorm"]), rtol=1e-4)
