"""How near a work comes to what the machine can do: operations counted, against the rate of one large product.

What reads more than it multiplies, as the generation of a few rows does, is far below that rate by nature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from scripts.bench.alternating import alternate
from units.rounded_linear import RoundedLinear

_SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices: 17 GFLOP, 1.1 TFLOP


def _of_laid_out(x: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * x[0] * x[1] * weight[0]


def _of_cpu_attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _that_torch_does_not_count() -> dict[Any, Callable[..., int]]:
    """By operator; builds without oneDNN lack one."""
    counted: dict[Any, Callable[..., int]] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _of_cpu_attention
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        counted[torch.ops.mkldnn._linear_pointwise] = _of_laid_out
    return counted


def operations(work: Callable[[], object]) -> int:
    """Operations of one call, a product and a sum counted as two: of matrix products, convolutions and attention.

    Args:
        work: is called once.
    """
    with FlopCounterMode(display=False, custom_mapping=_that_torch_does_not_count()) as counter:
        work()
    return int(counter.get_total_flops())


def matrix_rate(device: torch.device, bf16: bool, rounds: int) -> float:
    """Operations a second of a large product by a matrix laid out once: the median of some calls.

    Args:
        device: that multiplies.
        bf16: in bfloat16, else in float32.
        rounds: that count.
    """
    side = _SIDE.get(device.type, _SIDE["cpu"])
    linear = nn.Linear(side, side, bias=False, device=device).requires_grad_(False)
    product = RoundedLinear([linear]) if bf16 else linear
    x = torch.randn(side, side, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    timed = alternate({"product": lambda: product(x)}, rounds, device)
    return 2 * side**3 / timed.seconds["product"]
