"""Conversions of pGSLM, unit mBART and CPC use every tensor, or name it, or refuse the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from speechprompt.convert import cpc, pgslm, unit_mbart
from speechprompt.fairseq import FairseqCheckpoint
from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.unit_mbart import UnitMBart
from units.encoders.cpc import CPCEncoder
from units.encoders.cpc_network import CPCConfig, CPCNetwork
from units.errors import InputError

D, FFN, N_UNITS = 8, 12, 6
SIZES = {"embed_dim": D, "ffn_embed_dim": FFN, "attention_heads": 2}


def layer(name: str, *, cross: bool = False) -> dict[str, Tensor]:
    shapes = {"self_attn_layer_norm": (D,), "final_layer_norm": (D,), "fc1": (FFN, D), "fc2": (D, FFN)}
    shapes |= {f"self_attn.{side}_proj": (D, D) for side in ("q", "k", "v", "out")}
    if cross:
        shapes |= {f"encoder_attn.{side}_proj": (D, D) for side in ("q", "k", "v", "out")}
        shapes |= {"encoder_attn_layer_norm": (D,)}
    weights = {f"{name}.{part}.weight": torch.randn(shape) for part, shape in shapes.items()}
    return weights | {f"{name}.{part}.bias": torch.randn(shape[0]) for part, shape in shapes.items()}


def norm(name: str) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.randn(D), f"{name}.bias": torch.randn(D)}


def pgslm_checkpoint(path: Path, **options: Any) -> FairseqCheckpoint:
    torch.manual_seed(0)
    model = {
        "decoder.version": torch.tensor([3.0]),
        "decoder.embed_tokens.weight": torch.randn(N_UNITS + 4, D),
        "decoder.output_projection.weight": torch.randn(N_UNITS + 4, D),
        "decoder.embed_other_list.0.weight": torch.randn(4 + 5, D),
        "decoder.proj_other_list.1.weight": torch.randn(D, 1),
        "decoder.proj_other_list.1.bias": torch.randn(D),
        "decoder.project_out_dim.weight": torch.randn(N_UNITS + 4 + 9 + 1, D),
        **layer("decoder.layers.0"),
        **norm("decoder.layer_norm"),
    }
    task = {"discrete_duration": True, "max_token_duration": 4, "stream_shifts": "2,1", "log_f0": True}
    sizes = {"decoder_layers": 1, **{f"decoder_{name}": size for name, size in SIZES.items()}}
    return FairseqCheckpoint(
        path, model, {"model": {**sizes, "tokens_per_sample": 40, **options}, "task": task}
    )


def mbart_checkpoint(path: Path, **options: Any) -> tuple[FairseqCheckpoint, Path]:
    torch.manual_seed(0)
    table = torch.randn(4 + N_UNITS + 2 + 1, D)
    model: dict[str, Tensor] = {"decoder.output_projection.weight": table}
    for side in ("encoder", "decoder"):
        model |= {f"{side}.embed_tokens.weight": table, f"{side}.version": torch.tensor([3.0])}
        model |= {f"{side}.embed_positions.weight": torch.randn(22, D)}
        model |= norm(f"{side}.layernorm_embedding") | norm(f"{side}.layer_norm")
        model |= layer(f"{side}.layers.0", cross=side == "decoder")
    sizes = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in SIZES.items()}
    config = {
        **sizes,
        **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
        **{f"{side}_learned_pos": True for side in ("encoder", "decoder")},
        "layernorm_embedding": True,
        "share_all_embeddings": True,
        "activation_fn": "gelu",
        **options,
    }
    dictionary = path.parent / "dict.txt"
    dictionary.write_text("".join(f"{unit} 1\n" for unit in range(N_UNITS)))
    task = {"langs": "en_XX,es_XX", "add_lang_token": True}
    return FairseqCheckpoint(path, model, {"model": config, "task": task}), dictionary


def test_pgslm_takes_sizes_from_the_weights_and_options_from_the_task(tmp_path: Path) -> None:
    checkpoint = pgslm_checkpoint(tmp_path / "c.pt")
    converted = pgslm.convert(checkpoint, tmp_path / "lm")
    assert set(converted.ignored) == {"decoder.version", "decoder.output_projection.weight"}
    assert all(converted.ignored.values())
    lm = PGSLM.load(tmp_path / "lm")
    assert lm.channels == (10, 9, 1)
    assert (lm.prosody.duration_delay, lm.prosody.f0_delay, lm.max_positions) == (2, 1, 40)
    assert (lm.prosody.log_f0, lm.prosody.normalize_f0_mean, lm.prosody.discrete_f0) == (True, False, False)
    assert torch.equal(lm.embed_f0.get_parameter("bias"), checkpoint.model["decoder.proj_other_list.1.bias"])


def test_pgslm_takes_learned_positions_and_unscaled_embeddings(tmp_path: Path) -> None:
    checkpoint = pgslm_checkpoint(tmp_path / "c.pt", decoder_learned_pos=True, no_scale_embedding=True)
    checkpoint.model["decoder.embed_positions.weight"] = torch.randn(30 + N_UNITS + 2, D)
    pgslm.convert(checkpoint, tmp_path / "lm")
    lm = PGSLM.load(tmp_path / "lm")
    assert (lm.config.positions, lm.max_positions, lm.embed_scale) == ("learned", 30, 1.0)


def test_pgslm_refuses_another_model_s_data_config(tmp_path: Path) -> None:
    file = tmp_path / "data_config.json"
    file.write_text(json.dumps({"n_units": N_UNITS + 1}))
    with pytest.raises(InputError, match="n_units 6"):
        pgslm.convert(pgslm_checkpoint(tmp_path / "c.pt"), tmp_path / "lm", data_config=file)
    assert not (tmp_path / "lm").exists()


def test_unit_mbart_needs_one_tensor_of_those_that_are_shared(tmp_path: Path) -> None:
    checkpoint, dictionary = mbart_checkpoint(tmp_path / "c.pt")
    converted = unit_mbart.convert(checkpoint, tmp_path / "lm", dictionary=dictionary)
    assert converted.dictionary_size == 13
    assert len(converted.ignored) == 4  # two versions, two copies
    for name in ("decoder.embed_tokens.weight", "decoder.output_projection.weight"):
        del checkpoint.model[name]
    again = unit_mbart.convert(checkpoint, tmp_path / "again", dictionary=dictionary)
    assert again.n_parameters == converted.n_parameters
    ids = torch.tensor([[0, 5, 2]])
    assert torch.equal(*(UnitMBart.load(tmp_path / name)(ids, ids) for name in ("lm", "again")))


def test_unit_mbart_refuses_copies_that_differ_and_dictionaries_of_others(tmp_path: Path) -> None:
    checkpoint, dictionary = mbart_checkpoint(tmp_path / "c.pt")
    with pytest.raises(InputError, match="expected a dictionary that makes 13 symbols"):
        unit_mbart.convert(checkpoint, tmp_path / "lm", dictionary=dictionary, languages=("en_XX",))
    checkpoint.config["task"]["langs"] = None
    with pytest.raises(InputError, match="name them"):
        unit_mbart.convert(checkpoint, tmp_path / "lm", dictionary=dictionary)
    checkpoint.model["decoder.output_projection.weight"] = torch.randn(13, D)
    with pytest.raises(InputError, match="same values"):
        unit_mbart.convert(checkpoint, tmp_path / "lm", dictionary=dictionary, languages=("en_XX", "es_XX"))
    assert not (tmp_path / "lm").exists()


@pytest.mark.parametrize("family", ["pgslm", "unit_mbart"])
@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"adaptive_softmax_cutoff": "5"}, None, "adaptive_softmax_cutoff None"),
        ({"adaptive_input": True}, None, "adaptive_input False"),
        ({"decoder_attention_heads": 3}, None, "n_heads to divide"),
        ({}, ("decoder.something.weight", (2,)), "decoder.something.weight"),
        ({}, ("decoder.layers.0.fc1.weight", None), "decoder.layers.0.fc1.weight"),
        ({}, ("decoder.layers.0.fc1.weight", (FFN, D + 1)), r"shape \(12, 8\), got \(12, 9\)"),
        ({}, ("decoder.layers.1.fc1.weight", (FFN, D)), "decoder.layers.1.fc1.weight"),
    ],
)
def test_options_and_tensors_without_a_place_are_refused(
    tmp_path: Path,
    family: str,
    options: dict[str, Any],
    change: tuple[str, tuple[int, ...] | None] | None,
    message: str,
) -> None:
    dictionary = None
    if family == "pgslm":
        checkpoint = pgslm_checkpoint(tmp_path / "c.pt", **options)
    else:
        checkpoint, dictionary = mbart_checkpoint(tmp_path / "c.pt", **options)
    if change is not None:
        name, shape = change
        checkpoint.model.pop(name, None)
        if shape is not None:
            checkpoint.model[name] = torch.randn(shape)
    with pytest.raises(InputError, match=message):
        if dictionary is None:
            pgslm.convert(checkpoint, tmp_path / "lm")
        else:
            unit_mbart.convert(checkpoint, tmp_path / "lm", dictionary=dictionary)
    assert not (tmp_path / "lm").exists()


def cpc_file(path: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    config = {"hiddenEncoder": 8, "hiddenGar": 6, "nLevelsGRU": 2, "arMode": "GRU", "normMode": "batchNorm"}
    weights = CPCNetwork(CPCConfig(8, 6, 2, "GRU", "batchNorm")).state_dict()
    torch.save({"config": {**config, **changes}, "weights": weights}, path)
    return path


def test_cpc_keeps_every_level_and_gives_the_same_network(tmp_path: Path) -> None:
    file = cpc_file(tmp_path / "c.pt")
    converted = cpc.convert(file, tmp_path / "encoder")
    assert (converted.kind, converted.ignored, converted.dictionary_size) == ("cpc", {}, None)
    weights = torch.load(file, weights_only=True)["weights"]
    encoder = CPCEncoder(tmp_path / "encoder")
    assert encoder.layer == 2
    for name, tensor in encoder._network.state_dict().items():
        assert torch.equal(tensor, weights[name].float() if tensor.is_floating_point() else weights[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nLevelsGRU": 1}, "baseNet.weight_ih_l1"),
        ({"nLevelsGRU": 3}, "l2"),
        ({"hiddenGar": 7}, "shape"),
        ({"arMode": "transformer"}, "LSTM, GRU, RNN"),
        ({"encoder_type": "mfcc"}, "encoder_type 'cpc'"),
        ({"hiddenGar": None}, "CPC configuration"),
    ],
)
def test_cpc_refuses_what_it_does_not_know(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cpc.convert(cpc_file(tmp_path / "c.pt", **changes), tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()
