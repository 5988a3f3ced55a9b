"""What a prompted encoder-decoder writes: greedy, sampled or by beam search, in batches of about equal length.

Shapes: B rows, N lines of the decoder still running, C choices (the units, then the end).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from speechprompt.batch import bucket
from speechprompt.beam import BeamConfig, beam_search
from speechprompt.decode import SamplingConfig, choose, penalised
from speechprompt.seq2seq.prompted import PromptedMBart
from speechprompt.seq2seq.rows import decoder_start
from units.errors import InputError


@dataclass(frozen=True)
class WritingConfig:
    """How units are chosen, and when a row that does not end is ended.

    Attributes:
        beam: hypotheses kept for each row; 1 chooses by `sampling`.
        sampling: greedy by default; its max_units, min_units and allow_end do not matter.
        length_factor, length_extra: most units of a row: so many for each source token, and so many more.
        length_penalty: of the beam's scores.
        candidates: rows drawn by `sampling` for each source, of which inpainting takes the median.
    Raises: InputError for values outside their range.
    """

    beam: int = 1
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(greedy=True))
    length_factor: float = 1.2
    length_extra: int = 20
    length_penalty: float = 1.0
    candidates: int = 1

    def __post_init__(self) -> None:
        if self.beam < 1 or self.length_factor <= 0 or self.length_extra < 0:
            raise InputError(
                f"writing: expected beam of at least 1, length_factor above 0, length_extra of at least 0, got {self}"
            )
        if self.candidates < 1 or (self.candidates > 1 and self.sampling.greedy):
            raise InputError(
                f"writing: expected several candidates to be sampled, got {self.candidates} and greedy choice; give a "
                "temperature"
            )
        if self.beam > 1 and not self.sampling.greedy:
            raise InputError("writing: expected a beam or sampling, got both; leave one out")


@torch.no_grad()
def write_units(
    prompted: PromptedMBart,
    sources: Sequence[np.ndarray],
    config: WritingConfig,
    *,
    begun: Sequence[np.ndarray] | None = None,
    most: Sequence[int] | None = None,
    batch_tokens: int = 16384,
) -> list[np.ndarray]:
    """Write what each source row asks for, `config.candidates` times each.

    Args:
        prompted: its mode is restored.
        sources: token ids (S,) int64, see `rows.source_row`.
        config: how to choose.
        begun: units (n,) int64 that each row begins with, None for nothing.
        most: units of each row at which it is cut off, those it begins with included; None for the config's limits.
        batch_tokens: most source tokens read at once, padding counted, for each hypothesis or draw.
    Returns: unit numbers of each row, in order, those it began with included; all draws of a row one after the other.
    Raises: InputError for a row longer than the model reads.
    """
    vocab, given = prompted.lm.vocab, begun or [np.empty(0, dtype=np.int64)] * len(sources)
    forced = [vocab.encode(units) for units in given]
    room = prompted.max_target - 3
    limits = np.array(
        [min(room, math.ceil(config.length_factor * len(s)) + config.length_extra) for s in sources]
    )
    if most is not None:
        limits = np.minimum(limits, most)
    long = next((i for i, ids in enumerate(forced) if len(ids) > room), None)
    if long is not None:
        raise InputError(
            f"row {long}: expected to begin with at most {room} units, got {len(forced[long])}; use less audio"
        )
    limits = np.maximum(limits, [len(ids) for ids in forced])
    lengths = np.array([len(source) for source in sources], dtype=np.int64)
    # Rows step together from the shortest beginning on, so rows of about equal beginnings go together.
    order = np.lexsort((lengths, np.array([len(ids) for ids in forced])))
    n = config.candidates
    written: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * (n * len(sources))
    training = prompted.training
    prompted.eval()
    for run in bucket(lengths[order], max(1, batch_tokens // max(n, config.beam))):
        index = order[run]
        rows = [torch.from_numpy(sources[i]) for i in index]
        source_BS = pad_sequence(rows, True, vocab.pad).to(prompted.lm.device)
        write = _sampled if config.beam == 1 else _searched
        ids = write(prompted, source_BS, [forced[i] for i in index], limits[index], index, config)
        for place, row in zip((n * index[:, None] + np.arange(n)).flat, ids, strict=True):
            written[place] = vocab.decode(row)
    prompted.train(training)
    return written


def _searched(
    prompted: PromptedMBart,
    source_BS: torch.Tensor,
    forced: Sequence[np.ndarray],
    limits: np.ndarray,
    index: np.ndarray,
    config: WritingConfig,
) -> list[np.ndarray]:
    start, bos = decoder_start(prompted.lm.vocab, prompted.language)
    longest = int(limits.max()) + 1
    search = BeamConfig(config.beam, longest, length_penalty=config.length_penalty, stop="best")
    found = beam_search(
        prompted.decoder(source_BS, longest),
        [np.concatenate([[bos], ids]).astype(np.int64) for ids in forced],
        start=start,
        end=prompted.lm.vocab.eos,
        config=search,
        limits=(limits + 1).tolist(),
    )
    return [row[0].ids[1:-1] for row in found]


def _sampled(
    prompted: PromptedMBart,
    source_BS: torch.Tensor,
    forced: Sequence[np.ndarray],
    limits: np.ndarray,
    index: np.ndarray,
    config: WritingConfig,
) -> list[np.ndarray]:
    """All draws of each row, which share what is read and begun; they step together until the last of them ends.

    Draw k of row i has its own stream, so that its result does not depend on the others.
    """
    vocab, device, n = prompted.lm.vocab, prompted.lm.device, config.candidates
    sampling = replace(config.sampling, allow_end=True)
    choice_C = torch.from_numpy(np.append(vocab.unit_ids, vocab.eos)).to(device)
    streams = [np.random.default_rng((sampling.seed, n * int(i) + k)) for i in index for k in range(n)]
    longest, n_common = int(limits.max()), min(len(ids) for ids in forced)
    decoder = prompted.decoder(source_BS, longest + 2)
    start = decoder_start(vocab, prompted.language)
    first_BT = torch.tensor([[*start, *ids[:n_common].tolist()] for ids in forced], device=device)
    written = [ids[:n_common].tolist() for ids in forced for _ in range(n)]
    ends: list[int | None] = [None] * len(written)
    parent_N = torch.arange(len(forced)).repeat_interleave(n)  # each draw's line in the decoder
    logits_NV = decoder.start(first_BT)[:, -1][parent_N.to(device)]
    line_N = list(range(len(written)))  # draws that step on, all of a row or none
    for step in range(n_common, longest + 1):
        heard_NT = torch.tensor([written[draw] for draw in line_N], dtype=torch.int64, device=device)
        log_probability_NC = penalised(logits_NV[:, choice_C].float(), choice_C, heard_NT, sampling)
        uniform_N = torch.tensor(
            [streams[draw].random() for draw in line_N], dtype=torch.float64, device=device
        )
        chosen_N = choice_C[choose(log_probability_NC, uniform_N, sampling)].tolist()
        for draw, chosen in zip(line_N, chosen_N, strict=True):
            ids = forced[draw // n]
            token = int(ids[step]) if step < len(ids) else chosen
            if ends[draw] is None and (token == vocab.eos or step >= limits[draw // n]):
                ends[draw] = step
            written[draw].append(token)
        running = {draw // n for draw in line_N if ends[draw] is None}
        if not running:
            break
        kept = [line for line, draw in enumerate(line_N) if draw // n in running]
        line_N = [line_N[k] for k in kept]
        ids_N = torch.tensor([written[draw][-1] for draw in line_N], device=device)
        logits_NV = decoder.step(ids_N, parent_N[kept].to(device))
        parent_N = torch.arange(len(kept))
    return [np.asarray(row[:end], dtype=np.int64) for row, end in zip(written, ends, strict=True)]
