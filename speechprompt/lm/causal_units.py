"""Which tokens of a causal language model are speech units: read from its tokenizer or its configuration.

Conventions known, in the order they are tried:
- a tokenizer whose tokens carry the unit number: `<Un12>` (Slam), `<12>`, `<unit_12>`, `[Hu12]`;
- Slam's `tokeniser_config.json` or configuration: units follow the special tokens in order;
- TWIST's `offset` in config.json: a unit's token is its number plus the offset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from speechprompt.vocab import UnitVocab
from units.errors import InputError

SLAM = "speech_language_model"
_UNIT_TOKEN = re.compile(r"[<\[]\|?(?:un|hu|unit|units|hubert|speech|u)?[-_]?(\d+)\|?[>\]]", re.IGNORECASE)


class CausalVocab(UnitVocab):
    """The token inventory of a causal language model, some of whose tokens are units.

    Ids are the model's own. `<s>`, padding and `<unk>` have ids behind the model's last: the separator is trained, not
    looked up, and padding is masked, so that no token of the model has to stand in for them and logits are the model's.

    Args:
        unit_ids: token id of unit 0, 1, ..., int64 (n_units,), all different.
        n_tokens: tokens of the model, each with a logit.
        start: id that begins a row.
        end: id that ends a row; `eos` in this vocabulary, and looked up as `start` where it begins a row.
    Raises: InputError for ids outside the model's, or shared ones.
    """

    def __init__(self, unit_ids: np.ndarray, n_tokens: int, start: int, end: int) -> None:
        ids = np.asarray(unit_ids, dtype=np.int64)
        outside = [int(i) for i in [*ids, start, end] if not 0 <= i < n_tokens]
        if not len(ids) or outside or len(np.unique(ids)) != len(ids):
            raise InputError(
                f"units: expected different token ids in 0 to {n_tokens - 1} for every unit, got "
                f"{outside[0] if outside else 'shared ones or none'}; correct the number of units"
            )
        self.start, self.eos = start, end
        self.bos, self.pad, self.unk = n_tokens, n_tokens + 1, n_tokens + 2
        self.n_units, self._n_tokens = len(ids), n_tokens
        self._id_of_unit = ids
        self._unit_of_id = np.full(n_tokens, -1, dtype=np.int64)
        self._unit_of_id[ids] = np.arange(len(ids))
        self.symbols = tuple(str(unit) if unit >= 0 else f"<{i}>" for i, unit in enumerate(self._unit_of_id))

    def __len__(self) -> int:
        return self._n_tokens


def find_units(
    config: Mapping[str, Any], read_json: Callable[[str], Any], n_units: int | None = None
) -> tuple[np.ndarray, int, int]:
    """Find unit token ids, and the ids that begin and end a row.

    Args:
        config: the parsed config.json; for Slam the outer one.
        read_json: gives a parsed file of the model's folder by name, None where it has none.
        n_units: how many, where the files do not say it or the vocabulary was padded.
    Returns: ids (n_units,) int64, start id, end id.
    Raises: InputError: no convention fits, or fewer units than asked for.
    """
    inner = config.get("base_config") if config.get("model_type") == SLAM else config
    inner = inner if isinstance(inner, Mapping) else {}
    n_tokens = int(config.get("vocab_size") or inner.get("vocab_size") or 0)
    slam = read_json("tokeniser_config.json") or {}
    specials = [slam.get("bos_eos_token_id", inner.get("bos_token_id")), slam.get("pad_token_id", 0)]
    found = _from_tokenizer(read_json)
    if found is None and (slam or config.get("model_type") == SLAM):
        offset = 1 + max(int(i) for i in [*specials, inner.get("eos_token_id")] if i is not None)
        found = np.arange(offset, offset + int(slam.get("num_units", n_tokens - offset)), dtype=np.int64)
    if found is None and config.get("offset") is not None:
        found = np.arange(int(config["offset"]), n_tokens, dtype=np.int64)
    if found is None:
        raise InputError(
            "language model: expected a tokenizer with unit tokens such as <Un0>, tokeniser_config.json, or an offset "
            "in config.json, got none of them; it is no unit language model, or of a convention that is not known"
        )
    if n_units is not None:
        if n_units > len(found):
            raise InputError(
                f"language model: expected {n_units} units, got tokens for {len(found)}; use another"
            )
        found = found[:n_units]
    named = [specials[0], inner.get("bos_token_id"), inner.get("eos_token_id"), inner.get("pad_token_id")]
    start = next((int(i) for i in named if isinstance(i, int)), None)
    end = next((int(i) for i in [specials[0], *named[2:], start] if isinstance(i, int)), None)
    if start is None or end is None:
        raise InputError(
            "language model: expected bos_token_id or eos_token_id in config.json, got neither; add one"
        )
    return found, start, end


def _from_tokenizer(read_json: Callable[[str], Any]) -> np.ndarray | None:
    """Ids of tokens that carry unit numbers 0, 1, ... without a gap, or None where there are none."""
    tokenizer = read_json("tokenizer.json") or {}
    vocab = tokenizer.get("model", {}).get("vocab") or read_json("vocab.json") or {}
    pairs = list(vocab.items()) if isinstance(vocab, dict) else [(row[0], i) for i, row in enumerate(vocab)]
    pairs += [(row["content"], row["id"]) for row in tokenizer.get("added_tokens", [])]
    id_of: dict[int, int] = {}
    for token, token_id in pairs:
        match = _UNIT_TOKEN.fullmatch(token)
        if match is not None:
            id_of[int(match.group(1))] = int(token_id)
    if len(id_of) < 2 or set(id_of) != set(range(len(id_of))):
        return None
    return np.array([id_of[unit] for unit in range(len(id_of))], dtype=np.int64)


def parse_json(text: str, what: str) -> dict[str, Any]:
    """Parse a JSON object. Raises: InputError naming `what`."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{what}: expected JSON, got {error}; restore the model's folder") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{what}: expected a JSON object, got {type(content).__name__}; restore the model's folder"
        )
    return content
