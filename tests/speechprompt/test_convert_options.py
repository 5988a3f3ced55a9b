"""Options of fairseq's transformers that no golden file has: converted models against a plain recomputation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from speechprompt.convert import gslm, pgslm, unit_mbart
from speechprompt.convert.prompts import INFIX, LINEAR, PREFIX, SEPARATOR, read_prompt
from speechprompt.fairseq import CheckpointError, FairseqCheckpoint, as_fairseq
from speechprompt.lm import load_lm
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.pgslm import PGSLM
from speechprompt.lm.pgslm_streams import Streams
from speechprompt.lm.unit_mbart import UnitMBart
from speechprompt.vocab import MBartVocab, UnitVocab
from tests.speechprompt.plain_fairseq import Plain, random_side
from units.errors import InputError

D, HEADS, FFN, N_LAYERS, N_UNITS, LONGEST = 12, 3, 20, 2, 6, 24
CLOSE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4, "check_dtype": False}
POST_NORM = {"decoder_normalize_before": False}
LM_CASES = [
    {},
    POST_NORM,
    {"no_decoder_final_norm": True},
    {"decoder_learned_pos": True, "share_decoder_input_output_embed": False, "no_scale_embedding": True},
    {"no_token_positional_embeddings": True, "activation_fn": "gelu"},
    {"activation_fn": "gelu_accurate", **POST_NORM, "decoder_learned_pos": True},
    {"activation_fn": "relu_squared"},
    {"activation_fn": "tanh"},
    {"activation_fn": "linear"},
]


def sizes(side: str) -> dict[str, Any]:
    names = {"embed_dim": D, "ffn_embed_dim": FFN, "attention_heads": HEADS, "layers": N_LAYERS}
    return {f"{side}_{name}": size for name, size in names.items()}


def language_model(folder: Path, changed: dict[str, Any]) -> tuple[FairseqCheckpoint, dict[str, Any]]:
    """A random `transformer_lm` with its dict.txt, in order of frequency."""
    options = (
        sizes("decoder") | {"share_decoder_input_output_embed": True, "tokens_per_sample": LONGEST} | changed
    )
    generator = torch.Generator().manual_seed(0)
    tensors = random_side("decoder", options, generator)
    tensors["decoder.version"] = torch.tensor([3.0])
    tensors["decoder.embed_tokens.weight"] = 0.3 * torch.randn(4 + N_UNITS, D, generator=generator)
    if options.get("decoder_learned_pos"):
        tensors["decoder.embed_positions.weight"] = torch.randn(LONGEST + 2, D, generator=generator)
    output = tensors["decoder.embed_tokens.weight"]
    if not options["share_decoder_input_output_embed"]:
        output = torch.randn(4 + N_UNITS, D, generator=generator)
    tensors["decoder.output_projection.weight"] = output
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dict.txt").write_text("".join(f"{unit} 1\n" for unit in (3, 1, 0, 5, 2, 4)))
    return FairseqCheckpoint(folder / "c.pt", tensors, {"model": options, "task": {}}), options


def converted(checkpoint: FairseqCheckpoint, to: Path) -> GSLM:
    gslm.convert(checkpoint, to)
    lm = load_lm(to)
    assert isinstance(lm, GSLM)
    return lm


@pytest.mark.parametrize("changed", LM_CASES, ids=str)
@torch.no_grad()
def test_language_models_of_every_option(changed: dict[str, Any], tmp_path: Path) -> None:
    checkpoint, options = language_model(tmp_path, changed)
    lm = converted(checkpoint, tmp_path / "lm")
    rows = [torch.tensor([2, 4, 9, 5, 5, 7]), torch.tensor([2, 8, 6])]
    plain = Plain(checkpoint.model, "decoder", options)
    ids_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)
    got_BTV = lm.logits(lm(lm.embed(ids_BT)))
    cache = lm.new_cache(1, len(rows[0]))
    for index, ids in enumerate(rows):
        hidden = plain.run(plain.embed(ids) + plain.positions(len(ids)))
        expected = hidden @ plain.tensors["decoder.output_projection.weight"].T
        torch.testing.assert_close(got_BTV[index, : len(ids)], expected, **CLOSE)
        if index == 0:
            for place, token in enumerate(ids):
                x_BTD = lm.embed(token[None, None], n_before_B=torch.tensor([place]))
                torch.testing.assert_close(lm.logits(lm(x_BTD, cache=cache))[0, 0], expected[place], **CLOSE)
            read_BR = torch.tensor([[1, 4]])
            few = lm(lm.embed(ids[None]), read_positions=read_BR)
            torch.testing.assert_close(lm.logits(few)[0], expected[read_BR[0]], **CLOSE)


@torch.no_grad()
def test_deep_prompts_of_a_post_norm_model_stand_for_inputs_of_the_projections(tmp_path: Path) -> None:
    """Keys and values of the prompt are k_proj and v_proj of its vectors, wherever the norms are."""
    checkpoint, options = language_model(tmp_path, POST_NORM)
    lm = converted(checkpoint, tmp_path / "lm")
    generator = torch.Generator().manual_seed(1)
    key_LPD, value_LPD = (torch.randn(N_LAYERS, 3, D, generator=generator) for _ in range(2))
    ids = torch.tensor([2, 4, 9, 5])
    got = lm(lm.embed(ids[None]), prefix=lm.prefix(key_LPD, value_LPD))[0]

    class Prompted(Plain):
        def attend(self, name: str, x: Tensor, memory: Tensor, *, causal: bool) -> Tensor:
            layer = int(name.split(".")[1])
            sides = [torch.cat([p[layer].double(), memory]) for p in (key_LPD, value_LPD)]
            query, key, value = (
                self.linear(f"{name}.{part}_proj", source).unflatten(1, (HEADS, -1)).transpose(0, 1)
                for part, source in zip("qkv", (x, *sides), strict=True)
            )
            scores = query @ key.transpose(1, 2) / (D // HEADS) ** 0.5
            scores[:, :, 3:] += torch.full((len(x), len(x)), -torch.inf).triu(1)
            return self.linear(f"{name}.out_proj", (scores.softmax(-1) @ value).transpose(0, 1).flatten(1))

    plain = Prompted(checkpoint.model, "decoder", options)
    torch.testing.assert_close(got, plain.run(plain.embed(ids) + plain.positions(4)), **CLOSE)


def oldest(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of fairseq's first year."""
    old = dict(tensors)
    for layer in range(N_LAYERS):
        root = f"decoder.layers.{layer}"
        for part in ("weight", "bias"):
            sides = [old.pop(f"{root}.self_attn.{side}_proj.{part}") for side in "qkv"]
            old[f"{root}.self_attn.in_proj_{part}"] = torch.cat(sides)
            for number, norm in ((0, "self_attn_layer_norm"), (2, "final_layer_norm")):
                old[f"{root}.layer_norms.{number}.{part}"] = old.pop(f"{root}.{norm}.{part}")
    old["decoder.embed_out"] = old.pop("decoder.output_projection.weight")
    return old | {"decoder.embed_positions.weights": torch.zeros(3, D)}


def test_names_of_the_first_files(tmp_path: Path) -> None:
    checkpoint, _ = language_model(tmp_path, {"share_decoder_input_output_embed": False})
    lm = converted(checkpoint, tmp_path / "lm")
    old = FairseqCheckpoint(checkpoint.path, oldest(checkpoint.model), checkpoint.config)
    again = converted(old, tmp_path / "again")
    for name, tensor in lm.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_an_architecture_s_own_activation_where_the_file_names_none(tmp_path: Path) -> None:
    checkpoint, _ = language_model(tmp_path, {"_name": "transformer_lm_gpt"})
    assert converted(checkpoint, tmp_path / "lm").config.activation == "gelu"


@pytest.mark.parametrize(
    ("changed", "tensor", "named"),
    [
        ({"adaptive_input": True}, None, "adaptive_input"),
        ({"adaptive_softmax_cutoff": "10,20"}, None, "adaptive_softmax_cutoff"),
        ({"character_embeddings": True}, None, "character_embeddings"),
        ({"layernorm_embedding": True}, None, "layernorm_embedding"),
        ({"scale_heads": True}, None, "scale_heads"),
        ({"base_layers": 1}, None, "base_layers"),
        ({"activation_fn": "swish"}, None, "activation_fn"),
        ({}, "decoder.project_in_dim.weight", "decoder_input_dim"),
        ({}, "decoder.project_out_dim.weight", "project_out_dim"),
        ({}, "decoder.layers.0.self_attn.c_attn", "c_attn"),
    ],
)
def test_options_that_ours_do_not_have_are_named(
    changed: dict[str, Any], tensor: str | None, named: str, tmp_path: Path
) -> None:
    checkpoint, _ = language_model(tmp_path, changed)
    if tensor is not None:
        checkpoint.model[tensor] = torch.zeros(D, D)
    with pytest.raises(CheckpointError, match=named) as caught:
        gslm.convert(checkpoint, tmp_path / "lm")
    assert "\n" not in str(caught.value) and not (tmp_path / "lm").exists()


@pytest.mark.parametrize(
    "changed",
    [
        POST_NORM,  # the reference's model is pre-norm all the same
        {"no_decoder_final_norm": True, "decoder_learned_pos": True},
        {"no_token_positional_embeddings": True, "activation_fn": "gelu", "no_scale_embedding": True},
    ],
    ids=str,
)
@torch.no_grad()
def test_multi_stream_models_of_every_option(changed: dict[str, Any], tmp_path: Path) -> None:
    options = sizes("decoder") | {"tokens_per_sample": LONGEST} | changed
    as_built = options | {"decoder_normalize_before": True}
    generator = torch.Generator().manual_seed(0)
    tensors = random_side("decoder", as_built, generator)
    channels = (N_UNITS + 4, 5 + 4, 1)
    shapes = {
        "embed_tokens": (channels[0], D),
        "embed_other_list.0": (channels[1], D),
        "project_out_dim": (20, D),
    }
    shapes["proj_other_list.1"] = (D, 1)
    if options.get("decoder_learned_pos"):
        shapes["embed_positions"] = (LONGEST + N_UNITS + 2, D)
    for name, shape in shapes.items():
        tensors[f"decoder.{name}.weight"] = torch.randn(shape, generator=generator)
    tensors["decoder.proj_other_list.1.bias"] = torch.randn(D, generator=generator)
    task = {"discrete_duration": True, "max_token_duration": 4, "stream_shifts": "1,1"}
    pgslm.convert(
        FairseqCheckpoint(tmp_path / "c.pt", tensors, {"model": options, "task": task}), tmp_path / "lm"
    )
    lm = load_lm(tmp_path / "lm")
    assert isinstance(lm, PGSLM) and lm.max_positions == LONGEST
    ids, durations = torch.tensor([N_UNITS, 3, 0, 5]), torch.tensor([0, 2, 4, 1])
    f0 = torch.tensor([0.0, 0.3, -1.2, 0.5])
    plain = Plain(tensors, "decoder", as_built, pad=N_UNITS + 1)
    embedded = plain.embed(ids) + plain.tensors["decoder.embed_other_list.0.weight"][durations]
    embedded = embedded + plain.linear("proj_other_list.1", f0[:, None].double())
    hidden = plain.run(embedded + plain.positions(4))
    expected = (hidden @ plain.tensors["decoder.project_out_dim.weight"].T).split(channels, dim=1)
    got = lm.read(Streams(ids[None], durations[None], f0[None]))
    for stream, wanted in zip((got.tokens, got.durations, got.f0), expected, strict=True):
        torch.testing.assert_close(stream[0], wanted, **CLOSE)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"share_all_embeddings": False, "layernorm_embedding": False, "no_scale_embedding": True},
        {"share_all_embeddings": False, "share_decoder_input_output_embed": True, "activation_fn": "relu"},
        {"encoder_normalize_before": False, "decoder_normalize_before": False},  # fairseq's bart_large
        {"encoder_learned_pos": False, "decoder_learned_pos": False, "no_decoder_final_norm": True},
        {"no_token_positional_embeddings": True, "encoder_learned_pos": False, "decoder_learned_pos": False},
        {"encoder_learned_pos": False, "encoder_normalize_before": False, "encoder_layers": 1},
    ],
    ids=str,
)
@torch.no_grad()
def test_encoder_decoders_of_every_option(changed: dict[str, Any], tmp_path: Path) -> None:
    options: dict[str, Any] = {
        **sizes("encoder"),
        **sizes("decoder"),
        **{"encoder_learned_pos": True, "decoder_learned_pos": True, "share_all_embeddings": True},
        **{"layernorm_embedding": True, "activation_fn": "gelu", "max_source_positions": LONGEST},
        **{"max_target_positions": LONGEST - 4, **changed},
    }
    generator = torch.Generator().manual_seed(0)
    n_tokens = 4 + N_UNITS + 2 + 1
    tables = [0.3 * torch.randn(n_tokens, D, generator=generator) for _ in range(3)]
    if options["share_all_embeddings"]:
        tables = tables[:1] * 3
    elif options.get("share_decoder_input_output_embed"):
        tables[2] = tables[1]
    tensors = {"decoder.output_projection.weight": tables[2]}
    for index, (side, longest) in enumerate((("encoder", LONGEST), ("decoder", LONGEST - 4))):
        tensors |= {f"{side}.embed_tokens.weight": tables[index], **random_side(side, options, generator)}
        if options[f"{side}_learned_pos"]:
            tensors[f"{side}.embed_positions.weight"] = torch.randn(longest + 2, D, generator=generator)
    dictionary = tmp_path / "dict.txt"
    dictionary.write_text("".join(f"{unit} 1\n" for unit in range(N_UNITS)))
    task = {"langs": "en,es", "add_lang_token": True}
    checkpoint = FairseqCheckpoint(tmp_path / "c.pt", tensors, {"model": options, "task": task})
    unit_mbart.convert(checkpoint, tmp_path / "lm", dictionary=dictionary)
    lm = load_lm(tmp_path / "lm")
    assert isinstance(lm, UnitMBart)
    assert (lm.config.encoder.max_positions, lm.config.decoder.max_positions) == (LONGEST, LONGEST - 4)
    source, target = torch.tensor([0, 5, 9, 4, 10, 2]), torch.tensor([2, 11, 6, 6])

    def embedded(plain: Plain, ids: Tensor) -> Tensor:
        x = plain.embed(ids) + plain.positions(len(ids))
        return plain.norm("layernorm_embedding", x) if options["layernorm_embedding"] else x

    encoder, decoder = (Plain(tensors, side, options) for side in ("encoder", "decoder"))
    memory = encoder.run(embedded(encoder, source))
    expected = decoder.run(embedded(decoder, target), memory) @ tables[2].double().T
    padded = torch.cat([source, torch.tensor([1, 1])])
    got = lm(torch.stack([padded, padded]), torch.stack([target, target]))
    torch.testing.assert_close(got, expected.expand(2, -1, -1), **CLOSE)


def test_settings_that_refer_to_others_are_looked_up() -> None:
    content = {
        "model": {},
        "cfg": {
            "model": {"tokens_per_sample": "${task.tokens_per_sample}", "normalize": "${task.nothing}"},
            "task": {"tokens_per_sample": "${common.length}", "data": "a/${b}"},
            "common": {"length": 30},
        },
    }
    config = as_fairseq(content, Path("x.pt")).config
    assert config["model"] == {"tokens_per_sample": 30, "normalize": None, "_name": None}
    assert config["task"] == {"tokens_per_sample": 30, "data": "a/${b}", "_name": None}
    content["cfg"]["common"]["length"] = "${task.tokens_per_sample}"
    assert as_fairseq(content, Path("x.pt")).config["model"]["tokens_per_sample"] is None


def test_a_dictionary_file_that_has_tags_and_mask_already(tmp_path: Path) -> None:
    vocab = MBartVocab(["0", "1", "[es]", "<mask>", "2"], ["en", "es"])
    assert vocab.symbols == ("0", "1", "[es]", "<mask>", "2", "[en]")
    assert (vocab.mask, vocab.language_id("es"), vocab.language_id("en")) == (7, 6, 9)
    assert vocab.unit_symbols == ("0", "1", "[es]", "<mask>", "2")


def test_lines_that_overwrite_others_keep_their_own_ids(tmp_path: Path) -> None:
    file = tmp_path / "dict.txt"
    file.write_text("3 10\n1 9\n3 4 #fairseq:overwrite\n<pad> 1 #fairseq:overwrite\nmadeupword0000 0\n")
    vocab = UnitVocab.from_dict_txt(file)
    assert (
        len(vocab) == 9
        and vocab.encode([3, 1]).tolist() == [6, 5]
        and vocab.decode([5, 6]).tolist() == [1, 3]
    )
    file.write_text("3 10\n3 4\n")
    with pytest.raises(InputError, match="repeated"):
        UnitVocab.from_dict_txt(file)


@pytest.mark.parametrize(("n_prefix", "n_infix"), [(0, 2), (3, 0), (2, 1)])
@torch.no_grad()
def test_input_prompts_of_every_length(n_prefix: int, n_infix: int, tmp_path: Path) -> None:
    """Rows before the sentence and before `<s>`, in half precision: neither scaled nor placed, shifting no position."""
    checkpoint, options = language_model(tmp_path, {})
    lm = converted(checkpoint, tmp_path / "lm").freeze()
    generator = torch.Generator().manual_seed(2)
    lengths = {PREFIX: n_prefix, INFIX: n_infix, SEPARATOR: 1}
    model = {name: torch.randn(length, D, generator=generator).half() for name, length in lengths.items()}
    imported = read_prompt(FairseqCheckpoint(tmp_path / "p.pt", model, {"model": {}, "task": {}}), lm)
    hidden_BSD, _ = imported.prompted(lm).hidden(torch.tensor([[2, 4, 9, 0, 5]]))
    plain = Plain(checkpoint.model, "decoder", options)
    prefix, infix, separator = (tensor.double() for tensor in model.values())
    tokens = plain.embed(torch.tensor([2, 4, 9, 0, 5]))
    tokens[3] = separator[0] * D**0.5
    tokens = tokens + plain.positions(5)
    rows = torch.cat([prefix, tokens[:3], infix, tokens[3:]])
    torch.testing.assert_close(hidden_BSD[0], plain.run(rows), **CLOSE)


def test_a_prompt_s_tensor_that_is_not_known_is_refused(tmp_path: Path) -> None:
    checkpoint, _ = language_model(tmp_path, {})
    lm = converted(checkpoint, tmp_path / "lm")
    model = {PREFIX: torch.zeros(2, D), SEPARATOR: torch.zeros(1, D), LINEAR: torch.zeros(7, 10)}
    model[LINEAR.replace("weight", "bias")] = torch.zeros(7)
    with pytest.raises(CheckpointError, match=r"prompt_linear_verbalizer\.bias"):
        read_prompt(FairseqCheckpoint(tmp_path / "p.pt", model, {"model": {}, "task": {}}), lm)
