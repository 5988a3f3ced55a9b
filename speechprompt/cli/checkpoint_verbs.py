"""Verbs about other people's files: convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechprompt.cli.boundary import emit
from speechprompt.cli.options import Json

if TYPE_CHECKING:
    from speechprompt.convert.base import Converted
    from units.store import UnitStore


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Published file, or a run folder.")
    ],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make; a file for a run folder.")],
    dictionary: Annotated[
        Path | None, typer.Option(metavar="TXT", help="dict.txt of a language model, if not beside it.")
    ] = None,
    languages: Annotated[
        str | None, typer.Option(metavar="A,B", help="Of a unit mBART, in training order, if it names none.")
    ] = None,
    data_config: Annotated[
        Path | None, typer.Option(metavar="JSON", help="pGSLM's data_config.json, if not beside it.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="JSON", help="A vocoder's config.json, if not beside it.")
    ] = None,
    verbalizer: Annotated[
        Path | None, typer.Option(metavar="JSON", help="A prompt's table of labels, if not beside it.")
    ] = None,
    stack: Annotated[
        str | None, typer.Option(metavar="NAME", help="What a prompt was trained on.", show_default=False)
    ] = None,
    codebook: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Converted codebook: the units the model speaks.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="What a k-means model was fitted on.")
    ] = None,
    layer: Annotated[int | None, typer.Option(min=0, help="Its layer, from 1 on.")] = None,
    frame_rate: Annotated[float, typer.Option(metavar="HZ", help="Its frames per second.")] = 50.0,
    units: Annotated[
        Path | None, typer.Option(metavar="STORE", help="Unit store to measure a language model on.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert a published checkpoint into safetensors and JSON; nothing in the file is run.

    Finds out the kind: GSLM, pGSLM, unit mBART, HuBERT, wav2vec 2.0, CPC, km.bin, unit HiFi-GAN, SpeechPrompt's
    prompts. A run folder becomes a checkpoint of SpeechPrompt v2.

    Example: speechprompt convert hubert100_lm/checkpoint_best.pt --to gslm-hubert100
    """
    from speechprompt.convert.detect import ConvertOptions, convert_file
    from units.store import UnitStore

    store = None if units is None else UnitStore(units)  # before the work: it may not be there
    options = ConvertOptions(
        dictionary=dictionary,
        languages=None if languages is None else tuple(languages.split(",")),
        data_config=data_config,
        config=config,
        verbalizer=verbalizer,
        stack=stack,
        codebook=codebook,
        encoder=encoder,
        layer=layer,
        frame_rate=frame_rate,
    )
    converted = convert_file(checkpoint, to, options)
    measured = None if store is None else _perplexities(converted, store)
    result = converted.to_dict() | ({} if measured is None else {"perplexity": measured})
    emit(result, _report(converted, measured), as_json=as_json)


def _report(converted: Converted, measured: dict[str, Any] | None) -> str:
    dimensions = ", ".join(f"{name} {value}" for name, value in converted.dimensions.items())
    lines = [
        f"{converted.to}: {converted.kind}, {converted.n_parameters:,} parameters",
        f"dimensions  {dimensions}",
    ]
    if converted.dictionary_size is not None:
        lines.append(f"dictionary  {converted.dictionary_size} tokens")
    spec = "not in the file; give --codebook to note it" if converted.spec is None else str(converted.spec)
    lines.append(f"units       {spec}")
    lines += [f"ignored     {name}: {reason}" for name, reason in converted.ignored.items()]
    if measured is not None:
        ratio = measured["lm"] / measured["unigram"]
        verdict = (
            "as it should be" if ratio < 1 else "NOT BETTER: is it loaded with its own dictionary and units?"
        )
        lines.append(
            f"perplexity  {measured['lm']:.2f}, unit frequencies alone {measured['unigram']:.2f} on "
            f"{measured['n_sequences']} sequences: {verdict}"
        )
    return "\n".join(lines)


def _perplexities(converted: Converted, store: UnitStore) -> dict[str, Any]:
    """The converted language model's perplexity on a unit store, and that of the store's own unit frequencies."""
    from speechprompt.lm import load_lm
    from speechprompt.lm.base import UnitLM
    from speechprompt.perplexity import perplexity, unigram_perplexity
    from units.errors import InputError, UnitSpecMismatch

    lm = None if converted.dictionary_size is None else load_lm(converted.to)
    if not isinstance(lm, UnitLM):
        raise InputError(
            f"--units: expected a language model without an encoder to measure, got {converted.kind}, which was "
            f"converted to {converted.to}; leave --units out"
        )
    if store.spec.n_units != lm.vocab.n_units:
        raise UnitSpecMismatch(
            f"{store.folder}: expected units of a codebook of {lm.vocab.n_units}, as the language model has, got "
            f"{store.spec.n_units}; quantize with the model's own codebook"
        )
    sequences = [row.units for row in store.rows()]
    return {
        "lm": perplexity(lm, sequences),
        "unigram": unigram_perplexity(sequences, sequences, lm.vocab, lm.max_positions),
        "n_sequences": len(sequences),
    }
