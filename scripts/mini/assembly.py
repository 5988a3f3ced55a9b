"""The trained parts put together as stack folders: `mini`, and beside it `mini-prosody`, which hears by its encoder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from transformers import HubertModel, Wav2Vec2FeatureExtractor

from speechprompt.checkpoint import PROMPT_FILE
from speechprompt.run_record import RECORD_FILE, read_record
from speechprompt.stack_folder import write_stack_json
from units.quantizer import CodebookQuantizer
from units.types import UnitSpec
from vocoder.base import UnitVocoder

NAME, PROSODY_NAME = "mini", "mini-prosody"
INPAINTING = Path("prompts/inpainting")
_LEFT_OUT = shutil.ignore_patterns("resume.pt", "log.csv")


def assemble(
    build: Path, encoder: Path, codebook: Path, quantizer: CodebookQuantizer, vocoder: UnitVocoder, out: Path
) -> None:
    """Put the parts of `mini` together, weights in float16, in a stack folder that replaces `out`."""
    scratch = build / "stack"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    vocoder.save(scratch / "vocoder", torch.float16)
    _save_half_encoder(encoder, quantizer.spec.layer, scratch / "encoder")
    shutil.copy(codebook, scratch)
    for name in ("lm", "unit_mbart"):
        shutil.copytree(build / name, scratch / name, ignore=_LEFT_OUT)
    _name_units(scratch / "lm", quantizer.spec)  # the others' trainings say it themselves
    _write(scratch, quantizer.spec, {})
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(scratch, out)


def add_inpainting_prompt(run: Path, spec: UnitSpec, out: Path) -> None:
    """Let a trained prompt come with the stack `out`; where it was trained and on which files stays here."""
    folder = out / INPAINTING
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(run / PROMPT_FILE, folder)
    record = replace(read_record(run), stack=NAME, data=None)
    (folder / RECORD_FILE).write_text(json.dumps(record.to_dict(), indent=1) + "\n")
    _write(out, spec, {"inpainting": INPAINTING.as_posix()})


def assemble_prosodic(build: Path, vocoder: UnitVocoder, out: Path) -> None:
    """Write the stack whose language model is the pGSLM, beside `mini`, by whose encoder and codebook it hears.

    vocoder: reads the F0 that the pGSLM says.
    """
    spec = vocoder.spec
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(build / "pgslm", out / "lm", ignore=_LEFT_OUT)
    vocoder.save(out / "vocoder", torch.float16)
    write_stack_json(
        out,
        name=PROSODY_NAME,
        spec=spec,
        encoder={"family": "hubert", "folder": f"../{NAME}/encoder", "layer": spec.layer},
        codebook=f"../{NAME}/codebook.safetensors",
        lm={"family": "pgslm", "folder": "lm"},
        vocoder={"folder": "vocoder"},
    )


def _write(folder: Path, spec: UnitSpec, prompts: dict[str, str]) -> None:
    seq2seq = {"family": "unit_mbart", "folder": "unit_mbart", "deduplicate": True, "mask_each": True}
    write_stack_json(
        folder,
        name=NAME,
        spec=spec,
        encoder={"family": "hubert", "folder": "encoder", "layer": spec.layer},
        lm={"family": "gslm", "folder": "lm"},
        vocoder={"folder": "vocoder"},
        deduplicate=False,
        seq2seq={**seq2seq, "prompts": prompts} if prompts else seq2seq,
    )


def _name_units(model: Path, spec: UnitSpec) -> None:
    """Say in a model's config.json whose units it knows: it is then refused with others."""
    config = json.loads((model / "config.json").read_text())
    config["spec"] = spec.to_dict()
    (model / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def _save_half_encoder(folder: Path, layer: int, out: Path) -> None:
    """The encoder's layers up to ``layer``, in float16, as a transformers folder."""
    model = HubertModel.from_pretrained(folder)
    model.encoder.layers = model.encoder.layers[:layer]
    model.config.num_hidden_layers = layer
    model.half().save_pretrained(out)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(out)
