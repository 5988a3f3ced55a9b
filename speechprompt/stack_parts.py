"""The models of a stack, loaded from its folder as the entries of stack.json say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from speechprompt.lm import lm_class
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.rounded import rounded
from units.encoders.logmel import LogMelEncoder
from units.errors import InputError
from units.types import Encoder, UnitSpec


class StackError(InputError):
    """A stack that cannot be found, or a folder whose `stack.json` or parts are not what a stack needs."""


def load_lm(
    part: Mapping[str, Any], folder: Path, spec: UnitSpec, device: str, precision: str = "float32"
) -> Any:
    """A frozen language model of the family that its entry names, in evaluation mode.

    part: the entry. folder: of the stack. precision: "bf16" rounds its matrices. Raises StackError where its vocabulary
    has another number of units; InputError for a folder that is no such model, or a family that cannot be rounded.
    """
    where = part.get("source") or folder / part["folder"]
    more = {"n_units": spec.n_units} if part["family"] == "causal_hf" else {}
    lm = lm_class(part["family"]).load(where, device=device, **more)
    if lm.vocab.n_units != spec.n_units:
        raise StackError(
            f"{where}: expected an LM of {spec.n_units} units, as the codebook has, got {lm.vocab.n_units}; use the LM "
            "trained on this codebook's units"
        )
    lm.freeze()
    if precision == "float32":
        return lm
    if not isinstance(lm, GSLM):
        raise InputError(
            f"precision: expected float32 for a model of family {part['family']}, got {precision}; leave it out"
        )
    return rounded(lm)


def load_encoder(
    entry: Mapping[str, Any], folder: Path, spec: UnitSpec, device: str, precision: str
) -> Encoder:
    """The encoder of an entry; arguments as of `load_lm`.

    precision: "bf16" is heeded by the HuBERT family alone. Raises InputError for a folder that is no such encoder.
    """
    if entry["family"] == "logmel":
        return LogMelEncoder(**entry.get("settings", {}))
    own = entry.get("folder")
    source = folder / own if own is not None else entry["source"]
    layer = entry.get("layer", spec.layer)
    if entry["family"] == "cpc":
        from units.encoders.cpc import CPCEncoder

        return CPCEncoder(source, layer, name=spec.encoder, device=device, **entry.get("settings", {}))
    # transformers takes seconds to import, and not all need it
    from units.encoders.hubert import HubertEncoder

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return HubertEncoder(source, layer, device=device, name=spec.encoder, dtype=dtype)
