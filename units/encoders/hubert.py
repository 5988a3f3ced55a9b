"""HuBERT and its relatives (wav2vec 2.0, WavLM, UniSpeech) of transformers, exact under batching.

A padded batch changes what these models give: the first convolution of the "group" kind is normalised over
all frames, padding included, and the positional convolution reads beyond a row's end. Here the convolutions
see each wave alone (which is also faster on a CPU: nothing is spent on padding and the working set is small),
only the transformer runs on the padded batch, with its padding zeroed and masked. What is left is float
rounding, below 1e-5.

Shapes: B waves, F frames, D model width, C convolution channels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.utils import cached_file

from units.encoders.frame_counts import frame_counts
from units.errors import InputError
from units.hf_loading import loading
from units.rounded_linear import RoundedLinear

_FAMILY = ("hubert", "wav2vec2", "wavlm", "unispeech", "unispeech-sat")


class HubertEncoder:
    """Hidden states of one transformer layer; an `units.types.Encoder`.

    Only the first `layer` layers are loaded and run. The features equal `hidden_states[layer]` of the
    transformers model on the wave alone; for "stable layer norm" models that is before the final norm, as in
    the published k-means recipes.
    """

    def __init__(
        self,
        source: str | Path,
        layer: int | None = None,
        *,
        name: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Load an encoder.

        source: folder with config.json and weights, or a hub name ("facebook/hubert-base-ls960"). Waves are
        brought
            to zero mean and unit variance if and only if its preprocessor_config.json says `do_normalize`.
        layer: 1-based; None for the last.
        name: identity in the UnitSpec; None for the last part of `source`.
        dtype: float32, or bfloat16/float16 to compute under autocast; weights are float32 however they are
            stored, but for matrices of bfloat16 products, which are rounded once.

        Raises InputError: nothing loadable at `source`, a model of another family, missing weights, no such
        layer.
        """
        config = _load_config(source)
        self.layer = config.num_hidden_layers if layer is None else layer
        if not 1 <= self.layer <= config.num_hidden_layers:
            raise InputError(
                f"{source}: expected a layer in 1 to {config.num_hidden_layers}, got {layer}; choose one"
            )
        self.name = name or Path(source).name
        self.hop_length = int(np.prod(config.conv_stride))
        self.n_features = int(config.hidden_size)
        self.device = torch.device(device)
        self.dtype = dtype
        preprocessing = _read_preprocessing(source)
        self.sample_rate = int(preprocessing.get("sampling_rate", 16_000))
        self.normalize = bool(preprocessing.get("do_normalize", False))
        # fairseq adds more to the variance than transformers does; converted checkpoints say so.
        self._normalize_epsilon = float(preprocessing.get("normalize_epsilon", 1e-7))
        self._convolutions = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        # With batch norm in front of the positional convolution, zeroed padding would not stay zero.
        self._one_by_one = bool(getattr(config, "conv_pos_batch_norm", False))
        self._model = _load_model(source, config, self.layer).to(self.device)
        if dtype == torch.bfloat16:
            _round_matrices(self._model)

    def n_frames(self, n_samples: int) -> int:
        """Frames given for a wave of `n_samples` samples; 0 where it is shorter than the receptive field."""
        for kernel, stride in self._convolutions:
            n_samples = (n_samples - kernel) // stride + 1
        return max(n_samples, 0)

    @torch.inference_mode()
    def encode(self, waves: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Encode B waves, each (n_samples,) float32 at `sample_rate` Hz.

        Returns features (B, F, D) float32 on `device`, zero beyond each row's frames, and frame counts (B,)
        int64 on the CPU. Raises AudioError where a wave gives not a single frame.
        """
        counts_B = frame_counts(self, waves)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            waves_N = (torch.as_tensor(wave, dtype=torch.float32, device=self.device) for wave in waves)
            x_BFD = pad_sequence([self._convolve(wave_N[None])[0] for wave_N in waves_N], batch_first=True)
            if self._one_by_one:
                rows = zip(x_BFD, counts_B.tolist(), strict=True)
                h_BFD = pad_sequence(
                    [self._transform(x_FD[None, :n])[0] for x_FD, n in rows], batch_first=True
                )
            else:
                h_BFD = self._transform(x_BFD, counts_B)
        return h_BFD.float(), counts_B

    @torch.inference_mode()
    def encode_layers(self, waves: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Encode as `encode` does, all layers: (B, layer + 1, F, D), the first one being what enters the first layer.

        Returns them and frame counts (B,) as `encode`; equal to the transformers model's `hidden_states[: layer + 1]`.
        Raises as `encode`.
        """
        if self._one_by_one and len(waves) > 1:
            rows = [self.encode_layers([wave])[0][0].transpose(0, 1) for wave in waves]
            return pad_sequence(rows, batch_first=True).transpose(1, 2), frame_counts(self, waves)
        seen: list[Tensor] = []
        layers = self._model.encoder.layers
        hooks = [layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))]
        for layer in layers:
            hooks.append(
                layer.register_forward_hook(
                    lambda module, inputs, output: seen.append(
                        output[0] if isinstance(output, tuple) else output
                    )
                )
            )
        try:
            _, counts_B = self.encode(waves)
        finally:
            for hook in hooks:
                hook.remove()
        h_BLFD = torch.stack(seen, dim=1).float()
        padding_BF = torch.arange(h_BLFD.shape[2]) >= counts_B[:, None]
        return h_BLFD.masked_fill(padding_BF[:, None, :, None].to(self.device), 0.0), counts_B

    def features(self, wave_BN: Tensor) -> Tensor:
        """Features (B, F, D) of waves of one length, (B, N) float32 on `device`; gradients flow back to the waves.

        For losses on generated audio; without them `encode` is the cheaper way, and takes unequal lengths.
        """
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._transform(self._convolve(wave_BN)).float()

    def _convolve(self, wave_BN: Tensor) -> Tensor:
        """Waves of one length through convolutions and projection: (B, F, D)."""
        if self.normalize:
            variance_B1 = wave_BN.var(dim=1, correction=0, keepdim=True)
            wave_BN = (wave_BN - wave_BN.mean(dim=1, keepdim=True)) / torch.sqrt(
                variance_B1 + self._normalize_epsilon
            )
        x_BCF = self._model.feature_extractor(wave_BN)
        projected = self._model.feature_projection(x_BCF.transpose(1, 2))
        # wav2vec 2.0 and WavLM also return the unprojected features
        x_BFD = projected[0] if isinstance(projected, tuple) else projected
        return x_BFD.float()

    def _transform(self, x_BFD: Tensor, counts_B: Tensor | None = None) -> Tensor:
        """Run the padded batch through the layers; padding is zero before and after. No counts: nothing is padding."""
        if counts_B is None or int(counts_B.min()) == x_BFD.shape[1]:
            return self._model.encoder(x_BFD).last_hidden_state
        valid_BF = torch.arange(x_BFD.shape[1])[None, :] < counts_B[:, None]
        valid_BF = valid_BF.to(self.device)
        h_BFD = self._model.encoder(x_BFD, attention_mask=valid_BF).last_hidden_state
        return h_BFD.masked_fill(~valid_BF[:, :, None], 0.0)


def _load_config(source: str | Path) -> PreTrainedConfig:
    with loading(source, "HuBERT-family"):
        config = AutoConfig.from_pretrained(str(source))
    if config.model_type not in _FAMILY:
        raise InputError(
            f"{source}: expected a model of type {', '.join(_FAMILY)}, got {config.model_type!r}; choose another"
        )
    return config


def _load_model(source: str | Path, config: PreTrainedConfig, n_layers: int) -> Any:
    """Load the first `n_layers` layers in float32 for inference, without what inference need not do."""
    config.num_hidden_layers = n_layers
    config.mask_time_prob = config.mask_feature_prob = (
        0.0  # else a mask embedding is expected, which not all have
    )
    config.add_adapter = False
    with loading(source, "HuBERT-family"):
        model, info = AutoModel.from_pretrained(
            str(source), config=config, dtype=torch.float32, output_loading_info=True
        )
    if info["missing_keys"] or info["mismatched_keys"]:
        lacking = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        raise InputError(
            f"{source}: expected all weights of config.json, got {len(lacking)} missing or misshapen "
            f"({', '.join(lacking[:3])}); fetch or save the folder again"
        )
    positional = getattr(model.encoder.pos_conv_embed, "conv", None)
    if positional is not None and parametrize.is_parametrized(positional, "weight"):
        parametrize.remove_parametrizations(
            positional, "weight"
        )  # else the weight norm is computed in every call
    if getattr(config, "do_stable_layer_norm", False):
        model.encoder.layer_norm = nn.Identity()  # hidden_states[layer] is taken before the final norm
    return model.eval().requires_grad_(False)


def _round_matrices(model: nn.Module) -> None:
    """Put rounded layers in the place of linear ones, but where WavLM's attention reads the matrices itself."""
    for parent in list(model.modules()):
        if type(parent).__name__.startswith("WavLMAttention"):
            continue
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, RoundedLinear([child]))


def _read_preprocessing(source: str | Path) -> dict[str, Any]:
    """Read preprocessor_config.json; a source without one asks for no normalisation."""
    file = cached_file(str(source), "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(file).read_text(encoding="utf-8")) if file is not None else {}
