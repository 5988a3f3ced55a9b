"""A fairseq mBART over units to our model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechprompt.convert.base import Converted
from speechprompt.convert.fairseq_transformer import (
    DECODER_OPTIONS,
    ignore_copy,
    ignore_marks,
    norms,
    positions,
    take_all,
    transformer_config,
    transformer_tensors,
)
from speechprompt.fairseq import CheckpointError, FairseqCheckpoint, UsedTensors
from speechprompt.lm.folder import fill
from speechprompt.lm.mbart_config import MBartConfig
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.lm.unit_mbart import DECODER_EMBEDDING, ENCODER_EMBEDDING, OUTPUT, UnitMBart
from speechprompt.vocab import MBartVocab, UnitVocab
from units.weightless import weightless

FAIRSEQ_OUTPUT = "decoder.output_projection.weight"


def convert(
    checkpoint: FairseqCheckpoint,
    to: str | Path,
    *,
    dictionary: str | Path,
    languages: tuple[str, ...] | None = None,
) -> Converted:
    """Write config.json and model.safetensors.

    Args:
        checkpoint: of a denoising or translation task with fairseq's `bart` models.
        to: the folder.
        dictionary: the published dict.txt, which lists the units only.
        languages: in the order of training; None reads them from the checkpoint.
    Raises: InputError for another kind of model, or a dictionary that is not its own.
    """
    options, task = checkpoint.config["model"], checkpoint.config["task"]
    used = transformer_tensors(checkpoint, options, DECODER_OPTIONS)
    n_rows, _ = used.shape(ENCODER_EMBEDDING)
    vocab = MBartVocab(
        UnitVocab.from_dict_txt(dictionary).symbols, _languages(task) if languages is None else languages
    )
    if len(vocab) != n_rows:
        raise CheckpointError(
            f"{dictionary}: expected a dictionary that makes {n_rows} symbols with 4 special ones, "
            f"{len(vocab.languages)} languages and <mask>, got {len(vocab)}; use the dictionary of this checkpoint"
        )
    config = _config(options, used, vocab, checkpoint.path)
    with weightless():
        model = UnitMBart(config, vocab)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    names = {OUTPUT: FAIRSEQ_OUTPUT}
    if config.share_embedding:
        names[DECODER_EMBEDDING] = ENCODER_EMBEDDING
    weights = take_all(used, shapes, names)
    for side in ("encoder", "decoder"):
        ignore_marks(used, side)
    if config.share_embedding:
        ignore_copy(used, DECODER_EMBEDDING, ENCODER_EMBEDDING)
    if config.decoder.tied:
        ignore_copy(used, FAIRSEQ_OUTPUT, names.get(DECODER_EMBEDDING, DECODER_EMBEDDING))
    ignored = used.finish()
    fill(model, weights, checkpoint.path)
    model.save(to)
    dimensions = {**config.to_dict(), "languages": list(vocab.languages)}
    return Converted(model.family, Path(to), dimensions, model.n_parameters(), len(vocab), ignored=ignored)


def _languages(task: Mapping[str, Any]) -> tuple[str, ...]:
    """The languages whose tags the task appended to its dictionary. Raises: CheckpointError where they are unknown."""
    listed = task.get("langs")
    if isinstance(listed, str):
        listed = listed.split(",")
    if not task.get("add_lang_token", bool(listed)):
        return ()
    if not listed:
        raise CheckpointError(
            "languages: expected their names in the checkpoint, got none; name them in the order of training with "
            "--languages"
        )
    return tuple(str(language) for language in listed)


def _config(options: Mapping[str, Any], used: UsedTensors, vocab: MBartVocab, path: Path) -> MBartConfig:
    shared = bool(options.get("share_all_embeddings", False))

    def side(name: str) -> TransformerConfig:
        kind, longest = positions(used, options, name, vocab.pad)
        return replace(
            transformer_config(options, name, longest, path),
            positions=kind,
            tied=shared or bool(options.get("share_decoder_input_output_embed", False)),
            scale_embedding=not options.get("no_scale_embedding", False),
            **norms(used, options, name),
        )

    return MBartConfig(
        side("encoder"),
        side("decoder"),
        norm_embedding=bool(options.get("layernorm_embedding", False)),
        share_embedding=shared,
    )
