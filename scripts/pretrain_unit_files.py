"""Train a unit LM on unit files (tasks and running speech, labels unused), and make a stack of it that takes units.

    python -m scripts.pretrain_unit_files --units DATA/units/hubert100 --out stacks/hubert100

For the tables on published units (docs/results.md): their licence lets them be used for research, not passed on, so
the LM does not ship. Of rows that occur several times one is kept, and runs of one unit become one unit. Killed at any
time, the same command continues.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from speechprompt.cli.pretrain_verb import Optimizer
from speechprompt.lm.transformer import TransformerConfig
from speechprompt.pretrain import PretrainConfig, pretrain_lm
from speechprompt.stack_folder import write_stack_json
from speechprompt.vocab import UnitVocab
from tasks.unit_files import read_unit_file, unit_file
from units.errors import InputError
from units.types import UnitSequence, UnitSpec

# The published inventories, by the folder's name. The files do not say which codebook made them.
SPECS = {
    "hubert100": UnitSpec("hubert-base-ls960", 6, 100, 50.0, "unit-files"),
    "cpc100": UnitSpec("cpc-big-ll6k", 2, 100, 100.0, "unit-files"),
}
TRAIN = (
    ("ks", "train"),
    ("ic", "train"),
    ("lj", "valid"),
    ("lj", "test"),
    ("vctk", "valid"),
    ("vctk", "test"),
)
VALID = (("ks", "valid", 1_200), ("ic", "valid", 800))  # of each the first so many different rows


def different_rows(folder: Path, name: str, split: str, spec: UnitSpec) -> list[np.ndarray]:
    """Deduplicated rows (T,) int64 of two units or more, each once, in the file's order."""
    rows: dict[bytes, np.ndarray] = {}
    for utterance in read_unit_file(unit_file(folder, name, split)):
        assert utterance.units is not None  # a unit file holds nothing else
        units = UnitSequence(utterance.units, spec).deduplicate().units
        if len(units) > 1:
            rows.setdefault(units.tobytes(), units)
    return list(rows.values())


def joined(parts: Iterable[list[np.ndarray]]) -> list[np.ndarray]:
    """Rows of all parts, each once."""
    return list({row.tobytes(): row for part in parts for row in part}.values())


def main(
    units: Annotated[Path, typer.Option(help="Folder of unit files, named hubert100 or cpc100.")],
    out: Annotated[Path, typer.Option(help="Stack folder to make.")],
    steps: Annotated[int, typer.Option(help="Optimizer steps of 4,096 tokens.")] = 3_000,
    layers: Annotated[int, typer.Option(help="Transformer layers.")] = 6,
    width: Annotated[int, typer.Option(help="Model dimension, a multiple of 64.")] = 256,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    optimizer: Annotated[Optimizer, typer.Option(help="See `speechprompt pretrain`.")] = Optimizer.ADAMW,
) -> None:
    """Train the LM and write the stack."""
    if units.name not in SPECS:
        raise InputError(f"{units}: expected a folder named {' or '.join(SPECS)}; give that one")
    spec = SPECS[units.name]
    train = joined(different_rows(units, *part, spec) for part in TRAIN)
    valid = joined(different_rows(units, name, split, spec)[:n] for name, split, n in VALID)
    typer.echo(f"{len(train):,} rows, {sum(map(len, train)):,} units; {len(valid):,} to check on")
    config = PretrainConfig(
        steps=steps,
        batch_tokens=4_096,
        lr=2e-3,
        warmup_steps=200,
        check_every=100,
        bf16=True,
        p_drop=0.03,
        p_replace=0.02,
        seed=seed,
        optimizer=optimizer.value,
    )
    transformer = TransformerConfig(
        n_layers=layers, d_model=width, n_heads=width // 64, d_ffn=4 * width, dropout=0.1
    )
    result = pretrain_lm(
        transformer, UnitVocab.from_n_units(spec.n_units), train, out / "lm", config, valid=valid
    )
    write_stack_json(
        out,
        name=f"units-{units.name}",
        spec=spec,
        encoder=None,
        codebook=None,
        lm={"family": "gslm", "folder": "lm"},
        vocoder=None,
    )
    typer.echo(
        f"{out}: perplexity {result.perplexity:.3f}, of a unigram model {result.unigram_perplexity:.2f}"
    )


if __name__ == "__main__":
    typer.run(main)
