"""Published generators: a config.json and a state dict to a generator, every tensor used or named as left out.

Source: the files of fairseq's CodeHiFiGANVocoder, of textless-lib and of speech-resynthesis: `{"generator": state}`
with weight norm in torch's old or new names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from units.errors import InputError
from units.weightless import weightless
from vocoder.config import HiFiGANConfig
from vocoder.hifigan import UnitHiFiGAN
from vocoder.weights import folded_state_dict

# What the tensors' shapes do not tell, or not alone: no default would do.
_STRUCTURE = (
    "num_embeddings",
    "embedding_dim",
    "upsample_rates",
    "upsample_kernel_sizes",
    "upsample_initial_channel",
    "resblock_kernel_sizes",
    "resblock_dilation_sizes",
)
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
    missing = [name for name in _STRUCTURE if config.get(name) is None]
    if missing:
        raise InputError(
            f"vocoder config: expected {', '.join(_STRUCTURE)}, got none of {', '.join(missing)}; use the config.json "
            "that belongs to the checkpoint"
        )
    try:
        sizes = HiFiGANConfig.from_dict(_as_the_tensors_say(config, folded))
    except (TypeError, AttributeError) as error:
        raise InputError(
            f"vocoder config: expected sizes as numbers and lists of them, got trouble: {error}; use the config.json "
            "that belongs to the checkpoint"
        ) from error
    with weightless():
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


def _as_the_tensors_say(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Take from the tensors what config.json may lack or misname: the speaker table's rows, the kind of residual block.

    speech-resynthesis heeds `resblock`; fairseq builds the first kind whatever it says.
    """
    described = dict(config)
    if described.get("multispkr") and described.get("num_speakers") is None and "spkr.weight" in state:
        described["num_speakers"] = len(state["spkr.weight"])
    described["resblock"] = "2" if "resblocks.0.convs.0.weight" in state else "1"
    return described
