"""How what fills a gap is chosen: the median of rows drawn, or one row by beam search."""

from __future__ import annotations

from dataclasses import replace

from speechprompt.decode import SamplingConfig
from speechprompt.seq2seq.decoding import WritingConfig
from units.errors import InputError

# Chosen on validation gaps of `mini` (docs/results.md): the likeliest row alone is mostly wrong.
FILLING = WritingConfig(sampling=SamplingConfig(temperature=1.0), candidates=32)


def filling_by(
    *,
    beam: int | None = None,
    candidates: int | None = None,
    temperature: float | None = None,
    seed: int = 0,
) -> WritingConfig:
    """What the commands' options say; None for what is not given.

    beam: one row, the likeliest that so many hypotheses find; 1 is greedy. candidates, temperature: of the rows drawn.
    Raises: InputError for a beam and draws together, or values outside their range.
    """
    if beam is None:
        sampling = replace(
            FILLING.sampling, temperature=temperature or FILLING.sampling.temperature, seed=seed
        )
        return replace(FILLING, sampling=sampling, candidates=candidates or FILLING.candidates)
    if candidates is not None or temperature is not None:
        raise InputError(
            "--beam: expected it alone, or --candidates and --temperature, got both; leave one out"
        )
    return WritingConfig(beam=beam)
