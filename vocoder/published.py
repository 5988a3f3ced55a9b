"""Published generators: a config.json and a state dict to a generator, every tensor used or named as left out.

Source: the files of fairseq's CodeHiFiGANVocoder, of textless-lib and of speech-resynthesis: `{"generator": state}`
with weight norm in torch's old or new names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from units.errors import InputError
from vocoder.config import HiFiGANConfig
from vocoder.hifigan import UnitHiFiGAN, folded_state_dict

_LEFT_OUT = {
    "quantizer.decoder.": "turns F0 codes back into F0, which only the quantizer's own training needs",
    "quantizer.vq.level_blocks.0.k_": "running statistics of the codebook, which only its training needs",
}


def read_generator(
    config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[UnitHiFiGAN, dict[str, str]]:
    """Build the generator that a published config.json describes and fill it with a published state dict.

    Args:
        config: the parsed config.json.
        state: the value under `generator`; float16 or float32.

    Returns: the generator with plain float32 weights, in evaluation mode, and tensor name -> why it was left out.

    Raises: InputError for a tensor that is missing, of another shape, or not known, and for a config that describes no
    generator.
    """
    reason_of = {
        name: reason for name in state for start, reason in _LEFT_OUT.items() if name.startswith(start)
    }
    folded = folded_state_dict(
        {name: tensor.float() for name, tensor in state.items() if name not in reason_of}
    )
    sizes = HiFiGANConfig.from_dict(_with_table_sizes(config, folded))
    with torch.device("meta"):
        generator = UnitHiFiGAN(sizes)
    expected = {name: tuple(tensor.shape) for name, tensor in generator.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in folded.items()}
    for name in sorted(expected.keys() | got.keys()):
        if expected.get(name) != got.get(name):
            raise InputError(
                f"vocoder: expected {name} of shape {expected.get(name, 'none at all')}, as config.json says, "
                f"got {got.get(name, 'none')}; use the config.json that belongs to the checkpoint"
            )
    generator.load_state_dict(folded, assign=True)
    return generator.eval().requires_grad_(False), reason_of


def _with_table_sizes(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Take the speaker table's rows from the table itself where config.json does not say them."""
    described = dict(config)
    if described.get("multispkr") and described.get("num_speakers") is None and "spkr.weight" in state:
        described["num_speakers"] = len(state["spkr.weight"])
    return described
