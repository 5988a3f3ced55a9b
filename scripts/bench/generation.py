"""Units generated after a prefix: ours, and transformers' `generate` on the same weights."""

from __future__ import annotations

import numpy as np

from scripts.bench.alternating import Ways
from scripts.bench.opt_peer import as_opt, opt_generate
from scripts.bench.prompt_work import our_lm
from speechprompt.decode import SamplingConfig, generate
from speechprompt.lm.gslm import GSLM


def generation(lm: GSLM, n_rows: int, n_seed: int, n_units: int) -> Ways:
    """Greedy continuations, whose units are the same but for rounding; ours as `continue --precision bf16` makes them.

    Args:
        lm: the language model.
        n_rows: continued together.
        n_seed: units given.
        n_units: units made.
    """
    draw = np.random.default_rng(0)
    seeds = [draw.integers(lm.vocab.n_units, size=n_seed) for _ in range(n_rows)]
    ours = our_lm(lm)
    config, opt = SamplingConfig(max_units=n_units, greedy=True, allow_end=False), as_opt(lm)
    return {
        "ours": lambda: generate(ours, seeds, config),
        "transformers": lambda: opt_generate(opt, lm, seeds, n_units),
    }
