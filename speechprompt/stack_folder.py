"""The folder of a stack: what its `stack.json` says, checked when read, and written whole or not at all.

    {"name": "mini", "spec": {UnitSpec}, "deduplicate": true,
     "encoder": {"family": "hubert", "folder": "encoder", "layer": 4},
     "codebook": "codebook.safetensors",
     "lm": {"family": "gslm", "folder": "lm"},
     "vocoder": {"folder": "vocoder"}}

Folders are relative to it. Encoder and LM may name a `source` (a hub name or an absolute folder) in place of `folder`;
the family `logmel` has no weights and takes its settings from `settings`. `vocoder` may be null; so may `encoder` and
`codebook`, together, of a stack that takes units only. `deduplicate` is true where it is left out. A vocoder that reads
F0 may have an entry `prosody`, how F0 is scaled for it (`lm.prosody.ProsodyConfig`), which is otherwise the pGSLM's.

There may be an encoder-decoder beside the LM, which inpainting uses, with folders of prompts trained for it:

    "seq2seq": {"family": "unit_mbart", "folder": "unit_mbart", "prompts": {"inpainting": "prompts/inpainting"}}

It reads units as the LM does unless it has an entry `deduplicate` of its own. `"mask_each": true` says that it was
trained with a mask for every missing unit (`pretrain --mask-each`), not with one for a whole span.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechprompt.lm import FAMILIES
from speechprompt.named_stacks import RECIPES, prepare
from speechprompt.stack import ASSETS, Stack, StackError
from units.atomic import atomic_path
from units.kmeans import load_codebook
from units.types import UnitSpec

ENCODER_FAMILIES = ("hubert", "cpc", "logmel")
PRECISIONS = ("float32", "bf16")


def stack_names() -> list[str]:
    """List the stacks that ship with the package."""
    return sorted(file.parent.name for file in ASSETS.glob("*/stack.json"))


def load_stack(
    name_or_path: str | Path = "mini", device: str = "cpu", *, precision: str = "float32"
) -> Stack:
    """Open a stack by its name or by its folder.

    A name is that of a stack that ships with the package ("mini"), or of one made of official files ("gslm-hubert100",
    see `named_stacks.RECIPES`), whose missing files are fetched and converted, once.
    Of a folder, only stack.json and the headers beside it are read; parts are loaded when they are first used.
    precision: of the products in encoder, language model and vocoder: "float32", or "bf16", whose results differ in the
    third digit, and by one unit of a thousand; its language model takes half the memory.
    Raises FetchError: an official file cannot be had; StackError: no such stack, no readable stack.json, a missing
    part, an unknown precision; UnitSpecMismatch: a codebook, LM or vocoder of another unit inventory.
    """
    if precision not in PRECISIONS:
        raise StackError(
            f"precision: expected {' or '.join(PRECISIONS)}, got {precision!r}; name one of them"
        )
    folder = Path(name_or_path)
    if str(name_or_path) in stack_names():
        folder = ASSETS / name_or_path
    elif str(name_or_path) in RECIPES and not folder.exists():
        folder = prepare(str(name_or_path))
    file = folder / "stack.json"
    if not file.is_file():
        raise StackError(
            f"{name_or_path}: expected the name of a stack ({', '.join([*stack_names(), *RECIPES])}) or a "
            f"folder with stack.json, got {'a folder without it' if folder.is_dir() else 'neither'}; check the name"
        )
    stack = replace(_parse(file, device), precision=precision)
    for part, path in _part_paths(stack).items():
        if not path.exists():
            raise StackError(
                f"{file}: expected the {part} at {path}, got nothing there; copy the stack again"
            )
    if stack.codebook is not None:
        _, codebook_spec = load_codebook(folder / stack.codebook)
        stack.spec.require_equal(codebook_spec, str(file), str(folder / stack.codebook))
    for entry in (stack.lm_part, stack.vocoder_part, stack.seq2seq_part):
        if entry is not None and "folder" in entry:
            _check_part_spec(stack, folder / entry["folder"] / "config.json")
    return stack


def write_stack_json(
    folder: str | Path,
    *,
    name: str,
    spec: UnitSpec,
    encoder: Mapping[str, Any] | None,
    codebook: str | None = "codebook.safetensors",
    lm: Mapping[str, Any],
    vocoder: Mapping[str, Any] | None,
    deduplicate: bool = True,
    seq2seq: Mapping[str, Any] | None = None,
) -> None:
    """Write `stack.json`, atomically, into a folder that holds the parts; the arguments are its entries."""
    content = {
        "name": name,
        "spec": spec.to_dict(),
        "deduplicate": deduplicate,
        "encoder": None if encoder is None else dict(encoder),
        "codebook": codebook,
        "lm": dict(lm),
        "vocoder": None if vocoder is None else dict(vocoder),
    }
    if seq2seq is not None:
        content["seq2seq"] = dict(seq2seq)
    with atomic_path(Path(folder) / "stack.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _parse(file: Path, device: str) -> Stack:
    """Read stack.json, checking every entry it must have."""
    content = _read_json(file)
    try:
        stack = Stack(
            name=str(content["name"]),
            folder=file.parent,
            spec=UnitSpec.from_dict(content["spec"]),
            encoder=None if content["encoder"] is None else dict(content["encoder"]),
            codebook=None if content["codebook"] is None else str(content["codebook"]),
            lm_part=dict(content["lm"]),
            vocoder_part=None if content.get("vocoder") is None else dict(content["vocoder"]),
            deduplicate=content.get("deduplicate", True),
            device=device,
            seq2seq_part=None if content.get("seq2seq") is None else dict(content["seq2seq"]),
        )
        encoder_family = None if stack.encoder is None else stack.encoder["family"]
        lm_family = stack.lm_part["family"]
        _part_paths(stack)
    except (KeyError, TypeError) as error:
        raise StackError(
            f"{file}: expected the entries name, spec, encoder, codebook, lm, vocoder, got trouble at {error}; "
            "write it with write_stack_json"
        ) from error
    if (stack.encoder is None) != (stack.codebook is None) or not isinstance(stack.deduplicate, bool):
        raise StackError(
            f"{file}: expected encoder and codebook both or neither, and deduplicate true or false, got "
            f"{stack.encoder}, {stack.codebook} and {stack.deduplicate}; write it with write_stack_json"
        )
    if stack.seq2seq_part is not None and stack.seq2seq_part.get("family") != "unit_mbart":
        raise StackError(
            f"{file}: expected a seq2seq of family unit_mbart, got {stack.seq2seq_part.get('family')!r}; mend the entry"
        )
    if encoder_family not in (*ENCODER_FAMILIES, None) or lm_family not in FAMILIES:
        raise StackError(
            f"{file}: expected an encoder of family {' or '.join(ENCODER_FAMILIES)} and an LM of family "
            f"{' or '.join(FAMILIES)}, got {encoder_family!r} and {lm_family!r}; convert the parts first"
        )
    return stack


def _part_paths(stack: Stack) -> dict[str, Path]:
    """Files and folders that stack.json names, by part."""
    paths = {}
    if stack.codebook is not None:
        paths["codebook"] = stack.folder / stack.codebook
    if "source" not in stack.lm_part:
        paths["lm"] = stack.folder / stack.lm_part["folder"]
    if stack.seq2seq_part is not None and "source" not in stack.seq2seq_part:
        paths["seq2seq"] = stack.folder / stack.seq2seq_part["folder"]
    if stack.vocoder_part is not None:
        paths["vocoder"] = stack.folder / stack.vocoder_part["folder"]
    if stack.encoder is not None and "folder" in stack.encoder:
        paths["encoder"] = stack.folder / stack.encoder["folder"]
    elif stack.encoder is not None and stack.encoder["family"] in ("hubert", "cpc"):
        stack.encoder["source"]  # looked up here: its absence is reported as that of other entries
    return paths


def _check_part_spec(stack: Stack, config: Path) -> None:
    """Compare a part's own record of its units, where it keeps one, with the stack's."""
    if not config.is_file():
        raise StackError(f"{config}: expected the part's settings, got no such file; copy the stack again")
    spec = _read_json(config).get("spec")
    if spec is not None:
        stack.spec.require_equal(UnitSpec.from_dict(spec), str(stack.folder / "stack.json"), str(config))


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StackError(f"{file}: expected JSON, got {error}; copy the stack again") from error
    if not isinstance(content, dict):
        raise StackError(
            f"{file}: expected a JSON object, got {type(content).__name__}; copy the stack again"
        )
    return content
